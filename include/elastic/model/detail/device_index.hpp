// SPDX-License-Identifier: Apache-2.0
// Where a value of an NCHW array is, from its number: in 32 bits, since GPUs divide 64-bit numbers slowly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "elastic/error.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// Whether the numbers of `values` values have 32 bits.
inline bool fits(std::size_t values) { return values <= std::numeric_limits<std::uint32_t>::max(); }

[[noreturn]] inline void refuse_index(std::string const& what) {
  throw ConfigError(
      what + " are more than 2^32 values, which a net on a device does not count: use smaller batches");
}

/// The last of the coordinates that `rest` numbers, of which there are `size`; leaves those before it.
ELASTIC_FN inline std::uint32_t take(std::uint32_t& rest, int size) {
  auto const n = static_cast<std::uint32_t>(size);
  std::uint32_t const whole = rest / n, last = rest - whole * n;
  rest = whole;
  return last;
}

/// Of the value at (y, x) in a plane, height x width, that `planes` others precede.
ELASTIC_FN inline std::size_t place(std::size_t planes, int height, int y, int width, int x) {
  return (planes * static_cast<std::size_t>(height) + static_cast<std::size_t>(y)) *
             static_cast<std::size_t>(width) +
         static_cast<std::size_t>(x);
}

/// Square windows over images.
struct WindowShape {
  int height, width, out_height, out_width, kernel, stride, pad;
};
inline WindowShape window_shape(Shape in, Shape out, int kernel, int stride, int pad) {
  return {in.height, in.width, out.height, out.width, kernel, stride, pad};
}

/// The values of one channel over all images, numbered by j.
struct ChannelIndex {
  std::uint32_t channels, pixels;
  explicit ChannelIndex(Shape shape)
      : channels(static_cast<std::uint32_t>(shape.channels)),
        pixels(static_cast<std::uint32_t>(shape.height) * static_cast<std::uint32_t>(shape.width)) {}
  ELASTIC_FN std::size_t operator()(std::size_t channel, std::size_t j) const {
    auto const k = static_cast<std::uint32_t>(j);
    std::uint32_t const image = k / pixels;
    return (std::size_t(image) * channels + channel) * pixels + (k - image * pixels);
  }
  /// Of the i-th value of all.
  ELASTIC_FN std::uint32_t channel(std::size_t i) const {
    return static_cast<std::uint32_t>(i) / pixels % channels;
  }
};

}  // namespace elastic::model::detail
