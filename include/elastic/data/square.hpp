// SPDX-License-Identifier: Apache-2.0
// Photographs of any size as squares of one size: the shorter side is resized to it and the middle cut out, as
// both ancestors and everybody since them do with ImageNet.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "elastic/data/jpeg.hpp"

namespace elastic::data {

namespace detail {

/// How the pixels of one axis follow from those of the source: each is a weighted mean of `first`, `first` + 1
/// and so on. Whole numbers, so that every machine computes the same bytes.
struct Taps {
  static constexpr int bits = 14;
  struct Pixel {
    int first;
    std::vector<int> weights;  // not negative; together 1 << bits
  };
  std::vector<Pixel> pixels;

  /// The middle `to` pixels of `from` pixels resized by the factor to / shorter, by a triangle filter that is as
  /// wide as a new pixel or, when it enlarges, as an old one.
  Taps(int from, int shorter, int to) {
    double const scale = double(shorter) / to, reach = std::max(scale, 1.0);
    int const whole = shorter == to ? (from - to) / 2 : 0;  // without resizing the cut falls between pixels
    for (int i = 0; i < to; ++i) {
      double const center = shorter == to ? whole + i : from / 2.0 + (i + 0.5 - to / 2.0) * scale - 0.5;
      int const first = std::max(0, static_cast<int>(std::floor(center - reach)) + 1);
      int const last = std::min(from - 1, static_cast<int>(std::ceil(center + reach)) - 1);
      std::vector<double> exact;
      double sum = 0;
      for (int k = first; k <= last; ++k) sum += exact.emplace_back(1 - std::abs(k - center) / reach);
      Pixel pixel{first, {}};
      int left = 1 << bits;
      for (double weight : exact) {
        pixel.weights.push_back(static_cast<int>(std::lround(weight / sum * (1 << bits))));
        left -= pixel.weights.back();
      }
      *std::ranges::max_element(pixel.weights) += left;  // what rounding has lost
      pixels.push_back(std::move(pixel));
    }
  }

  int begin() const { return pixels.front().first; }
  int end() const { return pixels.back().first + static_cast<int>(pixels.back().weights.size()); }
};

inline std::uint8_t rounded(int sum) {
  return static_cast<std::uint8_t>((sum + (1 << (Taps::bits - 1))) >> Taps::bits);
}

}  // namespace detail

/// Decodes `jpeg` to the middle square of the picture whose shorter side is resized to `size` pixels: 3 planes of
/// size x size bytes, red, green, blue. `name` is for messages; throws DataError as JpegReader does.
inline void read_square(std::span<std::uint8_t const> jpeg, std::string const& name, int size,
                        std::uint8_t* planes) {
  JpegReader reader(jpeg, name);
  reader.scale_to(size);
  int const shorter = std::min(reader.width(), reader.height());
  detail::Taps const across(reader.width(), shorter, size), down(reader.height(), shorter, size);
  Window const window{down.begin(), across.begin(), down.end() - down.begin(), across.end() - across.begin()};
  std::size_t const row = std::size_t{3} * static_cast<std::size_t>(window.width);
  std::vector<std::uint8_t> source(row * static_cast<std::size_t>(window.height));
  reader.read(window, source.data());

  std::size_t const side = static_cast<std::size_t>(size), plane = side * side;
  if (shorter == size) {
    for (std::size_t i = 0; i < plane; ++i)
      for (std::size_t c = 0; c < 3; ++c) planes[c * plane + i] = source[3 * i + c];
    return;
  }
  std::vector<int> sums(row);
  std::vector<std::uint8_t> line(row);
  for (std::size_t y = 0; y < side; ++y) {
    std::uint8_t const* from =
        source.data() + static_cast<std::size_t>(down.pixels[y].first - window.top) * row;
    std::ranges::fill(sums, 0);
    for (int weight : down.pixels[y].weights) {
      for (std::size_t k = 0; k < row; ++k) sums[k] += weight * from[k];
      from += row;
    }
    for (std::size_t k = 0; k < row; ++k) line[k] = detail::rounded(sums[k]);
    for (std::size_t x = 0; x < side; ++x) {
      std::uint8_t const* pixel = line.data() + 3 * (across.pixels[x].first - window.left);
      int red = 0, green = 0, blue = 0;
      for (int weight : across.pixels[x].weights) {
        red += weight * pixel[0];
        green += weight * pixel[1];
        blue += weight * pixel[2];
        pixel += 3;
      }
      planes[y * side + x] = detail::rounded(red);
      planes[plane + y * side + x] = detail::rounded(green);
      planes[2 * plane + y * side + x] = detail::rounded(blue);
    }
  }
}

}  // namespace elastic::data
