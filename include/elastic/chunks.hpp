// SPDX-License-Identifier: Apache-2.0
// How an all-reduce cuts a vector: rank j sums chunk j, then everybody gathers the sums.
#pragma once

#include <algorithm>
#include <cstddef>

namespace elastic {

struct Chunk {
  std::size_t first;
  std::size_t count;
};

/// Chunk `j` of `n` values cut for `ranks` ranks; sizes differ by at most one, any `n` and any `ranks` work.
constexpr Chunk chunk(std::size_t n, int ranks, int j) {
  auto const p = std::size_t(ranks), i = std::size_t(j);
  std::size_t const small = n / p, larger = n % p;
  return {i * small + std::min(i, larger), small + (i < larger ? 1 : 0)};
}

/// Values that rank `r` sends in one all-reduce: the others' chunks, then its own sum to each of them.
constexpr std::size_t all_reduce_sent(std::size_t n, int ranks, int r) {
  std::size_t const own = chunk(n, ranks, r).count;
  return (n - own) + std::size_t(ranks - 1) * own;
}

}  // namespace elastic
