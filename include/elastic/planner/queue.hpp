// SPDX-License-Identifier: Apache-2.0
// What contention costs, without a simulation: workers queue at a server, or wait for the slowest.
#pragma once

#include <algorithm>
#include <cmath>

namespace elastic::planner {

/// Exchanges per second of `workers` that each think for `think` seconds and then keep the one server busy
/// for `service`: the bound of a closed queue, reached where both times are always the same.
///
///     X = min(p / (Z + S), 1 / S)
///
/// Lazowska et al., Quantitative System Performance, 1984, section 5.2.
inline double throughput(double workers, double think, double service) {
  double const alone = workers / (think + service);
  return service > 0 ? std::min(alone, 1 / service) : alone;
}

/// Workers from which on the server is always busy: p* = 1 + Z / S; infinite if it does nothing.
inline double knee(double think, double service) { return service > 0 ? 1 + think / service : INFINITY; }

/// The expected maximum of `workers` standard normal numbers: how many standard deviations the slowest of
/// them is late. 0 for one, 1/sqrt(pi) for two.
inline double slowest_of(int workers) {
  // E max = integral over x > 0 of 1 - F(x)^p - F(-x)^p, by the midpoint rule
  constexpr double end = 9, width = 1e-3;
  double sum = 0;
  for (double x = width / 2; x < end; x += width) {
    double const below = std::erfc(x / std::sqrt(2.0)) / 2;
    sum += 1 - std::pow(1 - below, workers) - std::pow(below, workers);
  }
  return sum * width;
}

}  // namespace elastic::planner
