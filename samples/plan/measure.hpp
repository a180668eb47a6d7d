// SPDX-License-Identifier: Apache-2.0
// The numbers a plan is made from, measured: the link between two ranks with messages as long as an
// exchange's, the memory with the exchange itself, the step with random images.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <sys/resource.h>

#include "elastic/center_window.hpp"
#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/convnet.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/planner/job.hpp"
#include "elastic/role.hpp"
#include "elastic/shards.hpp"

namespace plan {

using Clock = std::chrono::steady_clock;
using Floats = elastic::device::Cpu::Buffer<float>;

inline double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}
inline double median(std::vector<double> of) {
  auto const middle = of.begin() + std::ptrdiff_t(of.size() / 2);
  std::nth_element(of.begin(), middle, of.end());
  return *middle;
}
/// The median of what f() returns, for about so many seconds, 5 times at least; the first is not counted.
template <class F>
double repeat(double seconds, F f) {
  f();
  std::vector<double> taken;
  for (auto const begin = Clock::now(); taken.size() < 5 || since(begin) < seconds;) taken.push_back(f());
  return median(std::move(taken));
}
template <class F>
double seconds_of(F f) {
  auto const begin = Clock::now();
  f();
  return since(begin);
}
/// Of processors, by all threads of this process so far.
inline double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  auto const in = [](timeval t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return in(used.ru_utime) + in(used.ru_stime);
}

/// Reads and writes more than caches hold, as the gradients of all processes do between two exchanges.
class Sweep {
 public:
  void operator()() {
    for (float& value : values_) value += 1;
  }

 private:
  std::vector<float> values_ = std::vector<float>(std::size_t(8) << 20);
};

/// What rank 0 does next, said by rank 1.
enum class Turn : std::uint64_t { ping, to_server, to_client, both, pass, end };
struct Word {
  Turn turn;
  std::uint64_t times;  ///< of both and pass
};

struct Measured {
  elastic::planner::Link link{};
  elastic::planner::Memory memory{};
  double to_server = 0, to_client = 0;  ///< bytes/s, nothing coming back
};

/// One of the two ranks between which the link is measured.
template <class Net>
class Meter {
 public:
  /// With vectors of `values` floats.
  Meter(Net& net, std::size_t values)
      : net_(net),
        other_(1 - net.rank()),
        device_(device(net)),
        shards_(elastic::Shards::of(values, sizeof(float))),
        in_(device_.allocate<float>(values)),
        out_(device_.allocate<float>(values)) {}

  static constexpr bool in_memory = elastic::shares_center<Net, elastic::device::Cpu>;

  /// Rank 0: does what the other one says until that has enough.
  void serve() {
    using elastic::CenterWindow;
    if constexpr (in_memory) {
      CenterWindow<Net, elastic::device::Cpu, float> window(net_, device_, out_.span(), 0);
      elastic::Welcome welcome{};
      window.announce(welcome);
      net_.send(elastic::read(elastic::as_bytes(welcome)), other_, answers);
      serve([&](std::uint64_t times) { pass(window, times); });
    } else {
      serve([](std::uint64_t) {});
    }
  }

  /// Rank 1: for about so many seconds each quantity.
  Measured measure(double seconds) {
    Measured m;
    double const bytes = double(shards_.size * sizeof(float));
    m.link.latency =
        repeat(seconds / 2, [&] { return seconds_of([&] {
                                    tell({Turn::ping, 0}), hear();
                                  }); }) / 2;
    auto const rate = [&](double taken) { return bytes / std::max(taken - 2 * m.link.latency, taken / 10); };
    m.to_server = rate(repeat(seconds, [&] { return push(); }));
    m.to_client = rate(repeat(seconds, [&] { return pull(); }));
    double const once = swap(5).seconds;
    Swaps const swaps = swap(std::max<std::uint64_t>(5, std::uint64_t(4 * seconds / once)));
    m.link.both_ways = bytes / std::max(swaps.seconds - m.link.latency, swaps.seconds / 10);
    m.link.cpu = swaps.cpu / (2 * bytes);
    m.link.one_way = std::min(m.to_server, m.to_client);
    if constexpr (in_memory) {
      elastic::Welcome welcome{};
      net_.receive(elastic::as_bytes(welcome), other_, answers);
      elastic::CenterWindow<Net, elastic::device::Cpu, float> window(net_, device_, welcome, shards_.size);
      double const vectors = 4 * bytes;
      double const one = repeat(seconds, [&] {
        sweep_();
        return seconds_of([&] { pass(window, 1); });
      });
      m.memory.alone = vectors / one;
      auto const times = std::max<std::uint64_t>(1, std::uint64_t(0.02 / one));
      double const two = repeat(seconds, [&] {
        tell({Turn::pass, times});
        double const mine = seconds_of([&] { pass(window, times); });
        hear();
        return mine / double(times);
      });
      m.memory.all = 2 * vectors / two;
    }
    tell({Turn::end, 0});
    hear();
    return m;
  }

 private:
  static constexpr int words = 1, shards_go = 2, answers = 3;
  using Ticket = decltype(std::declval<Net&>().start_send(elastic::Span<float const>(), 0, 0));
  using Arriving = decltype(std::declval<Net&>().start_receive(elastic::Span<float>(), 0, 0));

  static elastic::device::Cpu device([[maybe_unused]] Net& net) {
    if constexpr (requires { net.resident(); })
      return elastic::device::Cpu(net.resident());
    else
      return elastic::device::Cpu();
  }

  void tell(Word word) { net_.send(elastic::read(elastic::as_bytes(word)), other_, words); }
  Word hear() {
    Word word{};
    net_.receive(elastic::as_bytes(word), other_, words);
    return word;
  }
  template <class F>
  void for_shards(F f) {
    for (std::uint32_t k = 0; k < shards_.count(); ++k) f(shards_.first(k), shards_.length(k));
  }
  std::vector<Arriving> expect() {
    std::vector<Arriving> arriving;
    for_shards([&](std::size_t first, std::size_t n) {
      arriving.push_back(net_.start_receive(in_.span().part(first, n), other_, shards_go));
    });
    return arriving;
  }
  std::vector<Ticket> send() {
    std::vector<Ticket> leaving;
    for_shards([&](std::size_t first, std::size_t n) {
      leaving.push_back(net_.start_send(elastic::read(out_.span().part(first, n)), other_, shards_go));
    });
    return leaving;
  }
  template <class Tickets>
  static void wait(Tickets& tickets) {
    for (auto& ticket : tickets) ticket.wait();
  }

  // Both ends sweep first, and then tell each other that they are ready.
  double push() {
    begin(Turn::to_server);
    return seconds_of([&] {
      auto leaving = send();
      wait(leaving);
      hear();
    });
  }
  double pull() {
    auto arriving = expect();
    begin(Turn::to_client);
    return seconds_of([&] {
      tell({Turn::to_client, 0});
      wait(arriving);
    });
  }
  struct Swaps {
    double seconds;  ///< of one
    double cpu;      ///< of this process for one
  };
  /// One after another, as sums are: what congestion control makes of a pause for words is not theirs. Half of
  /// them are for it to settle. Ranks that do not start together take turns in waiting for each other, so that it is
  /// two of them one after the other whose time is the same.
  Swaps swap(std::uint64_t times) {
    tell({Turn::both, times});
    hear();
    Swaps const swaps = swap_now(times);
    hear();
    return swaps;
  }
  Swaps swap_now(std::uint64_t times) {
    std::vector<double> taken;
    double cpu = 0;
    while (taken.size() < times) {
      auto arriving = expect();
      sweep_();
      cpu -= processor_seconds();
      taken.push_back(seconds_of([&] {
        auto leaving = send();
        wait(arriving);
        wait(leaving);
      }));
      cpu += processor_seconds();
    }
    std::vector<double> two;
    for (std::size_t k = times / 2; k + 1 < times; ++k) two.push_back(taken[k] + taken[k + 1]);
    return {median(std::move(two)) / 2, cpu / double(times)};
  }
  void begin(Turn turn) {
    tell({turn, 0});
    sweep_();
    hear();
  }
  template <class Window>
  void pass(Window& window, std::uint64_t times) {
    for (; times > 0; --times)
      window.exchange(elastic::ops::Retract{1e-3}, elastic::ops::Add{}, in_.span(), elastic::Span<float>(),
                      1e4);
  }

  template <class Pass>
  void serve(Pass pass) {
    for (;;) {
      Word const word = hear();
      switch (word.turn) {
        case Turn::to_server: {
          auto arriving = expect();
          sweep_();
          tell(word);
          wait(arriving);
          break;
        }
        case Turn::to_client: {
          sweep_();
          tell(word);
          hear();
          auto leaving = send();
          wait(leaving);
          continue;
        }
        case Turn::both: {
          tell(word);
          swap_now(word.times);
          break;
        }
        case Turn::pass: pass(word.times); break;
        case Turn::ping: break;
        case Turn::end: tell(word); return;
      }
      tell(word);
    }
  }

  Net& net_;
  int other_;
  elastic::device::Cpu device_;
  elastic::Shards shards_;
  Floats in_, out_;
  Sweep sweep_;
};

/// Of this machine, with nobody else involved: an elastic delta over vectors of `values` floats, in one
/// thread and in `threads` at once.
inline elastic::planner::Memory measure_memory(std::size_t values, int threads, double seconds) {
  auto const rate = [&] {
    elastic::device::Cpu device;
    auto d = device.allocate<float>(values), x = device.allocate<float>(values),
         c = device.allocate<float>(values);
    Sweep sweep;
    return 3 * double(values * sizeof(float)) / repeat(seconds, [&] {
             sweep();
             return seconds_of(
                 [&] { device.for_each(elastic::ops::Stretch{0.5}, d.span(), x.span(), c.span()); });
           });
  };
  elastic::planner::Memory memory{rate(), 0};
  std::vector<double> each(std::size_t(std::max(1, threads)));
  {
    std::vector<std::jthread> crowd;
    for (double& one : each) crowd.emplace_back([&one, &rate] { one = rate(); });
  }
  for (double const one : each) memory.all += one;
  return memory;
}

struct Step {
  double seconds = 0;
  double spread = 0;  ///< a robust standard deviation
};

/// A gradient and a Nesterov step of the net on random images, in `threads` threads at once, one net each.
inline Step measure_step(elastic::model::Architecture const& architecture, int batch, int threads,
                         double seconds) {
  using elastic::optimizer::Sgd;
  std::vector<std::vector<double>> taken(static_cast<std::size_t>(threads));
  auto const work = [&](std::size_t which) {
    elastic::model::Convnet net(architecture, batch, which + 1);
    auto velocity = net.device().allocate<float>(net.parameters().size());
    Sgd const sgd{.learning_rate = 1e-4, .momentum = 0.9};
    elastic::optimizer::LocalStep<elastic::device::Cpu, float> step(net.device(), sgd, net.parameters(),
                                                                    velocity.span());
    auto const shape = architecture.input();
    elastic::model::Batch images{std::vector<float>(std::size_t(batch) * shape.size()),
                                 std::vector<int>(std::size_t(batch)),
                                 batch,
                                 shape.channels,
                                 shape.height,
                                 shape.width};
    std::mt19937 random(static_cast<unsigned>(which));
    std::normal_distribution<float> pixel;
    for (float& value : images.images) value = pixel(random);
    for (int& label : images.labels) label = int(random() % unsigned(architecture.classes()));
    auto const groups = net.groups();
    repeat(seconds, [&] {
      double const once = seconds_of([&] {
        step.look_ahead();
        net.gradient(images);
        for (auto const& group : groups) step.apply(net.gradients(), sgd.learning_rate, group);
      });
      taken[which].push_back(once);
      return once;
    });
  };
  {
    std::vector<std::jthread> crowd;
    for (std::size_t i = 0; i < taken.size(); ++i) crowd.emplace_back(work, i);
  }
  std::vector<double> all;
  for (auto const& of : taken) all.insert(all.end(), of.begin() + 1, of.end());  // the first one warms up
  std::sort(all.begin(), all.end());
  auto const at = [&](double share) { return all[std::size_t(share * double(all.size() - 1))]; };
  return {at(0.5), (at(0.75) - at(0.25)) / 1.349};
}

}  // namespace plan
