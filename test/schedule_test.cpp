// SPDX-License-Identifier: Apache-2.0
// Learning rates over time, against hand-computed values, and through a Trainer.
#include "elastic/optimizer/schedule.hpp"

#include <cmath>
#include <vector>

#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/train.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using optimizer::Decay;
using optimizer::Schedule;

TEST_CASE("a constant rate is constant") {
  Schedule const s{};
  CHECK(s.at(0, 10, 4) == 1);
  CHECK(s.at(1'000'000, 10, 4) == 1);
}

TEST_CASE("steps fall at the first step of their epochs") {
  Schedule const s{.decay = Decay::step, .decay_epochs = {20, 40}, .factor = 0.1};
  CHECK(s.at(199, 10, 1) == 1);
  CHECK(s.at(200, 10, 1) == Approx(0.1));
  CHECK(s.at(399, 10, 1) == Approx(0.1));
  CHECK(s.at(400, 10, 1) == Approx(0.01));
}

TEST_CASE("a polynomial reaches 0 at its end and stays there") {
  Schedule const s{.decay = Decay::polynomial, .power = 0.5, .end_epoch = 8};
  CHECK(s.at(0, 10, 1) == 1);
  CHECK(s.at(60, 10, 1) == Approx(std::sqrt(0.25)));
  CHECK(s.at(80, 10, 1) == 0);
  CHECK(s.at(10'000, 10, 1) == 0);
}

TEST_CASE("inverse time is the paper's eta / (1 + gamma t)^(1/2)") {
  Schedule const s{.decay = Decay::inverse_time, .power = 0.5, .gamma = 1e-4};
  CHECK(s.at(0, 10, 1) == 1);
  CHECK(s.at(30'000, 10, 1) == Approx(0.5));
  CHECK(s.at(30'000, 99, 1) == s.at(30'000, 10, 1));  // time is in steps
}

TEST_CASE("warm-up rises to the full rate at its last step") {
  Schedule s{.warmup_epochs = 2};
  CHECK(s.at(0, 10, 8) == Approx(1.0 / 20));
  CHECK(s.at(9, 10, 8) == Approx(0.5));
  CHECK(s.at(19, 10, 8) == 1);
  CHECK(s.at(20, 10, 8) == 1);
  s.scale_by_workers = true;  // from the rate of one worker to that of all
  CHECK(s.at(0, 10, 8) == Approx(1 + 7.0 / 20));
  CHECK(s.at(19, 10, 8) == Approx(8));
}

TEST_CASE("a plateau is `patience` epochs without an improvement of `threshold`") {
  optimizer::PlateauCounter c;
  CHECK(c.report(1.00, 0.01, 2) == 0);
  CHECK(c.report(0.98, 0.01, 2) == 0);
  CHECK(c.report(0.975, 0.01, 2) == 0);  // not 1 % better: one
  CHECK(c.report(0.90, 0.01, 2) == 0);   // better: forgotten
  CHECK(c.report(0.90, 0.01, 2) == 0);
  CHECK(c.report(0.95, 0.01, 2) == 1);
  CHECK(c.report(0.90, 0.01, 2) == 1);
  CHECK(c.report(0.90, 0.01, 2) == 2);
  Schedule const s{.decay = Decay::plateau, .factor = 0.5};
  CHECK(s.at(7, 10, 1, 2) == 0.25);
}

/// The rates that a worker tells, step by step.
template <class Net>
std::vector<double> rates(Plan const& plan, int workers) {
  return support::Launch<Net>::run(workers, [&](Net& net) {
    device::Cpu cpu;
    model::Quadratic<float> model(cpu, 4);
    data::Noise<float> noise(4, 1, unsigned(net.rank()));
    std::vector<double> told;
    Trainer<Net, rule::Bsp, device::Cpu>(net, {}, cpu).run(model, noise, plan, [&](event::Step const& e) {
      told.push_back(e.rate);
    });
    return told;
  })[0];
}

TEST_CASE("the Trainer multiplies its learning rate with the schedule, per worker's epochs") {
  Plan plan{.steps = 7, .sgd = {.learning_rate = 0.5}, .steps_per_epoch = 3};
  plan.sgd.schedule = {.decay = Decay::step, .decay_epochs = {1, 2}, .factor = 0.5};
  CHECK(rates<transport::Serial>(plan, 1) == std::vector{.5, .5, .5, .25, .25, .25, .125});
  plan.sgd.schedule = {.warmup_epochs = 1, .scale_by_workers = true};
  auto const warm = rates<transport::Threads>(plan, 2);
  REQUIRE(warm.size() == 7);
  CHECK(warm[0] == Approx(0.5 * (1 + 1.0 / 3)));
  CHECK(warm[2] == 1.0);
  CHECK(warm[6] == 1.0);
}

TEST_CASE("workers of a collective rule see the same plateaus although their losses differ") {
  Plan plan{.steps = 40, .sgd = {.learning_rate = 0.1}, .steps_per_epoch = 2};
  plan.sgd.schedule = {.decay = Decay::plateau, .factor = 0.5, .threshold = 0.3, .patience = 2};
  auto const answers = support::Launch<transport::Threads>::run(3, [&](transport::Threads& net) {
    device::Cpu cpu;
    model::Quadratic<float> model(cpu, 4);
    data::Noise<float> noise(4, 1.f + float(net.rank()), unsigned(net.rank()));
    rule::Bsp const rule{.combine = rule::Combine::parameters, .period = 5};
    std::vector<double> told;
    Trainer<transport::Threads, rule::Bsp, device::Cpu>(net, rule, cpu)
        .run(model, noise, plan, [&](event::Step const& e) { told.push_back(e.rate); });
    return told;
  });
  CHECK(answers[0] == answers[1]);
  CHECK(answers[0] == answers[2]);
  CHECK(answers[0].back() < 0.1);
}

}  // namespace
