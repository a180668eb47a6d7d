// SPDX-License-Identifier: Apache-2.0
// From stored bytes to what a model sees: a crop of the (zero-padded) image, flipped or not, normalized.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/data/image_store.hpp"
#include "elastic/data/normalization.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// Which part of an image: rows and columns of the image that the crop begins at, negative where it begins
/// in the padding; mirrored left to right if `flip`.
struct View {
  int top = 0;
  int left = 0;
  bool flip = false;
};

/// Cuts normalized views of one size out of images of one size.
class Cutter {
 public:
  /// Views are `crop` x `crop`, or as large as the image if `crop` is 0; they may reach `pad` pixels over
  /// each edge, where the bytes count as 0. Throws ConfigError if that is too small for the crop, if the
  /// normalization is not one of such images, or for a set that check_store refuses.
  template <ImageStore Set>
  Cutter(Set const& set, Normalization const& normal, int crop, int pad)
      : channels_(set.channels),
        rows_(set.height),
        columns_(set.width),
        height_(crop == 0 ? set.height : crop),
        width_(crop == 0 ? set.width : crop),
        pad_(pad),
        value_(normal.mean.size()),
        mean_(normal.mean_image.size()) {
    check_store(set);
    auto const channels = static_cast<std::size_t>(channels_);
    if (normal.mean.size() != channels || normal.deviation.size() != channels)
      throw ConfigError("normalization: " + std::to_string(normal.mean.size()) + " channels for images of " +
                        shape_of(set));
    if (!mean_.empty() && mean_.size() != image_bytes(set))
      throw ConfigError("normalization: a mean image of " + std::to_string(mean_.size()) +
                        " values for images of " + shape_of(set));
    if (!mean_.empty() && pad != 0)
      throw ConfigError("augmentation: a mean image has no values for a padding");
    if (crop < 0 || pad < 0 || pad > 1 << 15 || height_ > rows_ + 2 * pad || width_ > columns_ + 2 * pad)
      throw ConfigError("augmentation: a crop of " + std::to_string(crop) + " with a padding of " +
                        std::to_string(pad) + " does not fit images of " + shape_of(set));
    for (std::size_t c = 0; c < channels; ++c) {
      double const mean = mean_.empty() ? double{normal.mean[c]} : 0, deviation = double{normal.deviation[c]};
      for (int byte = 0; byte < 256; ++byte)
        value_[c][static_cast<std::size_t>(byte)] = static_cast<float>((byte / 255.0 - mean) / deviation);
      std::size_t const plane = mean_.size() / channels;
      for (std::size_t k = c * plane; k < (c + 1) * plane; ++k)
        mean_[k] = static_cast<float>(double{normal.mean_image[k]} / deviation);
    }
  }

  int height() const { return height_; }
  int width() const { return width_; }

  /// The view of an evaluation: centered, not flipped.
  View center() const {
    return {(rows_ + 2 * pad_ - height_) / 2 - pad_, (columns_ + 2 * pad_ - width_) / 2 - pad_, false};
  }

  /// The view of a training step: any place with equal probability, and flipped half of the time if `flip`.
  View random(Random& random, bool flip) const {
    auto const place = [&](int size, int crop) {
      return static_cast<int>(random.below(static_cast<std::uint64_t>(size + 2 * pad_ - crop + 1))) - pad_;
    };
    int const top = place(rows_, height_);
    int const left = place(columns_, width_);
    return {top, left, flip && random.below(2) == 1};
  }

  /// Writes channels x height() x width() values of `image`, which points at channels x height x width bytes,
  /// to `out`.
  void cut(std::uint8_t const* image, View view, float* out) const {
    int const first = std::clamp(-view.left, 0, width_);  // columns first ... last-1 lie inside the image
    int const last = std::clamp(columns_ - view.left, first, width_);
    for (int c = 0; c < channels_; ++c) {
      float const* const value = value_[static_cast<std::size_t>(c)].data();
      for (int y = 0; y < height_; ++y, out += width_) {
        int const row = view.top + y;
        if (row < 0 || row >= rows_) {
          std::fill_n(out, width_, value[0]);
          continue;
        }
        std::ptrdiff_t const begin = (std::ptrdiff_t{c} * rows_ + row) * columns_ + view.left;
        std::fill(out, out + first, value[0]);
        for (int x = first; x < last; ++x) out[x] = value[image[begin + x]];
        std::fill(out + last, out + width_, value[0]);
        if (!mean_.empty())
          for (int x = 0; x < width_; ++x) out[x] -= mean_[static_cast<std::size_t>(begin + x)];
        if (view.flip) std::reverse(out, out + width_);
      }
    }
  }

 private:
  int channels_;
  int rows_;  // of the image, like columns_; height_ and width_ are the view's
  int columns_;
  int height_;
  int width_;
  int pad_;
  std::vector<std::array<float, 256>> value_;  // of each byte in each channel: the same bits under any flags
  std::vector<float> mean_;                    // what the mean image takes from that
};

}  // namespace elastic::data
