// SPDX-License-Identifier: Apache-2.0
// Rules and options that are the same algorithm under some condition give the same parameters, bit for bit
// where only the order of sums could differ and the transport keeps it.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>

#include "exact/run.hpp"
#include "exact/turns.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"
#include "support/named_case.hpp"

namespace exact {

/// One process on the joined batch of p workers: the gradients of the shards are added in rank order, as an
/// all-reduce adds them, and divided.
template <class T>
class Joined {
 public:
  using scalar = T;
  using device_type = device::Cpu;
  using batch = std::vector<std::vector<T>>;

  Joined(device::Cpu& device, std::size_t n)
      : device_(device), x_(device.allocate<T>(n)), g_(device.allocate<T>(n)), part_(device.allocate<T>(n)) {}
  device::Cpu& device() { return device_; }
  Span<T> parameters() { return x_.span(); }
  Span<T> gradients() { return g_.span(); }
  double gradient(batch const& shards) {
    device_.for_each(ops::Fill{0}, g_.span());
    for (auto const& shard : shards) {
      Bumpy<T>::slope(x_.span(), shard, part_.span());
      device_.for_each(ops::Add{}, g_.span(), part_.span());
    }
    device_.for_each(ops::Scale{1.0 / double(shards.size())}, g_.span());
    return double(g_.span()[0]);
  }

 private:
  device::Cpu& device_;
  device::Cpu::Buffer<T> x_, g_, part_;
};

template <class T>
class JoinedNoise {
 public:
  JoinedNoise(int workers, Setup<T> const& setup) : batch_(std::size_t(workers)) {
    for (int w = 0; w < workers; ++w) noises_.emplace_back(setup.size, T(1), setup.seed + unsigned(w + 1));
  }
  std::vector<std::vector<T>> const& next() {
    for (std::size_t w = 0; w < batch_.size(); ++w) batch_[w] = noises_[w].next();
    return batch_;
  }

 private:
  std::vector<data::Noise<T>> noises_;
  std::vector<std::vector<T>> batch_;
};

/// The parameters of one process that trains on what `workers` workers would.
template <class T>
std::vector<double> train_joined(Plan const& plan, int workers, Setup<T> const& setup = {}) {
  using Net = transport::Serial;
  return Launch<Net>::run(1, [&](Net& net) {
    device::Cpu cpu;
    Joined<T> model(cpu, setup.size);
    JoinedNoise<T> noise(workers, setup);
    set(model.parameters(), setup.start(0));
    Trainer<Net, rule::Bsp, device::Cpu, T>(net, {}, cpu).run(model, noise, plan);
    return values(model.parameters());
  })[0];
}

/// Equal to the last bit, where the transport adds in rank order; otherwise within rounding.
template <class Net>
bool same(std::vector<double> const& a, std::vector<double> const& b, double rounding) {
  return distance(a, b) <= (Launch<Net>::exact_sums ? 0 : rounding);
}

template <class Net>
void bsp_is_one_process_on_the_joined_batch() {
  for (int const workers : {1, 2, 3, 4})
    for (auto const kind : {optimizer::Momentum::heavy_ball, optimizer::Momentum::nesterov}) {
      Plan const plan{
          .steps = 25,
          .sgd = {.learning_rate = .05, .momentum = .9, .momentum_kind = kind, .weight_decay = .01}};
      bool const halves = std::has_single_bit(unsigned(workers));  // then 1 / workers does not round
      CAPTURE(workers, kind == optimizer::Momentum::nesterov);
      auto const bsp = train<Net, float>(rule::Bsp{}, plan, workers);
      auto const joined = train_joined<float>(plan, workers);
      for (auto const& x : bsp.workers) {
        CHECK(distance(x, joined) < 1e-5);
        if (halves) CHECK(same<Net>(x, joined, 1e-5));
      }
      CHECK(distance(joined, train_joined<float>(plan, workers + 1)) > 1e-3);  // the workers do matter
    }
}

/// Mean of parameters at rate p r == sum of velocities at r == mean of gradients at p r, step by step,
/// although the first never exchanges a velocity.
template <class Net>
void three_ways_to_combine_are_one() {
  using rule::Combine;
  constexpr int workers = 4;
  for (long const steps : {1L, 2L, 30L})
    for (double const momentum : {0.0, 0.9}) {
      Plan plan{.steps = steps,
                .sgd = {.learning_rate = .02,
                        .momentum = momentum,
                        .momentum_kind = optimizer::Momentum::heavy_ball,
                        .weight_decay = .01}};
      auto const velocities = train<Net>(rule::Bsp{.combine = Combine::velocities}, plan, workers);
      plan.sgd.learning_rate *= workers;
      auto const gradients = train<Net>(rule::Bsp{.combine = Combine::gradients}, plan, workers);
      auto const parameters = train<Net>(rule::Bsp{.combine = Combine::parameters}, plan, workers);
      auto const joined = train_joined<double>(plan, workers);
      CAPTURE(steps, momentum);
      for (std::size_t w = 0; w < workers; ++w) {
        CHECK(distance(gradients.workers[w], joined) < 1e-12);
        CHECK(distance(parameters.workers[w], joined) < 1e-12);
        CHECK(distance(velocities.workers[w], joined) < 1e-12);
      }
    }
}

/// On a shared quadratic the mean of the workers does not depend on how often it is taken.
template <class Net>
void mean_does_not_depend_on_the_period() {
  constexpr int workers = 4;
  auto const mean = [](long period) {
    auto const answers = Launch<Net>::run(workers, [&](Net& net) {
      device::Cpu cpu;
      model::Quadratic<double> model(cpu, 9, 1.5);
      data::Noise<double> noise(9, 1, 60 + unsigned(net.rank()));
      set(model.parameters(), numbers<double>(9, 3));
      rule::Bsp const rule{.combine = rule::Combine::parameters, .period = period};
      Trainer<Net, rule::Bsp, device::Cpu, double>(net, rule, cpu)
          .run(model, noise, {.steps = 100, .sgd = {.learning_rate = .1}});
      return values(model.parameters());
    });
    std::vector<double> sum(9);
    for (auto const& x : answers)
      for (std::size_t i = 0; i < 9; ++i) sum[i] += x[i] / workers;
    // at 100 the workers of periods 1, 5, 50 have just met; those of 70 have gone apart
    CHECK((distance(answers[0], answers[1]) == 0) == (period != 70));
    return sum;
  };
  auto const expected = mean(1);
  for (long const period : {5, 50, 70}) CHECK(distance(mean(period), expected) < 1e-13);
}

/// alpha = 0: every worker is plain SGD on its own batches, bit for bit, and the center never moves.
template <class Net, class Rule>
void no_force_is_no_exchange() {
  constexpr int workers = 3;
  Setup<float> const setup;
  for (Order const order : {Order::jacobi, Order::post_step}) {
    Plan const plan{.steps = 20, .sgd = {.learning_rate = .1, .momentum = .5}, .same_start = false};
    Rule const rule{.alpha = 0, .period = 2, .order = order};
    Trained const trained = train<Net, float>(rule, plan, workers, setup);
    for (int w = 0; w < workers; ++w) {
      Setup<float> alone = setup;
      alone.seed += unsigned(w);
      alone.start = [&](int) { return setup.start(w); };
      auto const sgd = train<transport::Serial, float>(rule::Bsp{}, plan, 1, alone).workers[0];
      CHECK(distance(trained.workers[std::size_t(w)], sgd) == 0);
    }
    auto const center = setup.center();
    CHECK(distance(trained.center, {center.begin(), center.end()}) == 0);
  }
}

/// alpha = 1/2, one worker, learning rate 0: worker and center both become their mean, exactly.
template <class Net, class Rule>
void half_way_is_the_average() {
  Setup<float> setup;
  setup.start = [](int w) { return whole_numbers<float>(37, unsigned(w + 70)); };
  setup.center = [] { return whole_numbers<float>(37, 4); };
  for (Order const order : {Order::jacobi, Order::post_step}) {
    Plan const plan{.steps = 1, .sgd = {.learning_rate = 0}, .same_start = false};
    Trained const trained = train<Net, float>(Rule{.alpha = .5, .period = 1, .order = order}, plan, 1, setup);
    std::vector<double> mean(37);
    for (std::size_t i = 0; i < 37; ++i) mean[i] = double(setup.start(0)[i] + setup.center()[i]) / 2;
    CHECK(distance(trained.workers[0], mean) == 0);
    CHECK(distance(trained.center, mean) == 0);
  }
}

/// alpha = 1 / (p + 1), learning rate 0: after one exchange the center is the mean of everybody.
template <class Net>
void consensus_in_one_exchange() {
  constexpr int workers = 3;  // alpha = 1/4
  Setup<float> setup;
  setup.start = [](int w) { return whole_numbers<float>(37, unsigned(w + 70)); };
  setup.center = [] { return whole_numbers<float>(37, 4); };
  for (Order const order : {Order::jacobi, Order::post_step}) {
    Plan const plan{.steps = 1, .sgd = {.learning_rate = 0}, .same_start = false};
    Trained const trained =
        train<Net, float>(rule::SyncEasgd{.alpha = .25, .period = 1, .order = order}, plan, workers, setup);
    std::vector<double> mean(37);
    for (std::size_t i = 0; i < 37; ++i) {
      mean[i] = double(setup.center()[i]) / 4;
      for (int w = 0; w < workers; ++w) mean[i] += double(setup.start(w)[i]) / 4;
    }
    CHECK(distance(trained.center, mean) == 0);
  }
}

/// Momentum 0 is plain SGD under either name.
template <class Net, class Rule>
void momentum_0_is_plain() {
  using optimizer::Momentum;
  Plan plan{.steps = 15, .sgd = {.learning_rate = .1, .weight_decay = .01}};
  auto const run = [&](double momentum, Momentum kind) {
    plan.sgd.momentum = momentum;
    plan.sgd.momentum_kind = kind;
    return train<Net, float>(Rule{.period = 3}, plan, 1).workers[0];
  };
  auto const plain = run(0, Momentum::heavy_ball);
  CHECK(distance(plain, run(0, Momentum::nesterov)) == 0);
  CHECK(distance(plain, run(0.1, Momentum::heavy_ball)) > 1e-3);
  CHECK(distance(run(.5, Momentum::nesterov), run(.5, Momentum::heavy_ball)) > 1e-3);
}

/// One worker with a server does what one worker with its own copy of the center does, bit for bit.
template <class Net>
void one_asynchronous_worker_is_synchronous() {
  Plan const plan{.steps = 20, .sgd = {.learning_rate = .1, .momentum = .5}, .same_start = false};
  for (Order const order : {Order::jacobi, Order::post_step})
    for (long const period : {1L, 3L}) {
      CAPTURE(order == Order::jacobi, period);
      auto const async =
          train<Net, float>(rule::AsyncEasgd{.alpha = .3, .period = period, .order = order}, plan, 1);
      auto const sync =
          train<Net, float>(rule::SyncEasgd{.alpha = .3, .period = period, .order = order}, plan, 1);
      CHECK(distance(async.workers[0], sync.workers[0]) == 0);
      CHECK(distance(async.center, sync.center) == 0);
    }
}

/// Equations 5 and 6 of the paper, and the other order, written out for three workers.
template <class Net>
void synchronous_rule_is_the_papers() {
  constexpr int workers = 3;
  constexpr double alpha = .2, eta = .1;
  constexpr long period = 2, steps = 9;
  Setup<double> const setup;
  for (Order const order : {Order::jacobi, Order::post_step}) {
    std::vector<std::vector<double>> x(workers);
    std::vector<data::Noise<double>> noise;
    auto c = setup.center();
    for (int w = 0; w < workers; ++w) {
      x[std::size_t(w)] = setup.start(w);
      noise.emplace_back(setup.size, 1, setup.seed + unsigned(w + 1));
    }
    for (long t = 0; t < steps; ++t) {
      bool const before = order == Order::jacobi && t % period == 0;
      bool const after = order == Order::post_step && (t + 1) % period == 0;
      auto const elastic = [&](auto const& seen) {
        auto const old = c;
        for (std::size_t w = 0; w < workers; ++w)
          for (std::size_t i = 0; i < c.size(); ++i) {
            x[w][i] -= alpha * (seen[w][i] - old[i]);
            c[i] += alpha * (seen[w][i] - old[i]);
          }
      };
      auto const start = x;
      for (std::size_t w = 0; w < workers; ++w) {
        auto const& xi = noise[w].next();
        for (std::size_t i = 0; i < c.size(); ++i)
          x[w][i] -= eta * (std::sin(start[w][i]) / 2 + start[w][i] - xi[i]);
      }
      if (before) elastic(start);
      if (after) elastic(std::vector(x));
    }
    Plan const plan{.steps = steps, .sgd = {.learning_rate = eta}, .same_start = false};
    rule::SyncEasgd const rule{.alpha = alpha, .period = period, .order = order};
    Trained const trained = train<Net>(rule, plan, workers, setup);
    for (std::size_t w = 0; w < workers; ++w) CHECK(distance(trained.workers[w], x[w]) < 1e-13);
    CHECK(distance(trained.center, c) < 1e-13);
  }
}

template <class Net>
bool add_equivalence_cases() {
  using rule::AsyncEasgd, rule::SyncEasgd;
  std::string const net(Net::name);
  auto const add = [&](auto body, char const* name) {
    return support::add_case(body, net + name, "[exact]");
  };
  return add(bsp_is_one_process_on_the_joined_batch<Net>, ": BSP is one process on the joined batch") &&
         add(three_ways_to_combine_are_one<Net>, ": gradients, parameters, velocities are one") &&
         add(mean_does_not_depend_on_the_period<Net>, ": local SGD's mean on a shared quadratic") &&
         add(no_force_is_no_exchange<Net, SyncEasgd>, ": alpha 0, synchronous, is plain SGD") &&
         add(no_force_is_no_exchange<Net, AsyncEasgd>, ": alpha 0, asynchronous, is plain SGD") &&
         add(half_way_is_the_average<Net, SyncEasgd>, ": alpha 1/2, synchronous, is the average") &&
         add(half_way_is_the_average<Net, AsyncEasgd>, ": alpha 1/2, asynchronous, is the average") &&
         add(consensus_in_one_exchange<Net>, ": alpha 1/(p+1) is consensus in one exchange") &&
         add(momentum_0_is_plain<Net, SyncEasgd>, ": momentum 0, synchronous, is plain SGD") &&
         add(momentum_0_is_plain<Net, AsyncEasgd>, ": momentum 0, asynchronous, is plain SGD") &&
         add(one_asynchronous_worker_is_synchronous<Net>, ": one asynchronous worker is a synchronous one") &&
         add(synchronous_rule_is_the_papers<Net>, ": synchronous EASGD is the paper's recurrence");
}

}  // namespace exact
