// SPDX-License-Identifier: Apache-2.0
// center + sum of workers is what an elastic exchange keeps: whatever the order of arrivals, and to the bit
// where the numbers are small enough to be exact.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "exact/run.hpp"
#include "exact/turns.hpp"
#include "support/catch.hpp"
#include "support/named_case.hpp"

namespace exact {

/// Starts of whole numbers: quarters of their differences are exact for about ten exchanges in single
/// precision, twenty-five in double.
template <class T>
Setup<T> exact_setup() {
  Setup<T> setup;
  setup.start = [](int w) { return whole_numbers<T>(37, unsigned(w + 50)); };
  setup.center = [] { return whole_numbers<T>(37, 6); };
  return setup;
}

/// What `total` must be before the first exchange.
template <class T>
std::vector<double> total_at_start(Setup<T> const& setup, int workers) {
  auto const center = setup.center();
  Trained start{{}, {center.begin(), center.end()}};
  for (int w = 0; w < workers; ++w) {
    auto const x = setup.start(w);
    start.workers.emplace_back(x.begin(), x.end());
  }
  return total(start);
}

template <class Net, class Rule, class T>
void exchanges_conserve_to_the_bit(long exchanges) {
  constexpr int workers = 3;
  auto const setup = exact_setup<T>();
  auto const expected = total_at_start(setup, workers);
  for (Order const order : {Order::jacobi, Order::post_step})
    for (long const period : {1L, 3L}) {
      Plan const plan{.steps = exchanges * period, .sgd = {.learning_rate = 0}, .same_start = false};
      Rule const rule{.alpha = .25, .period = period, .order = order};
      Trained const trained = train<Net, T>(rule, plan, workers, setup);
      CAPTURE(Rule::name, order == Order::jacobi, period);
      CHECK(distance(total(trained), expected) == 0);
      auto const start = setup.center();
      CHECK(distance(trained.center, {start.begin(), start.end()}) > 0.1);  // something was exchanged
    }
}

/// In single precision, with any numbers: the drift is rounding, at most u (|x| + |c|) an exchange and
/// worker.
template <class Net, class Rule>
void drift_is_rounding() {
  constexpr int workers = 3;
  constexpr long exchanges = small ? 100 : 2000;
  Setup<float> const setup;
  Plan const plan{.steps = exchanges, .sgd = {.learning_rate = 0}, .same_start = false};
  Trained const trained = train<Net, float>(Rule{.alpha = .225, .period = 1}, plan, workers, setup);
  double const drift = distance(total(trained), total_at_start(setup, workers));
  CHECK(drift <= exchanges * workers * 2 * std::numeric_limits<float>::epsilon());
}

/// With a learning rate the sum changes by what the gradients say and nothing else.
template <class Net, class Rule>
void only_gradients_change_the_sum() {
  constexpr int workers = 3;
  constexpr std::size_t n = 11;
  constexpr double eta = .05;
  for (Order const order : {Order::jacobi, Order::post_step}) {
    Answers const answers = Launch<Net>::run(ranks_for<Rule>(workers), [&](Net& net) {
      device::Cpu cpu;
      int const w = worker_of<Rule>(net);
      Bumpy<double> model(cpu, n);
      data::Noise<double> noise(n, 1, 30 + unsigned(w + 1));
      set(model.parameters(), numbers<double>(n, 80 + unsigned(w + 1)));
      auto before = values(model.parameters());
      if (ranks_for<Rule>(0) == 0 || w >= 0) before.resize(n);
      Rule const rule{.alpha = .225, .period = 2, .order = order};
      Trainer<Net, Rule, device::Cpu, double> trainer(net, rule, cpu);
      auto const center = numbers<double>(n, 7);
      trainer.restore("center", Span<double const>(center));
      trainer.run(model, noise, {.steps = 40, .sgd = {.learning_rate = eta}, .same_start = false});
      std::vector<double> change(n);  // of this rank's part of the sum, and what the gradients explain
      for (std::size_t i = 0; i < n; ++i) {
        if (w >= 0) change[i] = model.parameters()[i] - before[i] + eta * model.sum_of_gradients()[i];
        if (net.rank() == 0) change[i] += trainer.state("center")[i] - center[i];
      }
      return change;
    });
    std::vector<double> sum(n);
    for (auto const& change : answers)
      for (std::size_t i = 0; i < n; ++i) sum[i] += change[i];
    CAPTURE(Rule::name, order == Order::jacobi);
    CHECK(distance(sum, std::vector<double>(n)) < 1e-12);
    CHECK(distance(answers.back(), std::vector<double>(n)) > 1e-2);  // each alone is moved by the exchanges
  }
}

/// A center that moves by another rate than the workers gives the sum away, and this test would see it.
template <class Net, class Rule>
void asymmetric_rates_do_not_conserve() {
  auto const setup = exact_setup<double>();
  Plan const plan{.steps = 4, .sgd = {.learning_rate = 0}, .same_start = false};
  Trained const trained = train<Net>(Rule{.alpha = .25, .server_alpha = .125, .period = 1}, plan, 3, setup);
  CHECK(distance(total(trained), total_at_start(setup, 3)) > 0.1);
}

/// Synchronous: workers that swap their starts and batches swap their parameters, and nothing else changes.
template <class Net>
void workers_can_swap_places() {
  auto const run = [](bool swapped) {
    auto const answers = Launch<Net>::run(2, [&](Net& net) {
      device::Cpu cpu;
      int const w = swapped ? 1 - net.rank() : net.rank();
      Bumpy<float> model(cpu, 37);
      data::Noise<float> noise(37, 1, 30 + unsigned(w));
      set(model.parameters(), numbers<float>(37, 80 + unsigned(w)));
      Trainer<Net, rule::SyncEasgd, device::Cpu> trainer(net, {.alpha = .225, .period = 2}, cpu);
      auto const center = numbers<float>(37, 7);
      trainer.restore("center", Span<float const>(center));
      trainer.run(model, noise, {.steps = 31, .sgd = {.learning_rate = .1}, .same_start = false});
      auto out = values(model.parameters());
      auto const moved = values(trainer.state("center"));
      out.insert(out.end(), moved.begin(), moved.end());
      return out;
    });
    return answers;
  };
  auto const straight = run(false), swapped = run(true);
  std::ptrdiff_t const n = 37;
  for (std::size_t r : {0u, 1u}) {
    std::vector<double> const mine(straight[r].begin(), straight[r].begin() + n),
        theirs(swapped[1 - r].begin(), swapped[1 - r].begin() + n);
    CHECK(distance(mine, theirs) == 0);
    CHECK(std::vector(straight[r].begin() + n, straight[r].end()) ==
          std::vector(straight[0].begin() + n, straight[0].end()));  // one center, bit for bit
  }
  CHECK(std::vector(straight[0].begin() + n, straight[0].end()) ==
        std::vector(swapped[0].begin() + n, swapped[0].end()));
}

/// Asynchronous: other orders of arrival lead to other parameters, and to the same sum.
template <class Net>
void any_order_of_arrivals_conserves() {
  constexpr int workers = 3;
  auto const setup = exact_setup<double>();
  std::vector<std::vector<double>> centers;
  for (std::vector<int> const& order :
       {std::vector{0, 1, 2, 0, 1, 2}, {2, 2, 1, 0, 1, 0}, {0, 0, 0, 0, 0, 1}}) {
    Turns turns(order);
    Trained trained;
    Answers const answers = Launch<Net>::run(workers + 1, [&](Net& net) {
      device::Cpu cpu;
      int const w = net.rank() - 1;
      Bumpy<double> model(cpu, setup.size);
      InTurn noise(data::Noise<double>(setup.size, 1, 3), turns, w, 1);
      set(model.parameters(), setup.start(w));
      using Trainer = elastic::Trainer<Net, rule::AsyncEasgd, device::Cpu, double>;
      Trainer trainer(net, {.alpha = .25, .period = 1, .order = Order::post_step}, cpu);
      auto const center = setup.center();
      trainer.restore("center", Span<double const>(center));
      Plan const plan{
          .steps = turns.of(w), .sgd = {.learning_rate = 0}, .commit_every = 1e-9, .same_start = false};
      trainer.run(model, noise, plan, turns.observer<double>());
      return values(model.parameters());
    });
    trained.center = answers[0];
    trained.workers.assign(answers.begin() + 1, answers.end());
    CHECK(distance(total(trained), total_at_start(setup, workers)) == 0);
    for (auto const& other : centers) CHECK(distance(other, trained.center) > 0.01);
    centers.push_back(trained.center);
  }
}

template <class Net, class Rule>
void conservation() {
  constexpr bool server = ranks_for<Rule>(0) == 1;  // one exchange after another: fewer are exact
  exchanges_conserve_to_the_bit<Net, Rule, float>(server ? 3 : 8);
  exchanges_conserve_to_the_bit<Net, Rule, double>(server ? 6 : 20);
  drift_is_rounding<Net, Rule>();
  only_gradients_change_the_sum<Net, Rule>();
  asymmetric_rates_do_not_conserve<Net, Rule>();
}

template <class Net>
bool add_conservation_cases() {
  std::string const net(Net::name);
  auto const add = [&](auto body, char const* name) {
    return support::add_case(body, net + name, "[exact]");
  };
  return add(conservation<Net, rule::SyncEasgd>, ": synchronous exchanges conserve center + workers") &&
         add(conservation<Net, rule::AsyncEasgd>, ": asynchronous exchanges conserve center + workers") &&
         add(workers_can_swap_places<Net>, ": workers can swap places");
}

/// Those whose ranks must be threads of one process.
template <class Net>
bool add_delivery_cases() {
  std::string const net(Net::name);
  auto const add = [&](auto body, char const* name) {
    return support::add_case(body, net + name, "[exact]");
  };
  return add(any_order_of_arrivals_conserves<Net>, ": any order of arrivals conserves the sum");
}

}  // namespace exact
