// SPDX-License-Identifier: Apache-2.0
// The order in which backends run an architecture's layers: the same function, with less work.
#pragma once

#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"

namespace elastic::model {

/// The layers to run, in order, and the first that has parameters, of its own or within: no gradient is needed
/// before it.
struct Schedule {
  std::vector<PlacedLayer> layers;
  std::size_t first_trained = 0;
};

/// Moves each Relu behind the MaxPool that follows it: the maximum of rectified values is the rectified
/// maximum, gradients included, and there are fewer values to rectify. What layers hold stays as it is: whoever runs
/// it makes a schedule of it.
inline Schedule make_schedule(std::vector<PlacedLayer> placed) {
  Schedule schedule{std::move(placed), 0};
  std::vector<PlacedLayer>& layers = schedule.layers;
  for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
    if (std::holds_alternative<Relu>(layers[i].layer) &&
        std::holds_alternative<MaxPool>(layers[i + 1].layer)) {
      std::swap(layers[i], layers[i + 1]);
      layers[i + 1].in = layers[i + 1].out = layers[i].out;
    }
  }
  auto const is_trained = [](PlacedLayer const& layer) {
    bool trained = layer.weights.count > 0;
    for (std::vector<PlacedLayer> const& inner : layer.nested)
      for_each_layer(inner, [&](PlacedLayer const& each) { trained = trained || each.weights.count > 0; });
    return trained;
  };
  while (schedule.first_trained < layers.size() && !is_trained(layers[schedule.first_trained]))
    ++schedule.first_trained;
  return schedule;
}

/// Whether what layers are given would be altered: by a Relu or a Dropout, which work in place, in front of all layers
/// with values of their own.
inline bool alters_input(std::vector<PlacedLayer> const& layers) {
  for (PlacedLayer const& placed : layers) {
    if (std::holds_alternative<Relu>(placed.layer) || std::holds_alternative<Dropout>(placed.layer))
      return true;
    if (!std::holds_alternative<Auxiliary>(placed.layer)) break;
  }
  return false;
}

}  // namespace elastic::model
