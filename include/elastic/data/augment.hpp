// SPDX-License-Identifier: Apache-2.0
// From stored bytes to what a model sees: a crop of the (zero-padded) image, flipped or not, normalized.
#pragma once

#include <algorithm>
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
        mean_(normal.mean.size()),
        scale_(normal.mean.size()),
        mean_image_(normal.mean_image) {
    check_store(set);
    auto const channels = static_cast<std::size_t>(channels_);
    if (normal.mean.size() != channels || normal.deviation.size() != channels)
      throw ConfigError("normalization: " + std::to_string(normal.mean.size()) + " channels for images of " +
                        shape_of(set));
    if (!mean_image_.empty() && mean_image_.size() != image_bytes(set))
      throw ConfigError("normalization: a mean image of " + std::to_string(mean_image_.size()) +
                        " values for images of " + shape_of(set));
    if (!mean_image_.empty() && pad != 0)
      throw ConfigError("augmentation: a mean image has no values for a padding");
    if (crop < 0 || pad < 0 || pad > 1 << 15 || height_ > rows_ + 2 * pad || width_ > columns_ + 2 * pad)
      throw ConfigError("augmentation: a crop of " + std::to_string(crop) + " with a padding of " +
                        std::to_string(pad) + " does not fit images of " + shape_of(set));
    for (std::size_t c = 0; c < channels; ++c) {
      scale_[c] = static_cast<float>(1 / (255 * double{normal.deviation[c]}));
      mean_[c] = 255 * normal.mean[c];
    }
    for (float& mean : mean_image_) mean *= 255;
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
    std::vector<float> line(view.flip ? static_cast<std::size_t>(width_) : 0);  // before it is mirrored
    for (int c = 0; c < channels_; ++c) {
      float const mean = mean_[static_cast<std::size_t>(c)], scale = scale_[static_cast<std::size_t>(c)];
      for (int y = 0; y < height_; ++y, out += width_) {
        float* const to = view.flip ? line.data() : out;
        int const row = view.top + y;
        if (row < 0 || row >= rows_) {
          std::fill_n(out, width_, -mean * scale);
          continue;
        }
        std::ptrdiff_t const begin = (std::ptrdiff_t{c} * rows_ + row) * columns_ + view.left;
        if (mean_image_.empty()) {
          if (first > 0 || last < width_) std::fill_n(to, width_, -mean * scale);
          normalize(image + begin + first, last - first, mean, scale, to + first);
        } else {
          normalize(image + begin, width_, mean_image_.data() + begin, scale, to);
        }
        if (view.flip) std::reverse_copy(line.begin(), line.end(), out);
      }
    }
  }

 private:
  // A difference times a factor has the same bits under any flags.
  static void normalize(std::uint8_t const* from, int count, float mean, float scale, float* __restrict to) {
    for (int x = 0; x < count; ++x) to[x] = (static_cast<float>(from[x]) - mean) * scale;
  }
  static void normalize(std::uint8_t const* from, int count, float const* means, float scale,
                        float* __restrict to) {
    for (int x = 0; x < count; ++x) to[x] = (static_cast<float>(from[x]) - means[x]) * scale;
  }

  int channels_;
  int rows_;  // of the image, like columns_; height_ and width_ are the view's
  int columns_;
  int height_;
  int width_;
  int pad_;
  std::vector<float> mean_;  // of each channel, in bytes
  std::vector<float> scale_;
  std::vector<float> mean_image_;  // in its place, if there is one
};

}  // namespace elastic::data
