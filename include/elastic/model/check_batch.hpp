// SPDX-License-Identifier: Apache-2.0
// Whether a batch is one that a net can take, checked once for all nets.
#pragma once

#include <cstddef>
#include <string>

#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"

namespace elastic::model {

/// Throws DataError, saying what was expected, for a batch of other images, of too many, or of too few values.
inline void check_batch(Batch const& samples, Shape input, int max_batch) {
  Shape const given{samples.channels, samples.height, samples.width};
  if (given != input)
    throw DataError("a batch holds " + to_string(given) + " images; the net expects " + to_string(input));
  if (samples.count < 1 || samples.count > max_batch)
    throw DataError("a batch holds " + std::to_string(samples.count) + " images; the net expects 1 to " +
                    std::to_string(max_batch));
  auto const count = static_cast<std::size_t>(samples.count);
  if (samples.images.size() < count * samples.image_size() || samples.labels.size() < count)
    throw DataError("a batch of " + std::to_string(count) + " images holds " +
                    std::to_string(samples.images.size()) + " values and " +
                    std::to_string(samples.labels.size()) + " labels; expected " +
                    std::to_string(count * samples.image_size()) + " values and a label an image");
}

/// Throws DataError for a label outside [0, classes).
inline void check_label(std::size_t sample, int label, int classes) {
  if (label < 0 || label >= classes)
    throw DataError("sample " + std::to_string(sample) + " of a batch has label " + std::to_string(label) +
                    "; expected 0 to " + std::to_string(classes - 1));
}

/// `max_batch`, or ConfigError if it is below 1.
inline int checked_max_batch(int max_batch) {
  if (max_batch < 1)
    throw ConfigError("a net needs batches of 1 image or more; max_batch is " + std::to_string(max_batch));
  return max_batch;
}

}  // namespace elastic::model
