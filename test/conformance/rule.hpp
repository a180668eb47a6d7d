// SPDX-License-Identifier: Apache-2.0
// What every rule promises over every transport that it runs on, as one test case each; matrix.hpp registers
// them for each cell of the matrix.
#pragma once

#include <cstddef>
#include <stdexcept>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"

namespace conformance {

using exact::Answers;
using exact::Bumpy;
using exact::distance;
using exact::Launch;
using exact::numbers;
using exact::ranks_for;
using exact::values;
using exact::worker_of;
using namespace elastic;

/// As many workers as the transport has room for, up to three.
template <class Net, class Rule>
constexpr int some_workers = Launch<Net>::max_ranks == 1 ? 1 : 3;

/// What a device may differ by from the CPU after a few steps: a GPU rounds a product and a sum once.
template <class Dev>
constexpr double rounding = Dev::name == "cuda" ? 1e-6 : 0;

/// Does it pull its workers to a center?
template <class Rule>
constexpr bool elastic_rule = requires(Rule rule) {
  rule.alpha;
};

/// Both elastic rules exchange every second step here, at a rate that one worker and three can bear.
template <class Rule>
Rule some_rule(double alpha = 0.25) {
  Rule rule{};
  if constexpr (elastic_rule<Rule>) {
    rule.alpha = alpha;
    rule.period = 2;
  }
  return rule;
}

/// Everybody finds the optimum, which is 0, from far away; except that the last exchange of a worker without
/// partners may be with a center that later ones are still pulling in.
template <class Net, class Rule, class Dev>
void converges() {
  auto const answers =
      exact::run_on<Net, Dev>(ranks_for<Rule>(some_workers<Net, Rule>), [](auto& net, Dev& device) {
        model::Quadratic<float, Dev> model(device, 64);
        data::Noise<float> noise(64, 0.01f, unsigned(net.rank()));
        exact::set(device, model.parameters(), std::vector<float>(64, 10.f));
        Trainer<std::remove_cvref_t<decltype(net)>, Rule, Dev> trainer(net, some_rule<Rule>(), device);
        trainer.run(model, noise, {.steps = 300, .sgd = {.learning_rate = .1}});
        return values(device, model.parameters());
      });
  bool const together = ranks_for<Rule>(0) == 0;
  for (std::size_t r = 0; r < answers.size(); ++r) {
    CHECK(distance(answers[r], std::vector<double>(64)) < (together || r == 0 ? 0.05 : 5));
    CHECK(distance(answers[r], std::vector<double>(64)) > 0);
  }
}

/// One worker that feels no force is plain SGD, bit for bit.
template <class Net, class Rule, class Dev>
void one_worker_is_sgd() {
  exact::Setup<float> const setup;
  Plan const plan{.steps = 12, .sgd = {.learning_rate = .1, .momentum = .5}, .same_start = false};
  auto const trained = exact::train<Net, float, Dev>(some_rule<Rule>(0), plan, 1, setup);

  auto x = setup.start(0);
  std::vector<float> v(x.size()), g(x.size());
  data::Noise<float> noise(setup.size, 1, setup.seed + 1);
  for (long t = 0; t < plan.steps; ++t) {
    for (float& vi : v) vi = .5f * vi;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += v[i];
    Bumpy<float>::slope(Span<float>(x), noise.next(), Span<float>(g));
    for (float& gi : g) gi *= .1f;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= g[i];
    for (std::size_t i = 0; i < x.size(); ++i) v[i] -= g[i];
  }
  CHECK(distance(trained.workers[0], {x.begin(), x.end()}) < 1e-6);
  auto const sgd = exact::train<transport::Serial, float>(rule::Bsp{}, plan, 1, setup).workers[0];
  CHECK(distance(trained.workers[0], sgd) <= rounding<Dev>);
}

/// A run of `steps` steps tells what each rank did: steps, gradients, role, exchanges, and by how much the
/// sum of center and workers has changed that the gradients do not explain.
template <class Net, class Rule, class Dev>
Answers accounts(int workers, long steps, int testers) {
  constexpr std::size_t n = 23;
  constexpr double eta = .05;
  return exact::run_on<Net, Dev>(ranks_for<Rule>(workers) + testers, [&](auto& net, Dev& device) {
    Bumpy<double, Dev> model(device, n);
    data::Noise<double> noise(n, 1, 30 + unsigned(net.rank()));
    exact::set(device, model.parameters(), numbers<double>(n, 80 + unsigned(net.rank())));
    auto const before = values(device, model.parameters());
    Trainer<std::remove_cvref_t<decltype(net)>, Rule, Dev, double> trainer(net, some_rule<Rule>(), device);
    auto const center = numbers<double>(n, 7);
    trainer.restore("center", Span<double const>(center));
    long told = 0;
    auto const report = trainer.run(model, noise,
                                    {.steps = steps,
                                     .sgd = {.learning_rate = eta},
                                     .testers = testers,
                                     .test_every = 0,
                                     .same_start = false},
                                    [&](event::Step const&) { ++told; });
    std::vector<double> answer{double(report.steps), double(model.count()), double(told),
                               double(static_cast<int>(report.role)), double(report.exchanges)};
    auto const after = values(device, model.parameters());
    bool const holds = net.rank() == 0 && elastic_rule<Rule>;
    auto const end = holds ? values(device, trainer.state("center")) : center;
    for (std::size_t i = 0; i < n; ++i) {
      double change = 0;
      if (report.role == Role::worker) change = after[i] - before[i] + eta * model.sum_of_gradients()[i];
      if (holds) change += end[i] - center[i];
      answer.push_back(change);
    }
    return answer;
  });
}

/// Only gradients change the sum of center and workers.
template <class Net, class Rule, class Dev>
void conserves() {
  auto const answers = accounts<Net, Rule, Dev>(some_workers<Net, Rule>, 20, 0);
  std::vector<double> sum(23);
  for (auto const& a : answers)
    for (std::size_t i = 0; i < 23; ++i) sum[i] += a[5 + i];
  CHECK(distance(sum, std::vector<double>(23)) < 1e-12);
}

/// A step is one gradient and one local step; a server takes none; everybody returns and says who it was.
template <class Net, class Rule, class Dev>
void steps_once() {
  constexpr long steps = 9;
  constexpr bool server = ranks_for<Rule>(0) == 1;
  constexpr int workers = some_workers<Net, Rule>;
  int const exchanges = elastic_rule<Rule> ? 5 : 9;  // of each worker; jacobi: at 0, 2, 4, 6, 8
  auto const answers = accounts<Net, Rule, Dev>(workers, steps, 0);
  REQUIRE(answers.size() == std::size_t(workers + server));
  for (std::size_t r = 0; r < answers.size(); ++r) {
    bool const serves = server && r == 0;
    std::vector<double> const expected{serves ? 0.0 : steps, serves ? 0.0 : steps, serves ? 0.0 : steps,
                                       double(static_cast<int>(serves ? Role::server : Role::worker)),
                                       double(serves ? exchanges * workers : exchanges)};
    CHECK(std::vector(answers[r].begin(), answers[r].begin() + 5) == expected);
  }
}

/// Batches that end in an exception.
struct Failing {
  data::Noise<float> noise;
  long good;
  std::vector<float> const& next() {
    if (good-- == 0) throw std::runtime_error("the disk is gone");
    return noise.next();
  }
};

/// A rank that throws keeps its exception, and every other rank throws Aborted with its reason.
template <class Net, class Rule, class Dev>
void a_failure_ends_all() {
  constexpr int workers = some_workers<Net, Rule>;
  auto const answers =
      exact::run_on<Net, Dev>(ranks_for<Rule>(workers), [](auto& net, Dev& device) -> std::vector<double> {
        model::Quadratic<float, Dev> model(device, 8);
        bool const fails = worker_of<Rule>(net) == workers - 1;
        Failing batches{{8, 1, unsigned(net.rank())}, fails ? 5 : 1'000'000};
        Trainer<std::remove_cvref_t<decltype(net)>, Rule, Dev> trainer(net, some_rule<Rule>(), device);
        try {
          trainer.run(model, batches, {.steps = 1'000'000'000});
          return {0};
        } catch (Aborted const& e) {
          return {fails                                                                 ? 4.0
                  : std::string(e.what()).find("the disk is gone") != std::string::npos ? 2.0
                                                                                        : 3.0};
        } catch (std::runtime_error const& e) {
          return {fails && std::string(e.what()) == "the disk is gone" ? 1.0 : 5.0};
        }
      });
  for (std::size_t r = 0; r < answers.size(); ++r)
    CHECK(answers[r] == std::vector{r + 1 == answers.size() ? 1.0 : 2.0});
}

/// A tester sees versions that never fall, at last the final center, to the bit; and disturbs nobody.
template <class Net, class Rule, class Dev>
void serves_a_tester() {
  constexpr int workers = 2;
  constexpr long steps = 40;
  auto const answers = exact::run_on<Net, Dev>(ranks_for<Rule>(workers) + 1, [](auto& net, Dev& device) {
    Bumpy<float, Dev> model(device, 23);
    data::Noise<float> noise(23, 1, 30 + unsigned(net.rank()));
    exact::set(device, model.parameters(), numbers<float>(23, 80 + unsigned(net.rank())));
    Trainer<std::remove_cvref_t<decltype(net)>, Rule, Dev> trainer(net, some_rule<Rule>(), device);
    std::uint64_t version = 0;
    long last = 0, backwards = 0;
    auto const report = trainer.run(
        model, noise, {.steps = steps, .sgd = {.learning_rate = .1}, .testers = 1, .test_every = 0},
        [&](event::Snapshot const& s) {
          backwards += s.version < version ? 1 : 0;
          version = s.version;
          last += s.last ? 1 : 0;
        });
    auto answer = trainer.has_state("center") ? values(device, trainer.state("center"))
                                              : values(device, model.parameters());
    for (double const told : {double(static_cast<int>(report.role)), double(report.steps), double(version),
                              double(last), double(backwards)})
      answer.push_back(told);
    return answer;
  });
  auto const &center = answers.front(), &tester = answers.back();
  CHECK(std::vector(tester.begin(), tester.begin() + 23) == std::vector(center.begin(), center.begin() + 23));
  double const exchanges = !elastic_rule<Rule> ? steps : ranks_for<Rule>(0) * steps / 2 + steps / 2;
  CHECK(std::vector(tester.begin() + 23, tester.end()) ==
        std::vector{double(static_cast<int>(Role::tester)), 0.0, exchanges, 1.0, 0.0});
  CHECK(answers[answers.size() - 2][24] == double(steps));
}

}  // namespace conformance
