// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the collectives in shared memory: sums in rank order, written wherever they are wanted in
// the same pass.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

// Sources and destinations are equal or apart, never shifted, so the loops have no dependency to look for.
#if defined(__clang__)
// A build that asks for no vectors (-O1) needs no warning that it got none.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed"
#define ELASTIC_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define ELASTIC_INDEPENDENT _Pragma("GCC ivdep")
#else
#define ELASTIC_INDEPENDENT
#endif

namespace elastic::transport::detail {

/// The sources of a sum, in rank order, and its destinations, which may be sources.
struct Terms {
  std::vector<std::byte const*> from;
  std::vector<std::byte*> to;

  void clear() {
    from.clear();
    to.clear();
  }
};

template <class T, std::size_t Sources, std::size_t Destinations>
void sum_at_once(Terms const& terms, std::size_t n) {
  std::array<T const*, Sources> from;
  std::array<T*, Destinations> to;
  for (std::size_t r = 0; r < Sources; ++r) from[r] = reinterpret_cast<T const*>(terms.from[r]);
  for (std::size_t d = 0; d < Destinations; ++d) to[d] = reinterpret_cast<T*>(terms.to[d]);
  ELASTIC_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) {
    T sum = from[0][i] + from[1][i];
    for (std::size_t r = 2; r < Sources; ++r) sum += from[r][i];
    for (std::size_t d = 0; d < Destinations; ++d) to[d][i] = sum;
  }
}

template <class T>
void sum_by_blocks(Terms const& terms, std::size_t n) {
  std::array<T, 1024> sum;  // stays in L1
  for (std::size_t first = 0; first < n; first += sum.size()) {
    std::size_t const count = std::min(sum.size(), n - first);
    auto const term = [&](std::size_t r) { return reinterpret_cast<T const*>(terms.from[r]) + first; };
    T const* const a = term(0);
    T const* const b = term(1);
    for (std::size_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
    for (std::size_t r = 2; r < terms.from.size(); ++r) {
      T const* const c = term(r);
      for (std::size_t i = 0; i < count; ++i) sum[i] += c[i];
    }
    for (std::byte* const to : terms.to) std::memcpy(to + first * sizeof(T), sum.data(), count * sizeof(T));
  }
}

/// to[...] = from[0] + from[1] + ... in this order, `n` values of T each. At least two sources.
template <class T>
void sum_in_order(Terms const& terms, std::size_t n) {
  auto const shaped = [&](std::size_t sources, std::size_t destinations) {
    return terms.from.size() == sources && terms.to.size() == destinations;
  };
  if (shaped(2, 1)) return sum_at_once<T, 2, 1>(terms, n);
  if (shaped(2, 2)) return sum_at_once<T, 2, 2>(terms, n);
  if (shaped(3, 3)) return sum_at_once<T, 3, 3>(terms, n);
  if (shaped(4, 4)) return sum_at_once<T, 4, 4>(terms, n);
  sum_by_blocks<T>(terms, n);
}

template <class T, std::size_t Count>
void add_sum_at_once(Terms const& terms, double gain, std::size_t n) {
  std::array<T const*, Count> from;
  std::array<T*, Count> to;
  for (std::size_t r = 0; r < Count; ++r) from[r] = reinterpret_cast<T const*>(terms.from[r]);
  for (std::size_t d = 0; d < Count; ++d) to[d] = reinterpret_cast<T*>(terms.to[d]);
  T const by = T(gain);
  ELASTIC_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) {
    T sum = from[0][i];
    for (std::size_t r = 1; r < Count; ++r) sum += from[r][i];
    for (std::size_t d = 0; d < Count; ++d) to[d][i] += by * sum;
  }
}

/// to[...] += gain * (from[0] + from[1] + ...), added in this order, `n` values of T each; sources and destinations are
/// apart.
template <class T>
void add_sum_in_order(Terms const& terms, double gain, std::size_t n) {
  auto const shaped = [&](std::size_t count) {
    return terms.from.size() == count && terms.to.size() == count;
  };
  if (shaped(1)) return add_sum_at_once<T, 1>(terms, gain, n);
  if (shaped(2)) return add_sum_at_once<T, 2>(terms, gain, n);
  if (shaped(3)) return add_sum_at_once<T, 3>(terms, gain, n);
  if (shaped(4)) return add_sum_at_once<T, 4>(terms, gain, n);
  std::array<T, 1024> sum;  // stays in L1
  for (std::size_t first = 0; first < n; first += sum.size()) {
    std::size_t const count = std::min(sum.size(), n - first);
    auto const term = [&](std::size_t r) { return reinterpret_cast<T const*>(terms.from[r]) + first; };
    std::copy_n(term(0), count, sum.data());
    for (std::size_t r = 1; r < terms.from.size(); ++r) {
      T const* const c = term(r);
      for (std::size_t i = 0; i < count; ++i) sum[i] += c[i];
    }
    for (std::byte* const to : terms.to) {
      T* const y = reinterpret_cast<T*>(to) + first;
      for (std::size_t i = 0; i < count; ++i) y[i] += T(gain) * sum[i];
    }
  }
}

}  // namespace elastic::transport::detail

#undef ELASTIC_INDEPENDENT
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
