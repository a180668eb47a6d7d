// SPDX-License-Identifier: Apache-2.0
// The random part of dropout, in one place so that every backend drops the same values.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

namespace elastic::model {

/// The random stream of one model. Standard engines yield the same bits with every library.
using Generator = std::mt19937_64;

/// A generator for (seed, stream): ranks that share a seed use their rank as stream.
inline Generator make_generator(std::uint64_t seed, std::uint64_t stream) {
  std::seed_seq words{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                      static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  return Generator(words);
}

/// Fills `mask` with factors: 0 with probability `rate` (to 1 in 2^32), else 1 / (1 - rate).
///
/// One draw serves two values; the order is that of the images' values, NCHW.
inline void draw_dropout_mask(Generator& generator, double rate, std::span<float> mask) {
  auto const threshold = static_cast<std::uint32_t>(rate * 4294967296.0);
  auto const keep = static_cast<float>(1 / (1 - rate));
  std::array<std::uint32_t, 512>
      bits;  // apart from the draws, so that comparisons become vectors, not branches
  for (std::size_t first = 0; first < mask.size(); first += bits.size()) {
    std::size_t const n = std::min(bits.size(), mask.size() - first);
    for (std::size_t i = 0; i < n; i += 2) {
      std::uint64_t const drawn = generator();
      bits[i] = static_cast<std::uint32_t>(drawn);
      bits[i + 1] = static_cast<std::uint32_t>(drawn >> 32);
    }
    for (std::size_t i = 0; i < n; ++i) mask[first + i] = keep * static_cast<float>(bits[i] >= threshold);
  }
}

}  // namespace elastic::model
