// SPDX-License-Identifier: Apache-2.0
// From the cost of an exchange to what a user asks: how fast a job is at a period, and which period it needs.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include "elastic/planner/exchange.hpp"
#include "elastic/planner/queue.hpp"

namespace elastic::planner {

struct Prediction {
  Exchange exchange{};
  double period_seconds = 0;     ///< of a worker, from one exchange to the next
  double efficiency = 0;         ///< of what as many workers do that never exchange
  double images_per_second = 0;  ///< of all workers
  double knee = 0;     ///< p*: workers from which on one server is always busy; infinite without one
  double servers = 1;  ///< among which the center had to be split for these workers not to queue
};

/// Of `rule` at its period. A worker's period is the longest of
///
///     tau t + visible + spread sqrt(tau) E[max of p]   itself, and the slowest if all wait for each other;
///                                                      longer if its last delta is not gone by then
///     p service                                        the server
///     p (tau t + cpu) / cores                          the processors, where all processes share them
///
/// Throws ConfigError as rule.check() does.
template <class Rule>
Prediction predict(Rule const& rule, Job const& job, Site const& site) {
  rule.check(job.workers);
  Exchange const e = exchange(rule, job, site);
  double const p = job.workers, computing = double(rule.period) * job.step_seconds;
  double const late =
      e.together ? job.step_spread * std::sqrt(double(rule.period)) * slowest_of(job.workers) : 0;
  double const busy = std::max(0.0, e.after - double(rule.period - e.steps_used) * job.step_seconds);
  double const alone = computing + e.visible + late + busy, service = std::min(e.service, alone);
  double const queued = p / throughput(p, alone - service, service);
  double const crowded = site.cores > 0 ? p * (computing + e.cpu) / site.cores : 0;
  double const period = std::max(queued, crowded);
  double const ideal = computing * (site.cores > 0 ? std::max(1.0, p / site.cores) : 1.0);
  double const most = knee(alone - service, service);
  return {e,
          period,
          ideal / period,
          p * double(rule.period) * job.batch / period,
          most,
          std::max(1.0, std::ceil(p / most - 1e-9))};
}

/// Whether a rule's exchanges can be further apart than a step.
template <class Rule>
bool has_period(Rule const& rule) {
  if constexpr (requires { rule.combine; })
    return rule.combine == rule::Combine::parameters;
  else
    return true;
}

/// The smallest period at which `rule` is as efficient as that, in (0, 1); none up to `most`.
template <class Rule>
std::optional<long> smallest_period(Rule rule, Job const& job, Site const& site, double efficiency,
                                    long most = 1'000'000) {
  auto const reaches = [&](long period) {
    rule.period = period;
    return predict(rule, job, site).efficiency >= efficiency;
  };
  if (reaches(1)) return 1;
  if (!has_period(rule)) return std::nullopt;
  long below = 1, above = 2;
  for (; above <= most && !reaches(above); above *= 2) below = above;
  if (above > most) return std::nullopt;
  while (above - below > 1) {
    long const middle = below + (above - below) / 2;
    (reaches(middle) ? above : below) = middle;
  }
  return above;
}

}  // namespace elastic::planner
