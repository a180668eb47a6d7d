// SPDX-License-Identifier: Apache-2.0
// What a data source hands to a model: images and their labels, nothing else.
#pragma once

#include <cstddef>
#include <vector>

namespace elastic::model {

/// `count` labeled images, ready for the first layer.
///
/// `images` holds count x channels x height x width normalized values in that order (NCHW), `labels` one
/// class in [0, classes) an image. The vectors may be longer than that: a source that fills the same batch
/// again and again need not shrink them for the last, partial one.
struct Batch {
  std::vector<float> images;
  std::vector<int> labels;
  int count = 0;
  int channels = 0;
  int height = 0;
  int width = 0;

  /// Values in one image.
  std::size_t image_size() const {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) *
           static_cast<std::size_t>(width);
  }
};

}  // namespace elastic::model
