// SPDX-License-Identifier: Apache-2.0
// One diverged worker does not poison the center: what it sends is left out, and counted to its account.
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "elastic/transport/tcp.hpp"
#include "elastic/transport/threads.hpp"
#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using exact::numbers;
using exact::values;

/// A parabola around 0 whose gradient is `bad` from its tenth step on.
class Diverging {
 public:
  using scalar = float;
  using device_type = device::Cpu;
  using batch = std::vector<float>;
  Diverging(device::Cpu& device, std::size_t n, float bad)
      : device_(device), x_(device.allocate<float>(n)), g_(device.allocate<float>(n)), bad_(bad) {}
  device::Cpu& device() { return device_; }
  Span<float> parameters() { return x_.span(); }
  Span<float> gradients() { return g_.span(); }
  double gradient(batch const& noise) {
    for (std::size_t i = 0; i < noise.size(); ++i) gradients()[i] = parameters()[i] + noise[i];
    if (++steps_ >= 10 && bad_ != 0) gradients()[gradients().size() / 2] = bad_;
    return 0;
  }

 private:
  device::Cpu& device_;
  device::Cpu::Buffer<float> x_, g_;
  float bad_;
  int steps_ = 0;
};

/// Trains two workers, the second of which diverges.
template <class Net>
void check_diverged(float bad, std::size_t n) {
  std::map<int, long> refused;
  std::mutex mutex;
  Report server, good, diverged;
  for (auto const order : {rule::Order::jacobi, rule::Order::post_step}) {
    refused.clear();
    auto const answers = support::Launch<Net>::run(3, [&](Net& net) {
      device::Cpu cpu;
      Diverging model(cpu, n, net.rank() == 2 ? bad : 0);
      data::Noise<float> noise(n, .1f, unsigned(net.rank()));
      exact::set(model.parameters(), numbers<float>(n, 3));
      Trainer<Net, rule::AsyncEasgd, device::Cpu> trainer(net, {.alpha = .25, .period = 1, .order = order},
                                                          cpu);
      auto const report = trainer.run(model, noise, {.steps = 40, .sgd = {.learning_rate = .1}},
                                      [&](event::Refused const& e) { refused[e.worker] += long(e.pieces); });
      std::lock_guard const lock(mutex);
      (net.rank() == 0 ? server : net.rank() == 1 ? good : diverged) = report;
      return values(model.parameters());
    });
    CAPTURE(Net::name, bad, n, order == rule::Order::jacobi);
    for (int r : {0, 1})
      for (double x : answers[std::size_t(r)]) REQUIRE(std::abs(x) < 2);
    CHECK(refused.size() == 1);
    CHECK(refused[2] >= 29);
    CHECK(server.refused == std::uint64_t(refused[2]));
    CHECK(good.refused == 0);
    CHECK(server.exchanges == 80);  // refused or not
  }
}

}  // namespace

TEST_CASE("one diverged worker does not poison the center") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(),
                  infinite = std::numeric_limits<float>::infinity();
  for (float const bad : {nan, infinite, 1e7f})
    for (std::size_t const n : {std::size_t(100), std::size_t(200'000)}) {
      check_diverged<transport::Threads>(bad, n);  // the center is in shared memory
      check_diverged<transport::Tcp>(bad, n);      // at the server
    }
}
