// SPDX-License-Identifier: Apache-2.0
// A plain pass over a set, for evaluation: every image once, in order, cropped at the center.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "elastic/data/augment.hpp"
#include "elastic/data/detail/crew.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/error.hpp"
#include "elastic/model/batch.hpp"

namespace elastic::data {

namespace detail {

/// Gives `batch` room for `count` images of the cutter's size.
inline void shape_batch(model::Batch& batch, int channels, Cutter const& cutter, int count) {
  batch.count = count;
  batch.channels = channels;
  batch.height = cutter.height();
  batch.width = cutter.width();
  batch.images.resize(static_cast<std::size_t>(count) * batch.image_size());
  batch.labels.resize(static_cast<std::size_t>(count));
}

inline void check_batch_size(int batch) {
  if (batch < 1) throw ConfigError("batch size: expected at least 1, found " + std::to_string(batch));
}

inline void check_loaders(int loaders) {
  if (loaders < 1 || loaders > 1024)
    throw ConfigError("loaders: expected 1 ... 1024 threads, found " + std::to_string(loaders));
}

}  // namespace detail

/// What an evaluation reads: images first ... first+count-1, in order, cropped at the center.
struct PassOptions {
  int batch = 256;  ///< images in each batch, at least 1; the last batch may hold fewer
  int crop = 0;     ///< side of the square center crop in pixels; 0: the whole image
  int pad = 0;      ///< pixels of zeros around the image, for a crop larger than it
  std::size_t first = 0;
  std::size_t count = std::numeric_limits<std::size_t>::max();  ///< at most; what the set has from `first`
  int loaders = 1;  ///< threads that read and cut the images of a batch, at least 1
};

/// Calls `f(model::Batch const&)` on batch after batch of `set`, each image once. Throws ConfigError for
/// options that cannot work; a `first` behind the end is one of them.
template <ImageStore Set, class F>
void for_each_batch(Set const& set, Normalization const& normal, PassOptions const& options, F&& f) {
  detail::check_batch_size(options.batch);
  detail::check_loaders(options.loaders);
  if (options.first > set.count) {
    throw ConfigError("evaluation: image " + std::to_string(options.first) + " of " +
                      std::to_string(set.count) + " does not exist");
  }
  Cutter const cutter(set, normal, options.crop, options.pad);
  detail::Crew crew(options.loaders);
  std::vector<std::vector<std::uint8_t>> scratch(static_cast<std::size_t>(options.loaders));
  std::size_t const end = options.first + std::min<std::size_t>(options.count, set.count - options.first);
  model::Batch batch;
  for (std::size_t i = options.first; i < end; i += static_cast<std::size_t>(batch.count)) {
    std::size_t const size = std::min(static_cast<std::size_t>(options.batch), end - i);
    detail::shape_batch(batch, set.channels, cutter, static_cast<int>(size));
    crew.run(size, [&](std::size_t k, std::size_t member) {
      cutter.cut(set.image(i + k, scratch[member]), cutter.center(),
                 batch.images.data() + k * batch.image_size());
      batch.labels[k] = set.label(i + k);
    });
    f(std::as_const(batch));
  }
}

}  // namespace elastic::data
