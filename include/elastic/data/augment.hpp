// SPDX-License-Identifier: Apache-2.0
// From stored bytes to what a model sees: a crop of the (zero-padded) image, flipped or not, normalized.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/data/image_set.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// Mean and standard deviation of each channel, in units of full scale (a byte of 255 is 1). A pixel becomes
/// `(byte / 255 - mean) / deviation`.
struct Normalization {
  std::vector<float> mean;
  std::vector<float> deviation;
};

/// Measures the normalization of `set`; take it from the training set and use it for every set. The sums are
/// exact, so every rank gets the same bits. A channel that never changes gets a deviation of 1. Throws
/// ConfigError for an empty set.
inline Normalization normalization(ImageSet const& set) {
  if (set.count == 0) throw ConfigError("normalization: the image set is empty");
  auto const channels = static_cast<std::size_t>(set.channels);
  std::size_t const plane = set.image_bytes() / channels;
  std::vector<std::uint64_t> sums(channels), squares(channels);
  for (std::size_t i = 0; i < set.count * channels; ++i) {
    std::uint8_t const* const pixel = set.pixels.data() + i * plane;
    std::uint64_t sum = 0, square = 0;
    for (std::size_t k = 0; k < plane; ++k) {
      std::uint32_t const value = pixel[k];
      sum += value;
      square += value * value;
    }
    sums[i % channels] += sum;
    squares[i % channels] += square;
  }
  Normalization result;
  for (std::size_t c = 0; c < channels; ++c) {
    double const n = static_cast<double>(set.count * plane);
    double const mean = static_cast<double>(sums[c]) / n;
    double const variance = static_cast<double>(squares[c]) / n - mean * mean;
    result.mean.push_back(static_cast<float>(mean / 255));
    result.deviation.push_back(variance > 1e-9 ? static_cast<float>(std::sqrt(variance) / 255) : 1.0f);
  }
  return result;
}

/// Which part of an image: rows and columns of the image that the crop begins at, negative where it begins
/// in the padding; mirrored left to right if `flip`.
struct View {
  int top = 0;
  int left = 0;
  bool flip = false;
};

/// Cuts normalized views of one size out of the images of one set, which must outlive it.
class Cutter {
 public:
  /// Views are `crop` x `crop`, or as large as the image if `crop` is 0; they may reach `pad` pixels over
  /// each edge, where the bytes count as 0. Throws ConfigError if that is too small for the crop, if the
  /// normalization has other channels, or if the vectors of the set do not have the sizes it states.
  Cutter(ImageSet const& set, Normalization const& normal, int crop, int pad)
      : set_(set),
        height_(crop == 0 ? set.height : crop),
        width_(crop == 0 ? set.width : crop),
        pad_(pad),
        value_(normal.mean.size()) {
    auto const channels = static_cast<std::size_t>(set.channels);
    if (set.channels < 1 || set.height < 1 || set.width < 1 || set.labels.size() != set.count ||
        set.pixels.size() != set.count * set.image_bytes()) {
      throw ConfigError("image set: " + std::to_string(set.pixels.size()) + " pixels and " +
                        std::to_string(set.labels.size()) + " labels do not make " +
                        std::to_string(set.count) + " images of " +
                        shape(set.channels, set.height, set.width));
    }
    if (normal.mean.size() != channels || normal.deviation.size() != channels) {
      throw ConfigError("normalization: " + std::to_string(normal.mean.size()) + " channels for images of " +
                        shape(set.channels, set.height, set.width));
    }
    if (crop < 0 || pad < 0 || pad > 1 << 15 || height_ > set.height + 2 * pad ||
        width_ > set.width + 2 * pad) {
      throw ConfigError("augmentation: a crop of " + std::to_string(crop) + " with a padding of " +
                        std::to_string(pad) + " does not fit images of " +
                        shape(set.channels, set.height, set.width));
    }
    for (std::size_t c = 0; c < channels; ++c) {
      for (int byte = 0; byte < 256; ++byte) {
        value_[c][static_cast<std::size_t>(byte)] =
            static_cast<float>((byte / 255.0 - double{normal.mean[c]}) / double{normal.deviation[c]});
      }
    }
  }

  int height() const { return height_; }
  int width() const { return width_; }

  /// The view of an evaluation: centered, not flipped.
  View center() const {
    return {(set_.height + 2 * pad_ - height_) / 2 - pad_, (set_.width + 2 * pad_ - width_) / 2 - pad_,
            false};
  }

  /// The view of a training step: any place with equal probability, and flipped half of the time if `flip`.
  View random(Random& random, bool flip) const {
    auto const place = [&](int size, int crop) {
      return static_cast<int>(random.below(static_cast<std::uint64_t>(size + 2 * pad_ - crop + 1))) - pad_;
    };
    int const top = place(set_.height, height_);
    int const left = place(set_.width, width_);
    return {top, left, flip && random.below(2) == 1};
  }

  /// Writes channels x height() x width() values of image `index` to `out`.
  void cut(std::size_t index, View view, float* out) const {
    std::uint8_t const* const image = set_.pixels.data() + index * set_.image_bytes();
    int const first = std::clamp(-view.left, 0, width_);  // columns first ... last-1 lie inside the image
    int const last = std::clamp(set_.width - view.left, first, width_);
    for (int c = 0; c < set_.channels; ++c) {
      float const* const value = value_[static_cast<std::size_t>(c)].data();
      for (int y = 0; y < height_; ++y, out += width_) {
        int const row = view.top + y;
        if (row < 0 || row >= set_.height) {
          std::fill_n(out, width_, value[0]);
          continue;
        }
        std::uint8_t const* const from = image + (std::ptrdiff_t{c} * set_.height + row) * set_.width;
        std::fill(out, out + first, value[0]);
        for (int x = first; x < last; ++x) out[x] = value[from[view.left + x]];
        std::fill(out + last, out + width_, value[0]);
        if (view.flip) std::reverse(out, out + width_);
      }
    }
  }

 private:
  static std::string shape(int channels, int height, int width) {
    return std::to_string(channels) + " x " + std::to_string(height) + " x " + std::to_string(width);
  }

  ImageSet const& set_;
  int height_;
  int width_;
  int pad_;
  std::vector<std::array<float, 256>> value_;  // of each byte in each channel: the same bits under any flags
};

}  // namespace elastic::data
