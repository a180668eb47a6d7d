// SPDX-License-Identifier: Apache-2.0
// Data of which it is known what any number of sums, means and exchanges makes of it.
#pragma once

#include <bit>
#include <cstddef>

namespace bench {

/// Small whole numbers that differ by rank and place: sums and doublings of them are exact.
inline float value(int rank, std::size_t i) {
  return static_cast<float>(1 + ((i ^ (i >> 4) ^ (static_cast<std::size_t>(rank) * 5)) & 15));
}
inline void fill(float* x, std::size_t n, int rank) {
  for (std::size_t i = 0; i < n; ++i) x[i] = value(rank, i);
}
inline double sum(float const* x, std::size_t n) {
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) total += double(x[i]);
  return total;
}

/// All-reduces of one vector again and again grow it by the number of ranks each time: right to the bit?
inline bool is_all_reduced(float const* x, std::size_t n, int ranks, int calls) {
  float scale = 1;
  for (int k = 1; k < calls; ++k) scale *= static_cast<float>(ranks);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    float all = 0;
    for (int r = 0; r < ranks; ++r) all += value(r, i);
    wrong += x[i] != all * scale;
  }
  return wrong == 0;
}
/// Calls until the largest float would overflow.
inline int all_reduces_in_range(int ranks) { return 110 / std::bit_width(static_cast<unsigned>(ranks - 1)); }

/// Whether every value is the sum of what the ranks were filled with.
inline bool is_sum(float const* x, std::size_t n, int ranks) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    float all = 0;
    for (int r = 0; r < ranks; ++r) all += value(r, i);
    wrong += x[i] != all;
  }
  return wrong == 0;
}

}  // namespace bench
