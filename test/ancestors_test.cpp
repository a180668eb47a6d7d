// SPDX-License-Identifier: Apache-2.0
// Theano-MPI's exchanges lead where ours do, and rates that change with the epochs do so at both.
#include "elastic/rule/ancestors.hpp"

#include <vector>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using exact::Answers;
using exact::distance;
using exact::numbers;
using exact::Order;
using support::Launch;
using transport::Tcp;
using transport::Threads;

/// Bumpy in three tensors, one of a single value.
struct Layered : exact::Bumpy<float> {
  using Bumpy::Bumpy;
  std::vector<ParameterGroup> groups() const {
    return {{0, 20, ParameterKind::weight}, {20, 1, ParameterKind::weight}, {21, 16, ParameterKind::weight}};
  }
};

/// Everybody's parameters; the center first where there is one on a server. They start at `start`, the center at half
/// of it.
template <class Net, class Rule>
Answers train(Rule const& rule, int workers, Plan const& plan,
              std::vector<float> const& start = numbers<float>(37, 80)) {
  return Launch<Net>::run(exact::ranks_for<Rule>(workers) + plan.testers, [&](Net& net) {
    device::Cpu cpu;
    Layered model(cpu, 37);
    data::Noise<float> noise(37, 1, 30 + unsigned(net.rank()));
    exact::set(model.parameters(), start);
    Trainer<Net, Rule, device::Cpu> trainer(net, rule, cpu);
    auto center = start;
    for (float& c : center) c /= 2;
    trainer.restore("center", Span<float const>(center));
    auto const report = trainer.run(model, noise, plan);
    auto out = exact::values(model.parameters());
    if (Rule::needs == Needs::collective) {
      auto const copy = exact::values(trainer.state("center"));
      out.insert(out.end(), copy.begin(), copy.end());
    }
    out.push_back(double(report.exchanges));
    return out;
  });
}

Plan const long_plan{.steps = 24, .sgd = {.learning_rate = .1}, .steps_per_epoch = 6};

TEST_CASE("ancestors: all-to-all, sum, all-gather is the mean of parameters") {
  for (int const workers : {2, 3}) {
    auto const ours = train<Tcp>(rule::Bsp{.combine = rule::Combine::parameters}, workers, long_plan);
    auto const asa32 = train<Tcp>(rule::AllToAllBsp{}, workers, long_plan);
    auto const asa16 = train<Tcp>(rule::AllToAllBsp{.wire = Wire::fp16}, workers, long_plan);
    for (auto const& x : asa32) CHECK(distance(x, ours[0]) < 1e-5);
    for (auto const& x : asa16) CHECK(distance(x, asa16[0]) == 0);
    CHECK(distance(asa16[0], ours[0]) > 0);
    CHECK(distance(asa16[0], ours[0]) < 5e-3);
  }
}

/// With one worker, whose exchanges have one order.
TEST_CASE("ancestors: two weights swapped are one delta applied twice") {
  rule::AsyncEasgd delta{.alpha = .3, .period = 2, .order = Order::post_step};
  rule::TwoWeightsEasgd weights{.alpha = .3, .server_alpha = .3, .period = 2};
  auto const same = [&] {
    auto const ours = train<Tcp>(delta, 1, long_plan), theirs = train<Tcp>(weights, 1, long_plan);
    CHECK(distance(ours[0], theirs[0]) < 1e-5);
    CHECK(distance(ours[1], theirs[1]) < 1e-5);
    return ours[0];
  };
  auto const equal_rates = same();
  delta.server_alpha = weights.server_alpha = .6;
  auto const other_rates = same();
  CHECK(distance(equal_rates, other_rates) > 0.01);
  delta.alpha_epochs = weights.alpha_epochs = {1, 2};
  delta.alpha_change = weights.alpha_change = -.3;
  CHECK(distance(same(), other_rates) > 0.01);
}

/// Also where the transport has memory that all see, which this rule does not use.
TEST_CASE("ancestors: workers take turns, and a tester sees the center") {
  Plan plan = long_plan;
  plan.testers = 1;
  plan.test_every = 0;
  auto const answers = train<Threads>(rule::TwoWeightsEasgd{.period = 1}, 3, plan);
  CHECK(answers[0].back() == 3 * 24);
  for (std::size_t worker : {1u, 2u, 3u}) CHECK(answers[worker].back() == 24);
  for (std::size_t i = 0; i < 37; ++i) CHECK(answers[4][i] == answers[0][i]);
}

TEST_CASE("ancestors: server_alpha changes at the epochs it is told") {
  rule::MovingRate const rate{.worker = .5, .server = .9, .epochs = {10, 30, 50}, .change = -.3};
  CHECK(rate.server_at(9.99) == .9);
  CHECK(rate.server_at(10) == .9 - .3);
  CHECK(rate.server_at(49) == .9 - 2 * .3);
  CHECK(rate.gain(30) == (.9 - 2 * .3) / .5);
  using Catch::Matchers::ContainsSubstring;
  rule::SyncEasgd refused{.alpha = .5, .alpha_epochs = {1, 2}, .alpha_change = -.3};
  CHECK_THROWS_WITH(refused.check(2), ContainsSubstring("below 0"));
  refused.alpha_change = .6;
  CHECK_THROWS_WITH(refused.check(2), ContainsSubstring("server_alpha = 1.7 cannot be stable"));

  // Without gradients x and c move by the exchanges alone, in numbers that are exact.
  double x = 1, c = .5;
  for (double const server : {.25, .375, .5}) {
    double const apart = x - c;
    x -= .5 * apart;
    c += server * apart;
  }
  Plan const plan{.steps = 3, .sgd = {.learning_rate = 0}, .steps_per_epoch = 1, .same_start = false};
  auto const moves = [&](auto rule, std::size_t worker, std::size_t center) {
    rule.alpha = .5;
    rule.server_alpha = .25;
    rule.alpha_epochs = {1, 2};
    rule.alpha_change = .125;
    rule.period = 1;
    auto const ends = train<Tcp>(rule, 1, plan, std::vector<float>(37, 1.f));
    for (std::size_t i = 0; i < 37; ++i) {
      CHECK(ends[worker][i] == x);
      CHECK(ends[0][center + i] == c);
    }
  };
  for (Order const order : {Order::jacobi, Order::post_step}) {
    moves(rule::SyncEasgd{.order = order}, 0, 37);
    moves(rule::AsyncEasgd{.order = order}, 1, 0);
  }
  moves(rule::TwoWeightsEasgd{}, 1, 0);
}

}  // namespace
