// SPDX-License-Identifier: Apache-2.0
// CudaNet against the same float64 reference as the nets on the CPU, in every precision and by both ways to convolve.
#include <cstdint>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/model/cuda_net.cuh"
#include "elastic/model/nets.hpp"
#include "support/gpu.hpp"
#include "support/net_checks.hpp"
#include "support/train_checks.hpp"

namespace {

using namespace elastic;
using model::CudaNet, model::CudaNetOptions, model::Precision, model::Use;
static_assert(Trainable<CudaNet>);

template <Precision precision, Use use_cudnn, bool graph = false>
struct Chosen : CudaNet {
  Chosen(model::Architecture net, int max_batch, std::uint64_t seed)
      : CudaNet(std::move(net), max_batch, seed, device::Cuda(),
                {.precision = precision, .use_cudnn = use_cudnn, .graph = graph}) {}
};
using Plain = Chosen<Precision::float32, Use::never>;
using ByCudnn = Chosen<Precision::float32, Use::automatic>;
using Recorded = Chosen<Precision::float32, Use::automatic, true>;

// Tolerances of docs/gpu-models.md: relative distance of each gradient vector.
constexpr double exact = 2e-5, tf32 = 1e-2, bf16 = 0.25;

TEST_CASE("cuda net: losses and gradients equal the reference's in float32") {
  SECTION("by cuBLAS") { test::check_against_reference<Plain>(exact); }
  SECTION("by cuDNN where it is") { test::check_against_reference<ByCudnn>(exact); }
  SECTION("recorded") { test::check_against_reference<Recorded>(exact); }
}
TEST_CASE("cuda net: so they do in TF32, less exactly") {
  SECTION("by cuBLAS") { test::check_against_reference<Chosen<Precision::tf32, Use::never>>(tf32); }
  SECTION("by cuDNN where it is") {
    test::check_against_reference<Chosen<Precision::tf32, Use::automatic>>(tf32);
  }
}
TEST_CASE("cuda net: so they do in bf16, roughly") {
  SECTION("by cuBLAS") { test::check_against_reference<Chosen<Precision::bf16, Use::never>>(bf16); }
  SECTION("by cuDNN where it is") {
    test::check_against_reference<Chosen<Precision::bf16, Use::automatic>>(bf16);
  }
}
TEST_CASE("cuda net: seeds decide every bit") {
  SECTION("by cuBLAS") { test::check_determinism<Plain>(); }
  SECTION("by cuDNN where it is") { test::check_determinism<ByCudnn>(); }
  SECTION("recorded") { test::check_determinism<Recorded>(); }
}
TEST_CASE("cuda net: evaluation does not depend on the batch size") {
  test::check_evaluation<Plain>();
  test::check_evaluation<ByCudnn>();
}
TEST_CASE("cuda net: batch-norm statistics are those of the data") { test::check_calibration<CudaNet>(); }
TEST_CASE("cuda net: batches that do not fit are refused") { test::check_refusals<CudaNet>(); }
TEST_CASE("cuda net: nets move") { test::check_move<CudaNet>(); }

TEST_CASE("cuda net: convolutions that go through little memory train as those that go through much") {
  auto const architecture = model::easgd_cifar(3, 10, model::Init{});
  CudaNet little(architecture, 9, 5, device::Cuda(), {.use_cudnn = Use::never, .workspace = 2});
  CudaNet much(architecture, 9, 5, device::Cuda(), {.workspace = 512});
  test::check_same(little, much, 9);
}

TEST_CASE("cuda net: a recorded step trains as one that is not") {
  auto const architecture = model::easgd_cifar(3, 10, model::Init{});
  auto const whole = test::random_batch(architecture.input(), 16, 10, 1);
  auto part = whole;
  part.count = 7;
  auto const train = [&](bool graph) {
    CudaNet net(architecture, 16, 3, device::Cuda(), {.graph = graph});
    std::vector<double> losses;
    for (int step = 0; step < 12; ++step) {  // each of four keys as it is, recorded, and replayed
      losses.push_back(net.gradient(step % 3 == 2 ? part : whole));
      net.device().for_each(ops::AddScaled{-0.01}, net.parameters(), read(net.gradients()));
      if (step == 6) losses.push_back(net.evaluate(part).loss());
    }
    auto const end = test::values_of(net, net.parameters());
    losses.insert(losses.end(), end.begin(), end.end());
    return losses;
  };
  CHECK(train(true) == train(false));
}

TEST_CASE("cuda net: a batch that is there already trains as one that is brought") {
  test::check_loaded<CudaNet>();
}

TEST_CASE("cuda net: a rule trains it") {
  for (auto const precision : {Precision::float32, Precision::tf32, Precision::bf16})
    test::check_trains<CudaNet>(device::Cuda(), {.precision = precision, .graph = true});
}

TEST_CASE("cuda net: AlexNet computes") {
  auto const architecture = model::alexnet();
  CudaNet net(architecture, 4, 1);
  CHECK(net.gradient(test::random_batch(architecture.input(), 4, 1000, 1)) > 0);
}

}  // namespace
