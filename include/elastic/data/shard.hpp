// SPDX-License-Identifier: Apache-2.0
// Who reads which sample when: one permutation an epoch, the same on every rank, cut into equal parts. The
// same bits on every machine and standard library, which std::shuffle and std distributions do not promise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "elastic/error.hpp"

namespace elastic::data {

/// Random bits that depend on nothing but (seed, stream, index): SplitMix64 (Steele, Lea and Flood 2014).
/// Cheap to start, so that every image of every epoch can have a generator of its own.
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t index = 0)
      : state_(mix(mix(mix(seed) + stream) + index)) {}

  std::uint64_t operator()() { return mix(state_ += golden); }

  /// Uniform in 0 ... n-1, without bias; n > 0.
  std::uint64_t below(std::uint64_t n) {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t const fair = most - most % n;  // a multiple of n
    std::uint64_t bits;
    do bits = (*this)();
    while (bits >= fair);
    return bits % n;
  }

 private:
  static constexpr std::uint64_t golden = 0x9e3779b97f4a7c15;
  static constexpr std::uint64_t mix(std::uint64_t z) {
    z += golden;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

/// `count` positions from `first`.
struct Shard {
  std::size_t first = 0;
  std::size_t count = 0;
  friend bool operator==(Shard const&, Shard const&) = default;
};

/// The contiguous part of `count` positions that belongs to `rank` of `ranks`. The parts cover every position
/// once and their sizes differ by at most one. Throws ConfigError unless 0 <= rank < ranks.
inline Shard shard(std::size_t count, int rank, int ranks) {
  if (rank < 0 || rank >= ranks) {
    throw ConfigError("data shard: rank " + std::to_string(rank) + " of " + std::to_string(ranks) +
                      " does not exist");
  }
  auto const r = static_cast<std::size_t>(rank), n = static_cast<std::size_t>(ranks);
  std::size_t const size = count / n, longer = count % n;  // the first `longer` ranks have one more
  return {r * size + (r < longer ? r : longer), size + (r < longer ? 1 : 0)};
}

/// The order in which epoch `epoch` visits the samples 0 ... count-1: equal on every rank that has the same
/// seed. Throws ConfigError for more than 2^32 samples.
inline std::vector<std::uint32_t> epoch_order(std::size_t count, std::uint64_t seed, std::uint64_t epoch) {
  if (count > std::size_t{1} << 32) {
    throw ConfigError("epoch order: at most 2^32 samples, not " + std::to_string(count));
  }
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  Random random(seed, epoch);
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);  // Fisher-Yates
  return order;
}

}  // namespace elastic::data
