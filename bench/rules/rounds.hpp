// SPDX-License-Identifier: Apache-2.0
// One rule, run by the Trainer for a number of rounds on a model whose gradient costs nothing or a known time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "../transports/free_model.hpp"
#include "../transports/values.hpp"
#include "allocations.hpp"
#include "elastic/compose.hpp"
#include "elastic/train.hpp"
#include "outcome.hpp"

namespace bench {

/// Does it pull its workers to a center? If not, a round is a sum of gradients.
template <class Rule>
concept Elastic = requires(Rule rule) {
  rule.alpha;
};
template <class Rule>
concept Ordered = requires(Rule rule) {
  rule.order;
};

/// Stable even if all workers read the same center.
template <class Rule>
Rule with_period(long period, int ranks) {
  Rule rule{};
  if constexpr (Elastic<Rule>) {
    rule.alpha = 0.5 / ranks;
    rule.period = period;
  }
  return rule;
}

/// Batches that are nothing but the moments at which they were asked for.
class Moments {
 public:
  explicit Moments(long most) {
    times_.reserve(static_cast<std::size_t>(most));
    allocated_.reserve(static_cast<std::size_t>(most));
  }
  int const& next() {
    times_.push_back(Clock::now());
    allocated_.push_back(allocations.load(std::memory_order_relaxed));
    return nothing_;
  }
  /// Seconds between moments but the first two, between which the ranks have found together.
  std::vector<double> seconds() const {
    std::vector<double> found;
    for (std::size_t k = 2; k < times_.size(); ++k)
      found.push_back(std::chrono::duration<double>(times_[k] - times_[k - 1]).count());
    return found;
  }
  double usual_allocations() const {
    std::vector<double> found;
    for (std::size_t k = 2; k < allocated_.size(); ++k)
      found.push_back(static_cast<double>(allocated_[k] - allocated_[k - 1]));
    return quantile(std::move(found), 0.5);
  }

 private:
  int nothing_ = 0;
  std::vector<Clock::time_point> times_;
  std::vector<long> allocated_;
};

inline std::vector<float> filled(std::size_t n, int rank) {
  std::vector<float> x(n);
  fill(x.data(), n, rank);
  return x;
}
template <class Dev>
std::vector<float> host_copy(Dev& device, elastic::Span<float const, typename Dev::memory> x) {
  std::vector<float> values(x.size());
  device.download(x, elastic::Span<float>(values));
  return values;
}

/// The sum of all | x_i - y_i |.
inline double distance(std::vector<float> const& x, std::vector<float> const& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += std::abs(double(x[i]) - double(y[i]));
  return sum;
}

/// Whether only exchanges have moved anything, and have: the sum of center and workers is what it was, every value
/// lies between those that there were at the start, and workers have left their places.
template <class Net>
double wrong_elastic(Net& net, bool works, std::vector<float> const& x, std::vector<float> const& center) {
  std::size_t const n = x.size();
  auto const start = filled(n, net.rank()), start_center = filled(n, net.size());
  bool const holds = net.rank() == 0;
  double const before =
      total(net, (works ? sum(start.data(), n) : 0) + (holds ? sum(start_center.data(), n) : 0));
  double const after = total(net, (works ? sum(x.data(), n) : 0) + (holds ? sum(center.data(), n) : 0));
  auto const [least, most] = std::minmax_element(x.begin(), x.end());
  bool const between = *least > 0.99f && *most < 16.01f;  // false with a NaN
  bool const moved = !works || distance(x, start) > 0.01 * distance(start, start_center);
  return std::abs(after - before) <= 1e-5 * before && between && moved ? 0 : 1;
}

/// `rounds` steps with a gradient of `work` and, if `moves`, a local step of rate 0.
template <class Net, class Rule, class Dev>
Seen run_rounds(Net& net, Rule const& rule, Dev& device, std::size_t bytes, long rounds,
                std::function<void()> const& work = {}, bool moves = false) {
  using namespace elastic;
  std::size_t const n = bytes / sizeof(float);
  FreeModel<Dev> model(device, n, {}, moves);
  auto const mine = filled(n, net.rank());
  device.upload(Span<float const>(mine), model.parameters());
  auto const own = device.template allocate<float>(n);
  device.upload(Span<float const>(mine), own.span());
  device.upload(Span<float const>(mine), model.gradients());
  model.work([&] {
    if (work) work();
    if constexpr (!Elastic<Rule>)
      device.copy(own.span(), model.gradients());  // what was summed is written again
  });
  Trainer<Net, Rule, Dev> trainer(net, rule, device);
  if constexpr (Elastic<Rule>) {
    auto const center = filled(n, net.size());
    trainer.restore("center", Span<float const>(center));
  }
  Moments moments(rounds + 2);
  net.barrier();
  auto const report = trainer.run(
      model, moments, Plan{.steps = rounds + 2, .sgd = {.learning_rate = 0}, .same_start = false});
  bool const works = report.role == Role::worker;
  Seen seen;
  seen.rounds = moments.seconds();
  seen.waiting = works ? report.seconds.waiting / static_cast<double>(rounds + 2) : 0;
  seen.allocations = moments.usual_allocations();
  seen.traffic = report.traffic;
  seen.steps = static_cast<double>(rounds + 2);
  seen.exchanges = works ? static_cast<double>(report.exchanges) : 0;
  if constexpr (Elastic<Rule>)
    seen.wrong = wrong_elastic(net, works, host_copy(device, elastic::read(model.parameters())),
                               host_copy(device, trainer.state("center")));
  else
    seen.wrong = is_sum(host_copy(device, elastic::read(model.gradients())).data(), n, net.size()) ? 0 : 1;
  return seen;
}

/// Seconds of each of so many calls, the same arithmetic on all ranks at once.
template <class Net>
std::vector<double> alone(Net& net, Work& work, long calls) {
  std::vector<double> seconds;
  net.barrier();
  for (long k = 0; k < calls; ++k) {
    auto const start = Clock::now();
    work.run([] {});
    seconds.push_back(seconds_since(start));
  }
  return seconds;
}

/// Arithmetic of about so many seconds where nothing disturbs it, the same number of operations on all ranks.
template <class Net>
Work work_of(Net& net, double seconds) {
  constexpr long rounds = 500;
  Work small(1, rounds);
  double const unit = largest(net, quantile(alone(net, small, 30), 0)) / rounds;
  return Work(1, std::max(1L, static_cast<long>(seconds / unit)));
}

/// A round of a rule, its gradient for nothing. In the jacobi order also with a gradient about as long as the
/// exchange: the share of the exchange that the gradient hides is (gradient + exchange - both) / exchange, of medians.
template <class Net, class Rule, class Dev>
Outcome round(Net& net, Rule const& rule, Dev& device, std::size_t bytes, long rounds, bool hides) {
  Outcome out = together(net, run_rounds(net, rule, device, bytes, rounds), rounds);
  if (hides) {
    Work gradient = work_of(net, std::clamp(out.p50, 20e-6, 20e-3));
    Work nothing(0);
    bool const works = !(elastic::Served<Rule, Net, Dev> && net.rank() == 0);
    double const computing =
        largest(net, quantile(alone(net, works ? gradient : nothing, std::min(rounds, 100L)), 0.5));
    auto const both =
        together(net, run_rounds(net, rule, device, bytes, rounds, [&] { gradient.run([] {}); }), rounds);
    out.hidden = (computing + out.p50 - both.p50) / out.p50;
    out.right = out.right && both.right;
  }
  return out;
}

}  // namespace bench
