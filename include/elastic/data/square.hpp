// SPDX-License-Identifier: Apache-2.0
// Photographs of any size as squares of one size: the shorter side is resized to it and the middle cut out, as
// both ancestors and everybody since them do with ImageNet.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "elastic/data/jpeg.hpp"

namespace elastic::data {

namespace detail {

/// How the pixels of one axis follow from those of the source: pixel i is a weighted mean of the `count` pixels
/// from first[i]. Whole numbers, so that every machine computes the same bytes.
struct Taps {
  static constexpr int bits = 14;
  int count = 0;
  std::vector<int> first;
  std::vector<int> weights;  // `count` a pixel, not negative; together 1 << bits

  /// The middle `to` pixels of `from` pixels resized by the factor to / shorter, by a triangle filter that is as
  /// wide as a new pixel or, when it enlarges, as an old one.
  Taps(int from, int shorter, int to) {
    double const scale = double(shorter) / to, reach = std::max(scale, 1.0);
    count = std::min(from, static_cast<int>(std::ceil(2 * reach)));
    std::vector<double> exact(static_cast<std::size_t>(count));
    for (int i = 0; i < to; ++i) {
      double const center = from / 2.0 + (i + 0.5 - to / 2.0) * scale - 0.5;
      first.push_back(std::clamp(static_cast<int>(std::floor(center - reach)) + 1, 0, from - count));
      double sum = 0;
      for (int k = 0; k < count; ++k)
        sum += exact[static_cast<std::size_t>(k)] =
            std::max(0.0, 1 - std::abs(first.back() + k - center) / reach);
      int left = 1 << bits;
      for (double weight : exact)
        left -= weights.emplace_back(static_cast<int>(std::lround(weight / sum * (1 << bits))));
      *std::max_element(weights.end() - count, weights.end()) += left;  // what rounding has lost
    }
  }

  int begin() const { return first.front(); }
  int end() const { return first.back() + count; }
};

// g++ and clang++ add and multiply all four at once.
using Pixel = int __attribute__((vector_size(16)));
using Bytes = std::uint8_t __attribute__((vector_size(4)));

/// Writes `count` pixels of RGB and a fourth byte to three planes.
inline void separate(std::uint8_t const* __restrict pixels, std::size_t count, std::uint8_t* __restrict red,
                     std::uint8_t* __restrict green, std::uint8_t* __restrict blue) {
  for (std::size_t x = 0; x < count; ++x) {
    red[x] = pixels[4 * x];
    green[x] = pixels[4 * x + 1];
    blue[x] = pixels[4 * x + 2];
  }
}

}  // namespace detail

/// Decodes `jpeg` to the middle square of the picture whose shorter side is resized to `size` pixels: 3 planes of
/// size x size bytes, red, green, blue. `name` is for messages; throws DataError as JpegReader does.
inline void read_square(std::span<std::uint8_t const> jpeg, std::string const& name, int size,
                        std::uint8_t* planes) {
  JpegReader reader(jpeg, name);
  reader.scale_to(size);
  int const shorter = std::min(reader.width(), reader.height());
  std::size_t const side = static_cast<std::size_t>(size), plane = side * side;
  std::uint8_t *const red = planes, *const green = red + plane, *const blue = green + plane;
  if (shorter == size) {
    reader.read({(reader.height() - size) / 2, (reader.width() - size) / 2, size, size},
                [=](int y, std::uint8_t const* pixels) {
                  std::size_t const at = static_cast<std::size_t>(y) * side;
                  detail::separate(pixels, side, red + at, green + at, blue + at);
                });
    return;
  }

  detail::Taps const across(reader.width(), shorter, size), down(reader.height(), shorter, size);
  Window const window{down.begin(), across.begin(), down.end() - down.begin(), across.end() - across.begin()};
  std::size_t const row = std::size_t{4} * static_cast<std::size_t>(window.width);
  auto const source =
      std::make_unique_for_overwrite<std::uint8_t[]>(row * static_cast<std::size_t>(window.height));
  reader.read(window, [&](int y, std::uint8_t const* pixels) {
    std::memcpy(source.get() + static_cast<std::size_t>(y) * row, pixels, row);
  });
  constexpr int half = 1 << (detail::Taps::bits - 1);  // what rounds
  std::vector<int> line(row);
  std::vector<std::uint8_t> resized(4 * side);
  for (std::size_t y = 0; y < side; ++y) {
    std::uint8_t const* from = source.get() + static_cast<std::size_t>(down.first[y] - window.top) * row;
    int const* weight = down.weights.data() + y * static_cast<std::size_t>(down.count);
    std::ranges::fill(line, 0);
    for (int k = 0; k < down.count; ++k, ++weight, from += row)
      for (std::size_t x = 0; x < row; ++x) line[x] += *weight * from[x];
    for (int& value : line) value = (value + half) >> detail::Taps::bits;
    weight = across.weights.data();
    for (std::size_t x = 0; x < side; ++x) {
      int const* from_pixel = line.data() + 4 * (across.first[x] - window.left);
      detail::Pixel sums = detail::Pixel{} + half, pixel;
      for (int k = 0; k < across.count; ++k, ++weight, from_pixel += 4) {
        std::memcpy(&pixel, from_pixel, sizeof pixel);
        sums += *weight * pixel;
      }
      detail::Bytes const bytes = __builtin_convertvector(sums >> detail::Taps::bits, detail::Bytes);
      std::memcpy(&resized[4 * x], &bytes, sizeof bytes);
    }
    detail::separate(resized.data(), side, red + y * side, green + y * side, blue + y * side);
  }
}

}  // namespace elastic::data
