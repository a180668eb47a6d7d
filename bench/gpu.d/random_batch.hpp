// SPDX-License-Identifier: Apache-2.0
// A batch of noise for any net: what it costs to train on does not depend on what it shows.
#pragma once

#include <cstddef>
#include <random>

#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"

namespace bench {

inline elastic::model::Batch random_batch(elastic::model::Architecture const& net, int count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  auto const shape = net.input();
  elastic::model::Batch batch{{}, {}, count, shape.channels, shape.height, shape.width};
  batch.images.resize(shape.size() * static_cast<std::size_t>(count));
  for (float& value : batch.images) value = normal(engine);
  for (int i = 0; i < count; ++i)
    batch.labels.push_back(static_cast<int>(engine() % unsigned(net.classes())));
  return batch;
}

}  // namespace bench
