// SPDX-License-Identifier: Apache-2.0
// From a known start, the mean of the center after t exchanges and its variance have closed forms.
#pragma once

#include <array>
#include <cmath>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/named_case.hpp"

namespace exact {

/// Four workers at 1, -1, 3, 1/2, the center at 2, curvature 1, eta 0.1, alpha 0.225, an exchange a step.
inline constexpr std::array transient_starts{1.0, -1.0, 3.0, 0.5};

/// Runs `steps` steps on copies of that start; the center's copies.
template <class Net, class Data, class MakeData>
std::vector<double> transient(long steps, std::size_t copies, MakeData make_data) {
  return Launch<Net>::run(4, [&](Net& net) -> std::vector<double> {
    device::Cpu cpu;
    model::Quadratic<double> model(cpu, copies);
    Data data = make_data(copies, net.rank());
    set(model.parameters(), std::vector<double>(copies, transient_starts[std::size_t(net.rank())]));
    Trainer<Net, rule::SyncEasgd, device::Cpu, double> trainer(net, {.alpha = .225, .period = 1}, cpu);
    std::vector<double> const center(copies, 2.0);
    trainer.restore("center", Span<double const>(center));
    trainer.run(model, data, {.steps = steps, .sgd = {.learning_rate = .1}, .same_start = false});
    double mean = 0, square = 0;
    for (double c : trainer.state("center")) mean += c / double(copies);
    for (double c : trainer.state("center")) square += (c - mean) * (c - mean) / double(copies);
    return {mean, square};
  })[0];
}

/// E[c_t] = gamma^t c_0 + (gamma^t - phi^t) / (gamma - phi) alpha sum_i (x_i - alpha / (1 - p alpha - phi)
/// c_0)
inline double mean_after(long t) {
  double const alpha = .225, beta = 4 * alpha, a = .1 + alpha + beta, c2 = .1 * beta;
  double const root = std::sqrt(a * a - 4 * c2), gamma = 1 - (a - root) / 2, phi = 1 - (a + root) / 2;
  double u = 0;
  for (double x : transient_starts) u += x - alpha / (1 - beta - phi) * 2;
  double const g = std::pow(gamma, double(t)), f = std::pow(phi, double(t));
  return g * 2 + (g - f) / (gamma - phi) * alpha * u;
}

template <class Net>
void transient_mean() {
  auto const still = [](std::size_t n, int) { return Same<double>{std::vector<double>(n)}; };
  for (auto const& [t, golden] : {std::pair{1L, 0.9875}, {5L, 0.7966289404}, {20L, 0.2337315268}}) {
    double const center = transient<Net, Same<double>>(t, 3, still)[0];
    CAPTURE(t, center);
    CHECK(std::abs(center - golden) < 1e-10);
    CHECK(std::abs(center - mean_after(t)) < 1e-12);
  }
}

template <class Net>
void transient_variance() {
  constexpr std::size_t copies = small ? 20'000 : 500'000;
  double const tolerance = 5 * std::sqrt(2.0 / double(copies));
  auto const signs = [](std::size_t n, int rank) { return Signs<double>(n, 1, 300 + unsigned(rank)); };
  for (auto const& [t, golden] : {std::pair{5L, 0.0052589971}, {20L, 0.0100085475}}) {
    auto const moments = transient<Net, Signs<double>>(t, copies, signs);
    CAPTURE(t, moments[0], moments[1], tolerance);
    CHECK(std::abs(moments[1] / golden - 1) < tolerance);
    CHECK(std::abs(moments[0] - mean_after(t)) < 5 * std::sqrt(golden / double(copies)));
  }
}

/// Polyak and Ruppert: the mean of the center over many exchanges has variance sigma^2 / (p h^2 T), whatever
/// alpha, beta and eta.
template <class Net>
void averaged_center() {
  constexpr std::size_t copies = small ? 500 : 4000;
  constexpr long exchanges = 4000;
  for (double const alpha : {.05, .35}) {
    Answers const answers = Launch<Net>::run(4, [&](Net& net) {
      device::Cpu cpu;
      model::Quadratic<double> model(cpu, copies, 2);
      Signs<double> noise(copies, 1, 40 + unsigned(net.rank()));
      Trainer<Net, rule::SyncEasgd, device::Cpu, double> trainer(net, {.alpha = alpha, .period = 1}, cpu);
      std::vector<double> sum(copies);
      trainer.run(model, noise, {.steps = exchanges, .sgd = {.learning_rate = .1}},
                  [&](event::Exchange const&) {
                    auto const center = trainer.state("center");
                    for (std::size_t i = 0; i < copies; ++i) sum[i] += center[i];
                  });
      double square = 0;
      for (double s : sum) square += s * s / double(copies);
      return std::vector<double>{square / double(exchanges)};
    });
    CAPTURE(alpha, answers[0][0]);
    double const bias = 0.01;  // of order 1 / (exchanges * (1 - slowest mode)): the start is no sample
    CHECK(std::abs(answers[0][0] / 0.0625 - 1) < bias + 5 * std::sqrt(2.0 / double(copies)));
  }
}

template <class Net>
bool add_transient_cases() {
  std::string const net(Net::name);
  auto const add = [&](auto body, char const* name) {
    return support::add_case(body, net + name, "[exact]");
  };
  return add(transient_mean<Net>, ": mean of the center after t exchanges") &&
         add(transient_variance<Net>, ": variance of the center after t exchanges") &&
         add(averaged_center<Net>, ": variance of the average of the center over time");
}

}  // namespace exact
