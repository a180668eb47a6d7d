// SPDX-License-Identifier: Apache-2.0
// What is subtracted from a pixel and what it is divided by, measured on the training set.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/data/detail/crew.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// How bytes become values.
enum class Normalize {
  none,        ///< the byte, 0 ... 255
  mean,        ///< the byte less the mean of its channel
  mean_image,  ///< the byte less the mean of its place in all images
  standard     ///< mean 0 and deviation 1 in every channel
};

constexpr auto names(Normalize) {
  return std::array{std::pair{std::string_view("none"), Normalize::none},
                    std::pair{std::string_view("mean"), Normalize::mean},
                    std::pair{std::string_view("mean_image"), Normalize::mean_image},
                    std::pair{std::string_view("standard"), Normalize::standard}};
}

/// Mean and standard deviation of each channel, in units of full scale (a byte of 255 is 1). A pixel becomes
/// `(byte / 255 - mean) / deviation`, where the mean is that of its place if there is a mean image.
struct Normalization {
  std::vector<float> mean;
  std::vector<float> deviation;
  std::vector<float> mean_image = {};  ///< empty, or channels x height x width
};

/// Exact sums over images, from which every normalization follows: every rank gets the same bits.
struct PixelSums {
  std::uint64_t images = 0;
  std::vector<std::uint64_t> pixels;   ///< of each place: channels x height x width
  std::vector<std::uint64_t> squares;  ///< of each channel

  /// Sums of no images of this size.
  PixelSums(int channels, int height, int width)
      : pixels(static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) *
               static_cast<std::size_t>(width)),
        squares(static_cast<std::size_t>(channels)) {}

  void add(std::uint8_t const* image) {
    std::size_t const plane = pixels.size() / squares.size();
    for (std::size_t c = 0; c < squares.size(); ++c) {
      std::uint8_t const* const from = image + c * plane;
      std::uint64_t square = 0;
      for (std::size_t k = 0; k < plane; ++k) {
        std::uint32_t const value = from[k];
        pixels[c * plane + k] += value;
        square += value * value;
      }
      squares[c] += square;
    }
    ++images;
  }

  /// Sums of other images of the same size.
  void add(PixelSums const& other) {
    for (std::size_t k = 0; k < pixels.size(); ++k) pixels[k] += other.pixels[k];
    for (std::size_t c = 0; c < squares.size(); ++c) squares[c] += other.squares[c];
    images += other.images;
  }
};

/// The sums over `set`, or over at most `most` images spread evenly over it: where an image must be decoded, a
/// few thousand are as good as all. `loaders` threads read them. Throws ConfigError for an empty set.
template <ImageStore Set>
PixelSums pixel_sums(Set const& set, std::size_t most = std::numeric_limits<std::size_t>::max(),
                     int loaders = 1) {
  check_store(set);
  std::size_t const count = std::min<std::size_t>(set.count, most);
  if (count == 0) throw ConfigError("normalization: the image set is empty");
  std::size_t const step = set.count / count,
                    longer = set.count % count;  // without overflow of i * set.count
  struct Part {
    PixelSums sums;
    std::vector<std::uint8_t> scratch{};
  };
  std::vector<Part> parts(static_cast<std::size_t>(std::max(loaders, 1)),
                          Part{PixelSums(set.channels, set.height, set.width)});
  detail::Crew crew(loaders);
  crew.run(count, [&](std::size_t i, std::size_t member) {
    Part& part = parts[member];
    part.sums.add(set.image(i * step + std::min(i, longer), part.scratch));
  });
  for (std::size_t k = 1; k < parts.size(); ++k) parts[0].sums.add(parts[k].sums);
  return parts[0].sums;
}

/// The normalization of this kind of images with these sums. A channel that never changes gets a deviation
/// of 1. Throws ConfigError for the sums of no image.
inline Normalization normalization(PixelSums const& sums, Normalize kind = Normalize::standard) {
  if (sums.images == 0) throw ConfigError("normalization: the image set is empty");
  std::size_t const channels = sums.squares.size(), plane = sums.pixels.size() / channels;
  Normalization result{std::vector<float>(channels), std::vector<float>(channels, 1.0f / 255)};
  for (std::size_t c = 0; c < channels && kind != Normalize::none; ++c) {
    double const n = static_cast<double>(sums.images * plane);
    std::uint64_t sum = 0;
    for (std::size_t k = 0; k < plane; ++k) sum += sums.pixels[c * plane + k];
    double const mean = static_cast<double>(sum) / n;
    result.mean[c] = static_cast<float>(mean / 255);
    if (kind != Normalize::standard) continue;
    double const variance = static_cast<double>(sums.squares[c]) / n - mean * mean;
    result.deviation[c] = variance > 1e-9 ? static_cast<float>(std::sqrt(variance) / 255) : 1.0f;
  }
  if (kind == Normalize::mean_image)
    for (std::uint64_t sum : sums.pixels)
      result.mean_image.push_back(
          static_cast<float>(static_cast<double>(sum) / static_cast<double>(sums.images) / 255));
  return result;
}

/// Measures the normalization of `set`, or of at most `most` of its images, by `loaders` threads; take it from the
/// training set and use it for every set. A set that knows its sums is not read. Throws ConfigError for an empty
/// set.
template <ImageStore Set>
Normalization normalization(Set const& set, Normalize kind = Normalize::standard,
                            std::size_t most = std::numeric_limits<std::size_t>::max(), int loaders = 1) {
  if constexpr (requires { set.pixel_sums(); }) {
    return normalization(set.pixel_sums(), kind);
  } else {
    return normalization(data::pixel_sums(set, most, loaders), kind);
  }
}

}  // namespace elastic::data
