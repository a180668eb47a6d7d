// SPDX-License-Identifier: Apache-2.0
// What is measured of a transport: its collectives, and every SyncRule x Device of the lists that the test matrix is
// made from; a combination that does not exist is a cell, too: its refusal.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "collectives.hpp"
#include "elastic/ops.hpp"
#include "rounds.hpp"
#include "support/combinations.hpp"

namespace bench {

template <class Net>
struct Cell {
  std::string name;
  std::function<Outcome(Net&, std::size_t bytes, long rounds)> measure{};  ///< on all ranks together
  bool sums = false;      ///< moves what an all-reduce moves: busbw = algbw 2 (p - 1) / p
  bool sized = true;      ///< there is one for every size
  std::string refusal{};  ///< why there is nothing to measure
};

template <class Net>
std::string place(std::string_view device) {
  return std::string("/").append(Net::name).append("/").append(device);
}

/// Calls body(net, device) with a transport that reaches the device.
template <class Net, class Dev, class Body>
Outcome on_device(Net& net, Body body) {
  if constexpr (elastic::Reaches<Net, typename Dev::memory>) {
    Dev device = device_near(net);
    return body(net, device);
  } else {
    Dev device;
    elastic::transport::Staged<Net, Dev> reaching(net, device);
    return body(reaching, device);
  }
}

// A step of a millisecond, an exchange in every tenth.
constexpr long step_period = 10;
constexpr double step_seconds = 1e-3;

/// The step of a training loop without any rule: a gradient and x <- x - eta g.
template <class Net, class Dev>
Outcome bare_steps(Net& net, Dev& device, std::size_t bytes, long rounds, std::function<void()> work) {
  std::size_t const n = bytes / sizeof(float);
  FreeModel<Dev> model(device, n, std::move(work), true);
  auto const start = filled(n, net.rank());
  device.upload(elastic::Span<float const>(start), model.parameters());
  device.upload(elastic::Span<float const>(start), model.gradients());
  return timed_calls(
      net, rounds, [] {},
      [&] {
        model.gradient(0);
        device.for_each(elastic::ops::AddScaled{0}, model.parameters(), elastic::read(model.gradients()));
        device.synchronize();
      },
      [&] { return host_copy(device, elastic::read(model.parameters())) == start; });
}

/// A step of a millisecond with a rule, which exchanges in every tenth if it has a period, and the same without.
template <class Net, class Rule, class Dev>
Outcome step(Net& net, Dev& device, std::size_t bytes, long rounds) {
  Work work = work_of(net, step_seconds);
  auto const gradient = [&] { work.run([] {}); };
  auto const bare = bare_steps(net, device, bytes, rounds, gradient);
  auto const rule = with_period<Rule>(step_period, net.size());
  Outcome out = together(net, run_rounds(net, rule, device, bytes, rounds, gradient, true), rounds);
  out.bare = bare.seconds;
  out.right = out.right && bare.right;
  return out;
}

template <class Net, class Rule, class Dev>
void add_rule(std::vector<Cell<Net>>& cells) {
  using namespace elastic;
  std::string const rule(Rule::name), here = place<Net>(Dev::name);
  if constexpr (constexpr Refusal why = refusal<matrix::Reaching<Net, Dev>, Rule, Dev>();
                why != Refusal::none) {
    cells.push_back({"round/" + rule + here, {}, false, false, std::string(explain(why))});
  } else {
    bool const sums = Rule::needs == Needs::collective;
    auto const add_round = [&](std::string const& name, auto order, bool hides) {
      cells.push_back({"round/" + name + here,
                       [order, hides](Net& net, std::size_t bytes, long rounds) {
                         return on_device<Net, Dev>(net, [&](auto& reaching, Dev& device) {
                           auto rule_here = with_period<Rule>(1, net.size());
                           order(rule_here);
                           return round(reaching, rule_here, device, bytes, rounds, hides);
                         });
                       },
                       sums});
    };
    if constexpr (Ordered<Rule>) {
      add_round(
          rule + ":post_step", [](Rule& r) { r.order = rule::Order::post_step; }, false);
      add_round(
          rule + ":jacobi", [](Rule& r) { r.order = rule::Order::jacobi; }, true);
    } else {
      add_round(
          rule, [](Rule&) {}, false);
    }
    cells.push_back({"step/" + rule + here, [](Net& net, std::size_t bytes, long rounds) {
                       return on_device<Net, Dev>(net, [&](auto& reaching, Dev& device) {
                         return step<std::remove_cvref_t<decltype(reaching)>, Rule>(reaching, device, bytes,
                                                                                    rounds);
                       });
                     }});
  }
}

template <class Net, class Dev, class... Rs>
void add_device(std::vector<Cell<Net>>& cells, elastic::Types<Rs...>) {
  (add_rule<Net, Rs, Dev>(cells), ...);
}

template <elastic::Collective Net, class... Devs>
std::vector<Cell<Net>> cells_of(elastic::Types<Devs...>) {
  std::vector<Cell<Net>> cells;
  std::string const here = place<Net>("cpu");
  cells.push_back({"all_reduce" + here, all_reduce_calls<Net>, true});
  cells.push_back({"broadcast" + here, broadcast_calls<Net>});
  cells.push_back({"barrier" + here, barrier_calls<Net>, false, false});
  (add_device<Net, Devs>(cells, matrix::Rules{}), ...);
  return cells;
}

}  // namespace bench
