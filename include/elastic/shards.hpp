// SPDX-License-Identifier: Apache-2.0
// A vector cut into pieces that travel on their own, so that one piece is computed with while the next is on
// its way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace elastic {

/// `size` values of `width` bytes in shards of equal size but for the last; at least one.
struct Shards {
  std::size_t size;
  std::size_t each;  ///< values of one shard

  /// Sixteen shards, of 64 KiB at least and 1 MiB at most: small enough to overlap, large enough to be worth
  /// a message.
  static Shards of(std::size_t size, std::size_t width) {
    std::size_t const least = 65536 / width, most = 1048576 / width;
    return {size, std::clamp((size + 15) / 16, least, most)};
  }
  std::uint32_t count() const {
    return static_cast<std::uint32_t>(std::max<std::size_t>(1, (size + each - 1) / each));
  }
  std::size_t first(std::uint32_t shard) const { return shard * each; }
  std::size_t length(std::uint32_t shard) const { return std::min(each, size - first(shard)); }
};

}  // namespace elastic
