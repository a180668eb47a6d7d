// SPDX-License-Identifier: Apache-2.0
// What CudaNet computes, on the CPU: the same functors and the same arguments of the same products.
#include "elastic/model/device_net.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/device/thrust.hpp"
#include "elastic/model/detail/host_kit.hpp"
#include "elastic/model/eigen_net.hpp"
#include "elastic/model/nets.hpp"
#include "support/catch.hpp"
#include "support/net_checks.hpp"

using namespace elastic;

namespace {

using ThrustNet = model::DeviceNet<device::Thrust, model::detail::HostKit>;
static_assert(Trainable<ThrustNet>);

template <model::Precision precision>
struct RoundingNet : ThrustNet {
  RoundingNet(model::Architecture net, int max_batch, std::uint64_t seed)
      : ThrustNet(std::move(net), max_batch, seed, {}, {.precision = precision}) {}
};

}  // namespace

TEST_CASE("device net: losses and gradients equal the reference's", "[model]") {
  test::check_against_reference<ThrustNet>();
}
TEST_CASE("device net: so they do, less exactly, with rounded factors", "[model]") {
  test::check_against_reference<RoundingNet<model::Precision::tf32>>(5e-3);  // measured: 3e-3
  test::check_against_reference<RoundingNet<model::Precision::bf16>>(
      0.2);  // 0.16, where a ReLU's input has changed its sign
}
TEST_CASE("device net: seeds decide every bit", "[model]") { test::check_determinism<ThrustNet>(); }
TEST_CASE("device net: evaluation does not depend on the batch size", "[model]") {
  test::check_evaluation<ThrustNet>();
}
TEST_CASE("device net: batch-norm statistics are those of the data", "[model]") {
  test::check_calibration<ThrustNet>();
}
TEST_CASE("device net: batches that do not fit are refused", "[model]") { test::check_refusals<ThrustNet>(); }
TEST_CASE("device net: auxiliaries only train", "[model]") { test::check_auxiliaries<ThrustNet>(); }
TEST_CASE("device net: nets move", "[model]") { test::check_move<ThrustNet>(); }

TEST_CASE("device net: convolutions that go through little memory, an image or a few at a time", "[model]") {
  for (auto const precision : {model::Precision::float32, model::Precision::tf32}) {
    auto const architecture = model::easgd_cifar(3, 10, model::Init{});
    ThrustNet little(architecture, 9, 5, {}, {.precision = precision, .workspace = 2});
    ThrustNet much(architecture, 9, 5, {}, {.precision = precision, .workspace = 512});
    test::check_same(little, much, 9);
  }
}

TEST_CASE("device net: trains the samples' nets as Eigen's does", "[model]") {
  using model::EigenNet;
  SECTION("easgd_cifar") {
    test::check_same<ThrustNet, EigenNet>(model::easgd_cifar(3, 10, model::Init{}), 3);
  }
  SECTION("async_easgd_cifar") { test::check_same<ThrustNet, EigenNet>(model::async_easgd_cifar(), 2); }
  SECTION("perceptron") { test::check_same<ThrustNet, EigenNet>(model::perceptron(), 4); }
}

TEST_CASE("device net: a batch that is there already trains as one that is brought", "[model]") {
  test::check_loaded<ThrustNet>();
}

TEST_CASE("device net: options out of range are refused", "[model]") {
  CHECK_THROWS_AS(ThrustNet(model::perceptron(), 1, 1, {}, {.workspace = 0}), ConfigError);
}

TEST_CASE("bf16 and tf32 round to nearest, ties to even", "[model]") {
  using model::detail::Bf16, model::detail::tf32;
  auto const short_of = [](float x) { return static_cast<float>(Bf16(x)); };
  CHECK(short_of(1.00390625f) == 1.0f);  // 1 + 2^-8: halfway, to even
  CHECK(short_of(1.01171875f) == 1.015625f);
  CHECK(short_of(1.00390637f) == 1.0078125f);
  CHECK(short_of(-3.0f) == -3.0f);
  CHECK(short_of(std::numeric_limits<float>::infinity()) == std::numeric_limits<float>::infinity());
  CHECK(short_of(std::numeric_limits<float>::max()) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(short_of(std::numeric_limits<float>::quiet_NaN())));
  CHECK(tf32(1.00048828125f) == 1.0f);  // 1 + 2^-11
  CHECK(tf32(1.00146484375f) == 1.001953125f);
  CHECK(tf32(0.1f) == Approx(0.1f).epsilon(0.0005));
  CHECK(tf32(0.1f) != 0.1f);
}

TEST_CASE("products of row-major matrices ask for column-major ones", "[model]") {
  using model::detail::Matrices;
  test::Uniform uniform(4);
  constexpr std::size_t batch = 3, m = 4, n = 5, k = 6;
  std::vector<float> a(500), b(500), c(500, -7.0f);
  for (float& value : a) value = uniform();
  for (float& value : b) value = uniform();
  device::Thrust device;
  model::detail::HostKit const kit(device, {});
  for (bool const ta : {false, true}) {
    for (bool const tb : {false, true}) {
      std::size_t const row_a = (ta ? m : k) + 2, row_b = (tb ? k : n) + 3, row_c = n + 1;
      kit.multiply(model::detail::column_major<float>(
          batch, m, n, k, Matrices<float const>{a.data(), row_a, 71, ta},
          Matrices<float const>{b.data(), row_b, 83, tb}, Matrices<float>{c.data(), row_c, 97}));
      double worst = 0;
      for (std::size_t i = 0; i < batch; ++i)
        for (std::size_t row = 0; row < m; ++row)
          for (std::size_t column = 0; column < n; ++column) {
            double sum = 0;
            for (std::size_t j = 0; j < k; ++j)
              sum += double(a[i * 71 + (ta ? j * row_a + row : row * row_a + j)]) *
                     double(b[i * 83 + (tb ? column * row_b + j : j * row_b + column)]);
            worst = std::max(worst, std::abs(sum - double(c[i * 97 + row * row_c + column])));
          }
      CHECK(worst < 1e-5);
      CHECK(c[n] == -7.0f);  // between the rows
    }
  }
}
