// SPDX-License-Identifier: Apache-2.0
// What ranks have measured of the same rounds, put together: times are those of the slowest rank.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "elastic/span.hpp"
#include "elastic/traffic.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The value below which a share of `values` lies.
inline double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  auto const at = static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5);
  auto const found = values.begin() + static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), found, values.end());
  return *found;
}

/// One rank's view.
struct Seen {
  std::vector<double> rounds;  ///< seconds of each; none of a server
  double waiting = 0;          ///< seconds a round until the others had come
  double allocations = 0;      ///< of memory, in a usual round
  elastic::Traffic traffic{};  ///< of the whole run
  double steps = 1;            ///< of the whole run, those included whose times do not count
  double exchanges = 0;        ///< of a worker in the whole run
  double wrong = 0;            ///< above 0: the data is not what it should be
};

/// All ranks' view.
struct Outcome {
  double seconds = 0, p50 = 0, p99 = 0;  ///< of a round
  double waiting = 0, allocations = 0;
  double bytes = 0, messages = 0;  ///< a round, sent by all ranks together
  double exchanges = 0;            ///< a round, of one worker
  double hidden = std::numeric_limits<double>::quiet_NaN();
  double bare = hidden;  ///< seconds of a step without the rule
  long rounds = 0;
  bool right = true;
};

/// Everybody's numbers, by rank: sums of vectors in which each rank has a place of its own.
template <class Net>
std::vector<double> gather(Net& net, std::vector<double> const& mine) {
  std::size_t const n = mine.size();
  std::vector<double> all(n * static_cast<std::size_t>(net.size()));
  std::copy(mine.begin(), mine.end(),
            all.begin() + static_cast<std::ptrdiff_t>(n * static_cast<std::size_t>(net.rank())));
  net.all_reduce(elastic::Span<double>(all));
  return all;
}
template <class Net>
double largest(Net& net, double mine) {
  auto const all = gather(net, {mine});
  return *std::max_element(all.begin(), all.end());
}
template <class Net>
double total(Net& net, double mine) {
  double sum = 0;
  for (double const one : gather(net, {mine})) sum += one;
  return sum;
}

template <class Net>
Outcome together(Net& net, Seen const& seen, long rounds) {
  Outcome out;
  out.rounds = rounds;
  double mine = 0;
  for (double const s : seen.rounds) mine += s / static_cast<double>(seen.rounds.size());
  out.seconds = largest(net, mine);
  out.waiting = largest(net, seen.waiting);
  out.allocations = largest(net, seen.allocations);
  double const steps = largest(net, seen.steps);
  out.exchanges = largest(net, seen.exchanges) / steps;
  out.bytes = total(net, static_cast<double>(seen.traffic.sent_bytes)) / steps;
  out.messages = total(net, static_cast<double>(seen.traffic.sent_messages)) / steps;
  out.right = total(net, seen.wrong) == 0;
  std::vector<double> padded = seen.rounds;  // a rank without rounds takes part in the gathering
  padded.resize(static_cast<std::size_t>(rounds), -1);
  std::vector<double> all = gather(net, padded);
  std::erase_if(all, [](double s) { return s < 0; });
  out.p50 = quantile(all, 0.5);
  out.p99 = quantile(all, 0.99);
  return out;
}

}  // namespace bench
