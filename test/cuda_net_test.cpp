// SPDX-License-Identifier: Apache-2.0
// CudaNet without a GPU: its calls of cuBLAS, cuDNN and CUDA graphs, answered by fakes of them. Their headers are the
// toolkit's own.
#include <cstdint>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/model/detail/cuda_kit.hpp"
#include "elastic/model/device_net.hpp"
#include "support/catch.hpp"
#include "support/fake_cuda_math.hpp"
#include "support/net_checks.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using model::CudaNetOptions, model::Precision, model::Use;
using FakeNet = model::DeviceNet<fake::Cuda, model::detail::CudaKit<fake::Cuda>>;
static_assert(Trainable<FakeNet> && model::detail::CudaKit<fake::Cuda>::has_cudnn);

template <Precision precision, Use use_cudnn, bool graph = false>
struct Chosen : FakeNet {
  Chosen(model::Architecture net, int max_batch, std::uint64_t seed)
      : FakeNet(std::move(net), max_batch, seed, fake::Cuda(),
                {.precision = precision, .use_cudnn = use_cudnn, .graph = graph, .workspace = 1}) {}
};

TEST_CASE("cuda net: what it asks of cuBLAS and cuDNN yields the reference's losses and gradients",
          "[model]") {
  test::check_against_reference<Chosen<Precision::float32, Use::never>>();
  test::check_against_reference<Chosen<Precision::float32, Use::automatic>>();
  test::check_against_reference<Chosen<Precision::tf32, Use::never>>(5e-3);
  test::check_against_reference<Chosen<Precision::tf32, Use::automatic>>(5e-3);
  test::check_against_reference<Chosen<Precision::bf16, Use::never>>(0.25);
  test::check_against_reference<Chosen<Precision::bf16, Use::automatic>>(0.25);
}
TEST_CASE("cuda net: batch-norm statistics are those of the data", "[model]") {
  test::check_calibration<FakeNet>();
}
TEST_CASE("cuda net: batches that do not fit are refused", "[model]") { test::check_refusals<FakeNet>(); }
TEST_CASE("cuda net: nets move", "[model]") { test::check_move<FakeNet>(); }
TEST_CASE("cuda net: loaded batches train as others", "[model]") { test::check_loaded<FakeNet>(); }

TEST_CASE("cuda net: a recorded step trains as one that is not, whatever runs between", "[model]") {
  for (test::Case const& each : test::small_nets()) {
    INFO(each.name);
    auto const whole = test::random_batch(each.net.input(), 6, each.net.classes(), 1);
    auto part = test::random_batch(each.net.input(), 4, each.net.classes(), 2);
    auto const train = [&](bool graph) {
      FakeNet net(each.net, 6, 3, fake::Cuda(), {.graph = graph, .workspace = 1});
      auto const loaded = net.load(part);
      std::vector<double> seen;
      for (int step = 0; step < 24; ++step) {
        seen.push_back(step % 3 == 2   ? net.gradient(part)
                       : step % 5 == 4 ? net.gradient(loaded)
                                       : net.gradient(whole));
        if (step % 4 == 3) net.calibrate(whole);
        if (step % 4 == 3) seen.push_back(net.evaluate(part).loss());
        net.device().for_each(ops::AddScaled{-0.05}, net.parameters(), read(net.gradients()));
      }
      auto const end = test::values_of(net, net.parameters());
      seen.insert(seen.end(), end.begin(), end.end());
      return seen;
    };
    fake::replays = 0;
    auto const recorded = train(true);
    CHECK(fake::replays > 20);
    CHECK(recorded == train(false));
  }
}

TEST_CASE("cuda net: what a library refuses is told with call, place and device", "[model]") {
  model::Architecture const architecture(
      {2, 5, 5}, {model::Conv{.channels = 3, .kernel = 3}, model::Linear{.outputs = 2}});
  std::vector const batches{test::random_batch(architecture.input(), 2, 2, 1),
                            test::random_batch(architecture.input(), 2, 2, 2)};
  for (bool const graph : {false, true}) {
    for (int const steps_before : {0, 1, 2, 3, 4, 5}) {
      FakeNet net(architecture, 2, 1, fake::Cuda(), {.graph = graph, .workspace = 1});
      auto const step = [&](int i) { return net.gradient(batches[std::size_t(i % 2)]); };
      for (int i = 0; i < steps_before; ++i) step(i);
      bool const replayed = graph && steps_before > 3;  // calls nobody
      fake::cublas_fails_in = 2;                        // on the way back
      if (!replayed)
        CHECK_THROWS_WITH(step(steps_before),
                          ContainsSubstring("cublasGemmEx at elastic/model/detail/cublas.hpp:") &&
                              ContainsSubstring("device 0") && ContainsSubstring("of a fake"));
      fake::cublas_fails_in = 0;
      fake::cudnn_fails_in = 1;
      if (!replayed)
        CHECK_THROWS_WITH(step(steps_before + 1),
                          ContainsSubstring("cudnnConvolutionForward at elastic/model/detail/cudnn.hpp:"));
      fake::cudnn_fails_in = 0;
      CHECK(fake::recorded == nullptr);
      FakeNet fresh(architecture, 2, 1, fake::Cuda(), {.workspace = 1});
      for (int i = 0; i < 8; ++i) {
        CHECK(step(i) == fresh.gradient(batches[std::size_t(i % 2)]));
        CHECK(test::values_of(net, net.gradients()) == test::values_of(fresh, fresh.gradients()));
      }
    }
  }
}

}  // namespace
