// SPDX-License-Identifier: Apache-2.0
// transport::Nccl on real devices: one rank on one GPU, and as many ranks as there are GPUs, up to four.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "conformance/nccl.hpp"
#include "elastic/data/noise.hpp"
#include "elastic/device/cuda.cuh"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/nccl.hpp"
#include "elastic/transport/staged.hpp"
#include "support/catch.hpp"
#include "support/gpu.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using device::Cuda;
using transport::Threads;
using Net = transport::Nccl<Threads, Cuda>;
using Run = support::Launch<Threads>;

static_assert(Collective<Net> && PointToPoint<Net> && Reaches<Net, memory::Cuda>);

/// A vector's way to a device and back. The work before and after a collective is the device's own, so that a
/// collective that does not keep its place in the order is seen.
struct OnDevice {
  Cuda& device;
  template <class T, class F>
  std::vector<T> operator()(std::vector<T> const& values, F f) const {
    auto buffer = device.template allocate<T>(values.size());
    device.upload(Span<T const>(values), buffer.span());
    device.for_each(ops::Scale{0.5}, buffer.span());
    device.for_each(ops::Scale{2}, buffer.span());
    f(buffer.span());
    std::vector<T> home(values.size());
    device.download(read(buffer.span()), Span<T>(home));
    return home;
  }
};

void checks(int ranks) {
  auto const answers = Run::run(ranks, [ranks](Threads& threads) -> std::vector<double> {
    Cuda device(threads.rank());
    Net net(threads, device);
    OnDevice const on_device{device};
    double wrong = conformance::wrong_sums<float>(net, ranks, on_device);
    wrong += conformance::wrong_sums<double>(net, ranks, on_device);
    wrong += conformance::wrong_traffic(net, ranks, on_device);
    if (ranks > 1) {
      net.team(ranks - 1);
      if (net.rank() < ranks - 1) wrong += conformance::wrong_sums<float>(net, ranks - 1, on_device);
      net.team(ranks);
      wrong += conformance::wrong_sums<float>(net, ranks, on_device);
    }
    return {wrong};
  });
  for (auto const& answer : answers) CHECK(answer == std::vector<double>{0});
}

TEST_CASE("nccl on a GPU: one rank") { checks(1); }

TEST_CASE("nccl on GPUs: a rank each") {
  int const ranks = std::min(Cuda::count(), 4);
  if (ranks < 2) {
    std::printf("left out: sums between GPUs: this machine has %d\n", Cuda::count());
    return;
  }
  checks(ranks);
}

TEST_CASE("nccl on GPUs: a rank that does not come is a Timeout") {
  if (Cuda::count() < 2) {
    std::printf("left out: waiting for another GPU: this machine has %d\n", Cuda::count());
    return;
  }
  auto const answers = Run::run(
      2,
      [](Threads& threads) -> std::vector<double> {
        Cuda device(threads.rank());
        Net net(threads, device);
        auto x = device.allocate<float>(1000);
        net.all_reduce(x.span());
        std::vector<float> done(1);
        if (net.rank() == 1) {
          while (!net.probe()) {
          }
          net.receive(Span<float>(done), 0, 1);
          return {1};
        }
        double timed_out = 0;
        try {
          net.all_reduce(x.span());
        } catch (Timeout const&) {
          timed_out = 1;
        }
        net.send(read(Span<float>(done)), 1, 1);
        return {timed_out};
      },
      std::chrono::seconds(5));
  CHECK(answers == support::Answers{{1}, {1}});
}

TEST_CASE("nccl on a GPU: two ranks on one device are refused") {
  auto const answers = Run::run(2, [](Threads& threads) -> std::vector<double> {
    Cuda device(0);
    Net net(threads, device);
    auto x = device.allocate<float>(10);
    try {
      net.all_reduce(x.span());
    } catch (ConfigError const&) {
      return {1};
    }
    return {0};
  });
  CHECK(answers == support::Answers{{1}, {1}});
}

/// Rules that sum, on models whose optimum is 0, with everything that is no sum staged.
template <class Rule>
void trains(Rule rule, int ranks) {
  auto const answers = Run::run(ranks, [&](Threads& threads) -> std::vector<double> {
    Cuda device(threads.rank());
    transport::Staged staged(threads, device);
    transport::Nccl net(staged, device);
    model::Quadratic<float, Cuda> model(device, 10'000);
    data::Noise<> data(10'000, 0.01f, unsigned(net.rank()));
    std::vector<float> x(10'000, 5);
    device.upload(Span<float const>(x), model.parameters());
    Trainer trainer(net, rule, device);
    trainer.run(model, data, {.steps = 200, .sgd = {.learning_rate = 0.1}});
    device.download(read(model.parameters()), Span<float>(x));
    float largest = 0;
    for (float const v : x) largest = std::max(largest, std::abs(v));
    return {double(largest < 0.2f)};
  });
  for (auto const& answer : answers) CHECK(answer == std::vector<double>{1});
}

TEST_CASE("nccl on GPUs: rules that sum reach the optimum") {
  int const ranks = std::min(Cuda::count(), 4);
  trains(rule::Bsp{}, ranks);
  trains(rule::SyncEasgd{.period = 5}, ranks);
}

}  // namespace
