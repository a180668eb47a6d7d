// SPDX-License-Identifier: Apache-2.0
// How a window is cut into stripes.
#pragma once

#include <algorithm>
#include <cstddef>

namespace elastic::transport::detail {

/// Stripes of about 256 KiB, which an exchange moves in 5 to 20 us, long against taking a lock; a small window
/// has 16 as long as that leaves 4 KiB, so that two workers seldom meet. They begin on cache lines.
struct Stripes {
  std::size_t size;    // values in all
  std::size_t length;  // values of every stripe but the last

  static constexpr Stripes of(std::size_t n, std::size_t width) {
    constexpr std::size_t large = 256 * 1024, small = 4096, line = 64;
    std::size_t const bytes = std::clamp((n * width + 15) / 16, small, large);
    return {n, std::max<std::size_t>(1, (bytes + line - 1) / line * line / width)};
  }
  constexpr std::size_t count() const { return (size + length - 1) / length; }
  constexpr std::size_t first(std::size_t k) const { return k * length; }
  constexpr std::size_t values(std::size_t k) const { return std::min(length, size - first(k)); }
};

}  // namespace elastic::transport::detail
