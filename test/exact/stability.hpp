// SPDX-License-Identifier: Apache-2.0
// The bounds of stability are sharp: a thousandth below, the state dies out; a thousandth above, it grows.
#pragma once

#include <cmath>
#include <cstddef>

#include "exact/run.hpp"
#include "exact/turns.hpp"
#include "support/catch.hpp"
#include "support/named_case.hpp"

namespace exact {

/// A rule whose options nobody checks.
template <class Rule>
struct Unchecked : Rule {
  void check(int) const {}
};

/// By what factor the noiseless state (workers and center) has grown from exchange 200 to exchange 4200.
template <class Net>
double growth(int workers, double alpha, Order order, double eta, long period) {
  using Rule = Unchecked<rule::SyncEasgd>;
  Answers const answers = Launch<Net>::run(workers, [&](Net& net) -> std::vector<double> {
    device::Cpu cpu;
    model::Quadratic<double> model(cpu, 1);
    Same<double> still{{0.0}};
    set(model.parameters(), numbers<double>(1, 8 + unsigned(net.rank())));
    Rule rule;
    rule.alpha = alpha;
    rule.order = order;
    rule.period = period;
    Trainer<Net, Rule, device::Cpu, double> trainer(net, rule, cpu);
    std::vector<double> const center{-0.75};
    trainer.restore("center", Span<double const>(center));
    std::vector<double> squares;
    for (long const exchanges : {200L, 4000L}) {
      trainer.run(model, still,
                  {.steps = exchanges * period, .sgd = {.learning_rate = eta}, .same_start = false});
      double const x = model.parameters()[0], c = trainer.state("center")[0];
      squares.push_back(x * x + (net.rank() == 0 ? c * c : 0));
    }
    return squares;
  });
  double before = 0, after = 0;
  for (auto const& squares : answers) {
    before += squares[0];
    after += squares[1];
  }
  return std::sqrt(after / before);
}

template <class Net>
void check_bound(int workers, double eta, long period) {
  for (Order const order : {Order::jacobi, Order::post_step}) {
    double const bound = rule::critical_alpha(order, workers, eta, period);
    CAPTURE(workers, eta, period, order == Order::jacobi, bound);
    CHECK(growth<Net>(workers, 0.999 * bound, order, eta, period) < 0.5);
    CHECK(growth<Net>(workers, 1.001 * bound, order, eta, period) > 2);
  }
}

template <class Net>
void synchronous_bounds() {
  check_bound<Net>(1, .5, 1);
  if (Launch<Net>::max_ranks == 1) return;
  check_bound<Net>(4, .5, 1);
  check_bound<Net>(4, .2, 4);
}

/// The bound that check() enforces is what is left of them when no direction has curvature.
inline void bound_without_curvature() {
  for (int const p : {1, 2, 4, 16})
    for (Order const order : {Order::jacobi, Order::post_step}) {
      CHECK(rule::critical_alpha(order, p, 0) == Approx(2.0 / (p + 1)).epsilon(1e-14));
      CHECK(rule::critical_alpha(order, p, 0, 16) == Approx(2.0 / (p + 1)).epsilon(1e-14));
    }
  CHECK(rule::critical_alpha(Order::jacobi, 4, .5) == Approx(2 * 1.5 / (2 + 4 * 1.5)).epsilon(1e-14));
}

/// Asynchronous, one exchange at a time, post-step: for alpha in [0, 1] and eta h in [0, 2] the norm of the
/// state never grows, whatever the order of arrivals.
template <class Net>
void asynchronous_state_never_grows() {
  constexpr int workers = 3;
  constexpr long exchanges = 400;
  struct Case {
    double alpha, eta;
    long period;
  };
  for (Case const& at : {Case{1, 2, 1}, Case{1, .1, 1}, Case{.9, 1.9, 4}, Case{.5, .5, 4}}) {
    Turns turns(workers, exchanges, 12);
    std::vector<Span<double>> parameters(workers);
    Answers const answers = Launch<Net>::run(workers + 1, [&](Net& net) -> std::vector<double> {
      device::Cpu cpu;
      int const w = net.rank() - 1;
      model::Quadratic<double> model(cpu, 5);
      set(model.parameters(), numbers<double>(5, 90 + unsigned(w + 1)));
      if (w >= 0) parameters[std::size_t(w)] = model.parameters();
      InTurn still(Same<double>{std::vector<double>(5)}, turns, w, at.period);
      Trainer<Net, rule::AsyncEasgd, device::Cpu, double> trainer(
          net, {.alpha = at.alpha, .period = at.period, .order = Order::post_step}, cpu);
      double last = HUGE_VAL, worst = 0;
      // the worker whose turn it is has moved already, the others wait: nobody writes while this reads
      auto const watch = [&](event::Center<double> const& e) {
        double square = 0;
        for (double c : e.values) square += c * c;
        for (auto const& x : parameters)
          for (double v : x) square += v * v;
        worst = std::max(worst, square / last);
        last = square;
      };
      trainer.run(model, still,
                  {.steps = turns.of(w) * at.period,
                   .sgd = {.learning_rate = at.eta},
                   .commit_every = 1e-9,
                   .same_start = false},
                  watch, turns.observer<double>());
      net.barrier();  // the server looks at every worker until the last turn
      return {worst};
    });
    CAPTURE(at.alpha, at.eta, at.period, answers[0][0]);
    CHECK(answers[0][0] > 0);
    CHECK(answers[0][0] <= 1 + 1e-14);
  }
}

template <class Net>
bool add_stability_cases() {
  return support::add_case(synchronous_bounds<Net>,
                           std::string(Net::name) + ": the bounds of alpha are sharp", "[exact]");
}

/// Those whose ranks must be threads of one process.
template <class Net>
bool add_asynchronous_stability_cases() {
  return support::add_case(asynchronous_state_never_grows<Net>,
                           std::string(Net::name) + ": no order of arrivals makes the state grow", "[exact]");
}

}  // namespace exact
