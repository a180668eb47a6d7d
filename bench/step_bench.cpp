// SPDX-License-Identifier: Apache-2.0
// A training step, gradient and plain SGD, of each net on each CPU backend at batch 128, GoogLeNet's 32, on one thread
// and two; images per second.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory_resource>
#include <random>
#include <string>

#include "elastic/model/eigen_net.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/ops.hpp"
#ifdef ELASTIC_HAS_ONEDNN
#include "elastic/model/onednn_net.hpp"
#endif

namespace {

using namespace elastic;

model::Batch random_batch(model::Architecture const& net, int count) {
  std::mt19937_64 engine(1);
  model::Shape const shape = net.input();
  model::Batch batch{{}, {}, count, shape.channels, shape.height, shape.width};
  for (std::size_t i = 0; i < shape.size() * static_cast<std::size_t>(count); ++i)
    batch.images.push_back(static_cast<float>(static_cast<std::int64_t>(engine() >> 40)) / 8388608.0f - 1.0f);
  for (int i = 0; i < count; ++i)
    batch.labels.push_back(static_cast<int>(engine() % static_cast<std::uint64_t>(net.classes())));
  return batch;
}

template <class Net>
void step(benchmark::State& state, model::Architecture const& architecture, int count, int threads) {
  Net net(architecture, count, 1, device::Cpu(*std::pmr::new_delete_resource(), threads));
  model::Batch const batch = random_batch(architecture, count);
  net.gradient(batch);  // the first step of a process waits for its memory
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(net.gradient(batch));
    net.device().for_each(ops::AddScaled{-0.01}, net.parameters(), read(net.gradients()));
  }
  state.counters["images/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * count, benchmark::Counter::kIsRate);
}

/// <net>/<backend>, with the number of threads behind the backend where it is not one.
template <class Net>
void add(std::string const& backend, int threads = 1) {
  auto const add_net = [&](std::string const& name, model::Architecture const& architecture,
                           int count = 128) {
    std::string const label = name + "/" + backend + (threads > 1 ? std::to_string(threads) : "");
    benchmark::RegisterBenchmark(label.c_str(), step<Net>, architecture, count, threads)
        ->Unit(benchmark::kMillisecond)
        ->MeasureProcessCPUTime()
        ->UseRealTime();
  };
  add_net("easgd_cifar", model::easgd_cifar());
  add_net("async_easgd_cifar", model::async_easgd_cifar());
  add_net("perceptron", model::perceptron());
  add_net("alexnet", model::alexnet());
  add_net("googlenet", model::googlenet(), 32);
}

}  // namespace

int main(int argc, char** argv) {
  add<model::EigenNet>("eigen");
#ifdef ELASTIC_HAS_ONEDNN
  add<model::OnednnNet>("onednn");
  add<model::OnednnNet>("onednn", 2);
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
