// SPDX-License-Identifier: Apache-2.0
// A labeled image set as the readers leave it: raw bytes, whole, in memory, shared by every batch source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/data/image_store.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// The two parts in which the classic sets are published.
enum class Split { train, test };

/// Labeled images of one size: an ImageStore. The readers guarantee the sizes below and `labels[i] < classes`.
struct ImageSet {
  std::vector<std::uint8_t> pixels{};  ///< count x channels x height x width (NCHW), 0 ... 255
  std::vector<std::uint8_t> labels{};  ///< count
  std::size_t count = 0;
  int channels = 0;
  int height = 0;
  int width = 0;
  int classes = 0;
  std::vector<std::string> class_names{};  ///< empty, or one a class

  /// Bytes of one image.
  std::size_t image_bytes() const {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) *
           static_cast<std::size_t>(width);
  }

  int label(std::size_t i) const { return labels[i]; }
  std::uint8_t const* image(std::size_t i, std::vector<std::uint8_t>&) const {
    return pixels.data() + i * image_bytes();
  }

  /// Throws ConfigError if the vectors do not have the sizes that the fields state.
  void check() const {
    if (labels.size() == count && pixels.size() == count * image_bytes()) return;
    throw ConfigError("image set: " + std::to_string(pixels.size()) + " pixels and " +
                      std::to_string(labels.size()) + " labels do not make " + std::to_string(count) +
                      " images of " + shape_of(*this));
  }
};

}  // namespace elastic::data
