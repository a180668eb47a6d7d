// SPDX-License-Identifier: Apache-2.0
// Plan::stop ends every role in order, wherever it was raised; workers of a collective rule at the same step.
#include <atomic>
#include <deque>
#include <vector>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;

/// Noise that raises a flag at its `at`-th batch.
struct Raising {
  data::Noise<float> noise;
  std::atomic<bool>* flag;
  long at;
  std::vector<float> const& next() {
    if (flag != nullptr && at-- == 0) flag->store(true);
    return noise.next();
  }
};

constexpr long steps = 100'000'000;  // more than a test can wait for

/// Trains with a flag for each rank; rank `raiser` raises that of rank `hit` at its tenth batch. Answers with
/// role, steps, stopped, exchanges and snapshots marked last; then the model.
template <class Net, class Rule>
support::Answers stopped(Rule const& rule, int ranks, int testers, int raiser, int hit) {
  std::deque<std::atomic<bool>> flags(static_cast<std::size_t>(ranks));
  return support::Launch<Net>::run(ranks, [&](Net& net) {
    device::Cpu cpu;
    model::Quadratic<float> model(cpu, 6);
    Raising batches{
        {6, 1, unsigned(net.rank())}, net.rank() == raiser ? &flags[std::size_t(hit)] : nullptr, 10};
    Trainer<Net, Rule, device::Cpu> trainer(net, rule, cpu);
    long last = 0;
    auto const report = trainer.run(
        model, batches,
        {.steps = steps, .testers = testers, .test_every = 1000, .stop = &flags[std::size_t(net.rank())]},
        [&](event::Snapshot const& s) { last += s.last ? 1 : 0; });
    std::vector<double> answer{double(static_cast<int>(report.role)), double(report.steps),
                               double(report.stopped), double(report.exchanges), double(last)};
    auto const x = trainer.has_state("center") ? exact::values(trainer.state("center"))
                                               : exact::values(model.parameters());
    answer.insert(answer.end(), x.begin(), x.end());
    return answer;
  });
}

constexpr double worker = static_cast<int>(Role::worker), server = static_cast<int>(Role::server),
                 tester = static_cast<int>(Role::tester);

template <class Rule>
void check_collective(Rule const& rule, long period) {
  for (int const hit : {0, 2}) {  // only one rank got the signal
    auto const answers = stopped<transport::Threads>(rule, 3, 0, hit, hit);
    CAPTURE(Rule::name, hit);
    for (auto const& a : answers) {
      CHECK(a[0] == worker);
      CHECK(a[1] == answers[0][1]);  // all at the same step, and soon
      CHECK(a[1] > 10);
      CHECK(a[1] <= 10 + 2 * double(period));
      CHECK(a[2] == 1);
    }
  }
}

TEST_CASE("workers of a collective rule stop at the same step, right after an exchange") {
  check_collective(rule::Bsp{}, 1);
  check_collective(rule::Bsp{.combine = rule::Combine::parameters, .period = 7}, 7);
  check_collective(rule::SyncEasgd{.period = 4}, 4);
  check_collective(rule::SyncEasgd{.period = 7, .order = rule::Order::post_step}, 7);
}

TEST_CASE("one process stops on its own") {
  auto const answers = stopped<transport::Serial>(rule::Bsp{}, 1, 0, 0, 0);
  CHECK(answers[0][1] == 11);
  CHECK(answers[0][2] == 1);
}

TEST_CASE("a tester of a collective rule gets the last center of a stopped run") {
  auto const answers = stopped<transport::Threads>(rule::SyncEasgd{.period = 4}, 3, 1, 1, 1);
  CHECK(answers[2][0] == tester);
  CHECK(answers[2][4] == 1);
  CHECK(std::vector(answers[2].begin() + 5, answers[2].end()) ==
        std::vector(answers[0].begin() + 5, answers[0].end()));
  CHECK(answers[0][1] == answers[1][1]);
}

TEST_CASE("a server that is asked to stop ends its workers after their next exchange, and its testers") {
  for (rule::Order const order : {rule::Order::jacobi, rule::Order::post_step}) {
    auto const answers =
        stopped<transport::Threads>(rule::AsyncEasgd{.period = 4, .order = order}, 4, 1, 1, 0);
    CHECK(answers[0][0] == server);
    CHECK(answers[0][2] == 1);
    for (std::size_t r : {1u, 2u}) {
      CHECK(answers[r][0] == worker);
      CHECK(answers[r][1] < double(steps));
      CHECK(answers[r][2] == 1);
    }
    CHECK(answers[0][3] == answers[1][3] + answers[2][3]);  // no exchange was cut in two
    CHECK(answers[3][0] == tester);
    CHECK(answers[3][4] == 1);
    CHECK(std::vector(answers[3].begin() + 5, answers[3].end()) ==
          std::vector(answers[0].begin() + 5, answers[0].end()));
  }
}

TEST_CASE("an asynchronous worker that is asked to stop leaves, and the others go on") {
  std::atomic<bool> flag = false;
  auto const answers = support::Launch<transport::Threads>::run(3, [&](transport::Threads& net) {
    device::Cpu cpu;
    model::Quadratic<float> model(cpu, 6);
    Raising batches{{6, 1, unsigned(net.rank())}, net.rank() == 1 ? &flag : nullptr, 10};
    auto const report = Trainer<transport::Threads, rule::AsyncEasgd, device::Cpu>(net, {.period = 2}, cpu)
                            .run(model, batches, {.steps = 50, .stop = net.rank() == 1 ? &flag : nullptr});
    return std::vector{double(report.steps), double(report.stopped)};
  });
  CHECK(answers[0] == std::vector{0.0, 0.0});
  CHECK(answers[1] == std::vector{11.0, 1.0});
  CHECK(answers[2] == std::vector{50.0, 0.0});
}

}  // namespace
