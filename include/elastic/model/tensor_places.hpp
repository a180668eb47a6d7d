// SPDX-License-Identifier: Apache-2.0
// The tensors that a model's flat vectors consist of, under the names that PyTorch gives them in a Sequential of
// the same layers: 0.weight, 0.bias, 3.weight. Branches are a ModuleList of Sequentials there, 7.1.0.weight, and an
// Auxiliary a Sequential, 9.1.weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"

namespace elastic::model {

/// `shape` values of a flat vector, from `offset`.
struct TensorPlace {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::size_t offset = 0;
  std::size_t count = 0;
};

namespace detail {

inline void add_places(std::vector<PlacedLayer> const& layers, std::string const& path,
                       std::vector<TensorPlace>& all) {
  std::size_t index = 0;
  for (PlacedLayer const& placed : layers) {
    std::string const prefix = path + std::to_string(index++);
    std::vector<std::uint64_t> shape{placed.weights.count};
    auto const outputs = static_cast<std::uint64_t>(placed.out.channels);
    std::visit(
        [&]<class Kind>(Kind const& layer) {
          if constexpr (std::is_same_v<Kind, Conv>) {
            auto const kernel = static_cast<std::uint64_t>(layer.kernel);
            shape = {outputs, placed.weights.count / (outputs * kernel * kernel), kernel, kernel};
          } else if constexpr (std::is_same_v<Kind, Linear>) {
            shape = {outputs, placed.in.size()};
          } else if constexpr (std::is_same_v<Kind, Branches>) {
            for (std::size_t i = 0; i < placed.nested.size(); ++i)
              add_places(placed.nested[i], prefix + "." + std::to_string(i) + ".", all);
          } else if constexpr (std::is_same_v<Kind, Auxiliary>) {
            add_places(placed.nested[0], prefix + ".", all);
          }
        },
        placed.layer);
    if (placed.weights.count > 0)
      all.push_back({prefix + ".weight", shape, placed.weights.offset, placed.weights.count});
    if (placed.biases.count > 0)
      all.push_back({prefix + ".bias", {placed.biases.count}, placed.biases.offset, placed.biases.count});
  }
}

}  // namespace detail

/// Weights and biases of every layer that has some, in the order of the flat vector. A convolution's weights are
/// output channel x input channel / groups x row x column, those of a Linear output x input.
inline std::vector<TensorPlace> tensor_places(Architecture const& architecture) {
  std::vector<TensorPlace> all;
  detail::add_places(architecture.layers(), "", all);
  return all;
}

/// Those of a model that has an architecture(); its own tensor_places() if it has that; else a single one without
/// a name.
template <class Model>
std::vector<TensorPlace> places_of(Model& model) {
  if constexpr (requires { model.tensor_places(); }) {
    return model.tensor_places();
  } else if constexpr (requires { tensor_places(model.architecture()); }) {
    return tensor_places(model.architecture());
  } else {
    std::size_t const size = model.parameters().size();
    return {{"", {size}, 0, size}};
  }
}

}  // namespace elastic::model
