// SPDX-License-Identifier: Apache-2.0
// How n values are dealt to p ranks, and what an all-reduce built on that moves.
#pragma once

#include <cstddef>

namespace elastic::transport::detail {

/// Where the share of `part` begins when `n` values are dealt to `parts` in order, as evenly as possible. The
/// share of the last one ends at share_begin(n, parts, parts) == n.
constexpr std::size_t share_begin(std::size_t n, std::size_t parts, std::size_t part) {
  return n / parts * part + n % parts * part / parts;
}

/// Values one rank sends in a direct all-reduce: reduce-scatter (every other rank's share goes to its owner),
/// then all-gather (the rank's own share goes to every other rank). Over all ranks that is 2 (p - 1) n.
constexpr std::size_t all_reduce_values(std::size_t n, int ranks, int rank) {
  auto const p = static_cast<std::size_t>(ranks);
  auto const r = static_cast<std::size_t>(rank);
  std::size_t const own = share_begin(n, p, r + 1) - share_begin(n, p, r);
  return (n - own) + (p - 1) * own;
}

}  // namespace elastic::transport::detail
