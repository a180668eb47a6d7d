// SPDX-License-Identifier: Apache-2.0
// The local step against recurrences written by hand, bit for bit. Multiplications and additions are passes
// of their own on both sides' terms where a compiler may fuse them; numbers are such that fusing changes
// nothing.
#include "elastic/optimizer/sgd.hpp"

#include <random>
#include <vector>

#include "elastic/device/cpu.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"

namespace {

using namespace elastic;
using optimizer::Momentum;

/// Small multiples of 1/8: products of two of them and a rate that is a power of two are exact for some
/// steps.
template <class T>
std::vector<T> eighths(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> uniform(-16, 16);
  std::vector<T> values(n);
  for (T& v : values) v = T(uniform(random)) / 8;
  return values;
}

/// Gradient x / 2 + batch, at wherever x is, and the parameters in groups.
template <class T>
struct Slope {
  using scalar = T;
  using device_type = device::Cpu;
  using batch = std::vector<T>;
  Slope(device::Cpu& cpu, std::vector<ParameterGroup> parts, std::size_t n)
      : device_(cpu), x_(cpu.allocate<T>(n)), g_(cpu.allocate<T>(n)), groups_(std::move(parts)) {}
  device::Cpu& device() { return device_; }
  Span<T> parameters() { return x_.span(); }
  Span<T> gradients() { return g_.span(); }
  std::vector<ParameterGroup> const& groups() const { return groups_; }
  double gradient(batch const& b) {
    for (std::size_t i = 0; i < b.size(); ++i) g_.span()[i] = x_.span()[i] / 2 + b[i];
    return 1;
  }

 private:
  device::Cpu& device_;
  device::Cpu::Buffer<T> x_, g_;
  std::vector<ParameterGroup> groups_;
};

template <class T>
struct Batches {
  std::size_t n;
  unsigned seed = 10;
  std::vector<T> now{};
  std::vector<T> const& next() { return now = eighths<T>(n, seed++); }
};

constexpr std::size_t n = 29;

template <class T>
std::vector<T> trained(optimizer::Sgd const& sgd, long steps, std::vector<ParameterGroup> groups) {
  transport::Serial net;
  device::Cpu cpu;
  Slope<T> model(cpu, std::move(groups), n);
  Batches<T> batches{n};
  auto const start = eighths<T>(n, 1);
  for (std::size_t i = 0; i < n; ++i) model.parameters()[i] = start[i];
  Trainer<transport::Serial, rule::Bsp, device::Cpu, T>(net, {}, cpu)
      .run(model, batches, {.steps = steps, .sgd = sgd});
  return {model.parameters().begin(), model.parameters().end()};
}

std::vector<ParameterGroup> all_weights() { return {{0, n, ParameterKind::weight}}; }

TEMPLATE_TEST_CASE("plain SGD, heavy ball and Nesterov are their recurrences", "", float, double) {
  using T = TestType;
  constexpr long steps = sizeof(T) == 8 ? 8 : 3;  // each step needs four more bits
  T const rate = T(0.25), m = T(0.5);
  for (int kind = 0; kind < 3; ++kind) {
    auto x = eighths<T>(n, 1);
    std::vector<T> v(n);
    Batches<T> batches{n};
    for (long t = 0; t < steps; ++t) {
      auto const& b = batches.next();
      for (std::size_t i = 0; i < n; ++i) {
        if (kind == 0) {
          x[i] = x[i] - rate * (x[i] / 2 + b[i]);
        } else if (kind == 1) {
          v[i] = m * v[i] - rate * (x[i] / 2 + b[i]);
          x[i] = x[i] + v[i];
        } else {  // v <- m v - rate g(x + m v);  x <- x + v
          v[i] = m * v[i] - rate * ((x[i] + m * v[i]) / 2 + b[i]);
          x[i] = x[i] + v[i];
        }
      }
    }
    CAPTURE(kind);
    CHECK(trained<T>({.learning_rate = double(rate),
                      .momentum = kind == 0 ? 0 : double(m),
                      .momentum_kind = kind == 1 ? Momentum::heavy_ball : Momentum::nesterov},
                     steps, all_weights()) == x);
  }
}

TEST_CASE("a step that subtracts on its way is the step and a subtraction") {
  device::Cpu cpu;
  for (optimizer::Sgd const& sgd : {optimizer::Sgd{}, optimizer::Sgd{.momentum = 0.5},
                                    optimizer::Sgd{.momentum = 0.5, .momentum_kind = Momentum::heavy_ball}}) {
    auto x = eighths<double>(9, 1), v = eighths<double>(9, 2), g = eighths<double>(9, 3),
         d = eighths<double>(9, 4);
    auto expected_x = x, expected_v = v;
    ParameterGroup const middle{2, 5, ParameterKind::weight};
    optimizer::LocalStep<device::Cpu, double>(cpu, sgd, Span<double>(expected_x), Span<double>(expected_v))
        .apply(Span<double>(g), 0.25, middle);
    for (std::size_t i = 2; i < 7; ++i) expected_x[i] -= d[i];
    optimizer::LocalStep<device::Cpu, double>(cpu, sgd, Span<double>(x), Span<double>(v))
        .apply(Span<double>(g), 0.25, middle, 1, Span<double>(d));
    CHECK(x == expected_x);
    CHECK(v == expected_v);
  }
}

TEST_CASE("the elastic force moves parameters of no tensor, too") {
  for (bool const all : {true, false}) {
    transport::Serial net;
    device::Cpu cpu;
    Slope<double> model(cpu, {{all ? 0u : 2u, all ? n : 5u, ParameterKind::weight}}, n);
    auto const start = eighths<double>(n, 1), center = eighths<double>(n, 2);
    std::copy(start.begin(), start.end(), model.parameters().data());
    Trainer<transport::Serial, rule::SyncEasgd, device::Cpu, double> trainer(
        net, {.alpha = 0.25, .period = 1}, cpu);
    trainer.restore("center", Span<double const>(center));
    Batches<double> batches{n};
    trainer.run(model, batches, Plan{.steps = 1, .sgd = {.learning_rate = 0}, .same_start = false});
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(model.parameters()[i] == start[i] - (start[i] - center[i]) / 4);
      CHECK(trainer.state("center")[i] == center[i] + (start[i] - center[i]) / 4);
    }
  }
}

TEST_CASE("weight decay and the biases' rate go by the kind of a parameter") {
  using T = double;
  std::vector<ParameterGroup> const groups{
      {0, 10, ParameterKind::weight}, {10, 9, ParameterKind::bias}, {19, 10, ParameterKind::normalization}};
  for (bool const decay_biases : {false, true})
    for (double const momentum : {0.0, 0.5}) {
      optimizer::Sgd const sgd{.learning_rate = 0.25,
                               .momentum = momentum,
                               .momentum_kind = Momentum::heavy_ball,
                               .weight_decay = 0.125,
                               .decay_biases = decay_biases,
                               .bias_rate = 2};
      auto x = eighths<T>(n, 1);
      std::vector<T> v(n);
      Batches<T> batches{n};
      for (int t = 0; t < 4; ++t) {
        auto const& b = batches.next();
        for (std::size_t i = 0; i < n; ++i) {
          bool const weight = i < 10, bias = i >= 10 && i < 19;
          T const decay = weight || decay_biases ? 0.125 : 0, rate = bias ? 0.5 : 0.25;
          v[i] = momentum * v[i] - rate * (x[i] / 2 + b[i] + decay * x[i]);
          x[i] = x[i] + v[i];
        }
      }
      CAPTURE(decay_biases, momentum);
      CHECK(trained<T>(sgd, 4, groups) == x);
    }
}

TEST_CASE("Nesterov's weight decay acts where the gradient is taken") {
  using T = double;
  auto x = eighths<T>(n, 1);
  std::vector<T> v(n);
  Batches<T> batches{n};
  for (int t = 0; t < 4; ++t) {
    auto const& b = batches.next();
    for (std::size_t i = 0; i < n; ++i) {
      T const ahead = x[i] + 0.5 * v[i];
      v[i] = 0.5 * v[i] - 0.25 * (ahead / 2 + b[i] + 0.125 * ahead);
      x[i] = x[i] + v[i];
    }
  }
  CHECK(trained<T>({.learning_rate = 0.25, .momentum = 0.5, .weight_decay = 0.125}, 4, all_weights()) == x);
}

TEST_CASE("velocities are not summed while looking ahead") {
  transport::Serial net;
  device::Cpu cpu;
  Slope<float> model(cpu, all_weights(), n);
  Batches<float> batches{n};
  Trainer<transport::Serial, rule::Bsp, device::Cpu> trainer(net, {.combine = rule::Combine::velocities},
                                                             cpu);
  CHECK_THROWS_AS(trainer.run(model, batches, {.steps = 1, .sgd = {.momentum = 0.5}}), ConfigError);
}

}  // namespace
