// SPDX-License-Identifier: Apache-2.0
// The order in which backends run an architecture's layers: the same function, with less work.
#pragma once

#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"

namespace elastic::model {

/// The layers to run, in order, and the first that has parameters: no gradient is needed before it.
struct Schedule {
  std::vector<PlacedLayer> layers;
  std::size_t first_trained = 0;
};

/// Moves each Relu behind the MaxPool that follows it: the maximum of rectified values is the rectified
/// maximum, gradients included, and there are fewer values to rectify.
inline Schedule make_schedule(Architecture const& architecture) {
  Schedule schedule{architecture.layers(), 0};
  std::vector<PlacedLayer>& layers = schedule.layers;
  for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
    if (std::holds_alternative<Relu>(layers[i].layer) &&
        std::holds_alternative<MaxPool>(layers[i + 1].layer)) {
      std::swap(layers[i], layers[i + 1]);
      layers[i + 1].in = layers[i + 1].out = layers[i].out;
    }
  }
  while (schedule.first_trained < layers.size() && layers[schedule.first_trained].weights.count == 0)
    ++schedule.first_trained;
  return schedule;
}

}  // namespace elastic::model
