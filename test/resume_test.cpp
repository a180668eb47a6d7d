// SPDX-License-Identifier: Apache-2.0
// Between two steps: observers are told, and a run that goes on from what they were told ends with the same bits
// as one that was never interrupted.
// optimize: 1
#include <optional>
#include <string>
#include <vector>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using rule::Combine;

constexpr std::size_t size = 37;
constexpr long steps = 23;

/// Everything that a worker goes on from, and how much of its noise is used.
struct Saved {
  std::vector<double> x;
  std::vector<std::pair<std::string, std::vector<double>>> states;
  Bookmark bookmark;
};

/// Trains a worker from `from` on until `until`; what it is told last goes to `to`. Its answer is its parameters,
/// and the center where it is here.
template <class Rule, class Net>
std::vector<double> train_until(Net& net, Rule const& rule, Plan plan, long until, Saved const* from,
                                Saved* to) {
  device::Cpu cpu;
  int const w = exact::worker_of<Rule>(net);
  exact::Bumpy<double> model(cpu, size);
  data::Noise<double> noise(size, 1.0, 100u + unsigned(w));
  exact::set(model.parameters(), exact::numbers<double>(size, unsigned(w + 17)));
  Trainer<Net, Rule, device::Cpu, double> trainer(net, rule, cpu);
  plan.steps = until;
  if (from != nullptr) {
    if (w >= 0) exact::set(model.parameters(), from->x);
    for (auto const& [name, values] : from->states) trainer.restore(name, Span<double const>(values));
    plan.from = from->bookmark;
    for (long k = 0; k < plan.from.steps; ++k) noise.next();
  }
  long told = plan.from.steps, last = 0;
  bool in_order = true;
  trainer.run(model, noise, plan, [&](event::Turn<double> const& turn) {
    in_order = in_order && turn.steps == told++ && turn.rank == net.rank() &&
               turn.bookmark.steps == turn.steps && turn.report.steps == turn.steps - plan.from.steps &&
               last == 0;
    last += turn.last ? 1 : 0;
    if (to == nullptr || !turn.last) return;
    to->x = exact::values(turn.parameters);
    for (auto const& state : turn.states) to->states.emplace_back(state.name, exact::values(state.values));
    to->bookmark = turn.bookmark;
  });
  if (w < 0 && to != nullptr) to->states.emplace_back("center", exact::values(trainer.state("center")));
  auto answer = w < 0 ? exact::values(trainer.state("center")) : exact::values(model.parameters());
  bool const complete = w < 0 || (told == until + 1 && last == 1 && in_order);
  if (w >= 0 && trainer.has_state("velocity")) {
    auto const v = exact::values(trainer.state("velocity"));
    answer.insert(answer.end(), v.begin(), v.end());
  }
  answer.push_back(complete ? 1 : 0);
  return answer;
}

/// Straight against interrupted at `at`, by new objects on a new job.
template <class Net, class Rule>
void check(Rule const& rule, int workers, Plan const& plan) {
  int const ranks = exact::ranks_for<Rule>(workers);
  auto const straight = support::Launch<Net>::run(
      ranks, [&](Net& net) { return train_until(net, rule, plan, steps, nullptr, nullptr); });
  for (long const at : {0L, 7L, 12L, steps}) {
    std::vector<Saved> saved(std::size_t(ranks), Saved{});
    support::Launch<Net>::run(ranks, [&](Net& net) {
      return train_until(net, rule, plan, at, nullptr, &saved[std::size_t(net.rank())]);
    });
    auto const resumed = support::Launch<Net>::run(ranks, [&](Net& net) {
      return train_until(net, rule, plan, steps, &saved[std::size_t(net.rank())], nullptr);
    });
    CAPTURE(Net::name, Rule::name, describe(rule), at);
    CHECK(resumed == straight);
    for (auto const& answer : resumed) CHECK(answer.back() == 1);
  }
}

optimizer::Sgd const momentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-2};
optimizer::Sgd const plateau{
    .learning_rate = 0.1,
    .momentum = 0.5,
    .schedule = {.decay = optimizer::Decay::plateau, .threshold = 0.5, .patience = 2}};
optimizer::Sgd const heavy{
    .learning_rate = 0.1, .momentum = 0.9, .momentum_kind = optimizer::Momentum::heavy_ball};

template <class Net>
void check_collective(int workers) {
  for (optimizer::Sgd const& sgd : {momentum, plateau}) {
    Plan const plan{.sgd = sgd, .steps_per_epoch = 3};
    for (rule::Order const order : {rule::Order::jacobi, rule::Order::post_step})
      check<Net>(rule::SyncEasgd{.period = 5, .order = order}, workers, plan);
    check<Net>(rule::Bsp{}, workers, plan);
    check<Net>(rule::Bsp{.combine = Combine::parameters, .period = 4}, workers, plan);
  }
  check<Net>(rule::Bsp{.combine = Combine::velocities}, workers, {.sgd = heavy});
}

template <class Net>
void check_asynchronous() {
  for (rule::Order const order : {rule::Order::jacobi, rule::Order::post_step})
    check<Net>(rule::AsyncEasgd{.alpha = 0.3, .period = 5, .order = order}, 1,
               {.sgd = plateau, .steps_per_epoch = 3});
}

}  // namespace

TEST_CASE("a run goes on bit for bit: one process") { check_collective<transport::Serial>(1); }
TEST_CASE("a run goes on bit for bit: threads") {
  check_collective<transport::Threads>(3);
  check_asynchronous<transport::Threads>();
}
TEST_CASE("a run goes on bit for bit: tcp") {
  check<transport::Tcp>(rule::SyncEasgd{.period = 5}, 2, {.sgd = momentum});
  check_asynchronous<transport::Tcp>();
}

TEST_CASE("workers that go on from different steps are told so") {
  auto const differ = [] {
    support::Launch<transport::Threads>::run(2, [&](transport::Threads& net) {
      device::Cpu cpu;
      model::Quadratic<float> model(cpu, 4);
      data::Noise<float> noise(4, 1, 1);
      Trainer(net, rule::Bsp{}, cpu).run(model, noise, {.steps = 9, .from = {.steps = 3 + net.rank()}});
      return std::vector<double>{};
    });
  };
  CHECK_THROWS_WITH(differ(), Catch::Matchers::Contains("steps of earlier runs=3") &&
                                  Catch::Matchers::Contains("steps of earlier runs=4"));
}
