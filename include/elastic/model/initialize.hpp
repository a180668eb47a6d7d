// SPDX-License-Identifier: Apache-2.0
// The first parameters of a net: a function of architecture and seed alone, whatever the backend or library.
#pragma once

#include <algorithm>
#include <boost/random/mersenne_twister.hpp>
#include <boost/random/normal_distribution.hpp>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "elastic/model/architecture.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

namespace detail {

inline double deviation(Init init, double fan_in, double fan_out) {
  switch (init.kind) {
    case Init::Kind::he: return std::sqrt(2 / fan_in);
    case Init::Kind::glorot: return std::sqrt(2 / (fan_in + fan_out));
    case Init::Kind::normal: break;
  }
  return init.deviation;
}

}  // namespace detail

/// Fills `parameters` as the layers' `Init` and `bias` say; ranks that use the same seed start equal.
///
/// `parameters` holds architecture.parameter_count() values. Draws come from Boost.Random, since the standard
/// library's distributions differ from one implementation to the next.
inline void initialize(Architecture const& architecture, std::uint64_t seed, Span<float> parameters) {
  boost::random::mt19937_64 engine(seed);
  boost::random::normal_distribution<double> standard;
  for_each_layer(architecture.layers(), [&](PlacedLayer const& placed) {
    auto const fill = [&](double deviation, double bias) {
      for (float& w : parameters.part(placed.weights.offset, placed.weights.count))
        w = static_cast<float>(deviation * standard(engine));
      std::ranges::fill(parameters.part(placed.biases.offset, placed.biases.count), static_cast<float>(bias));
    };
    std::visit(
        [&]<class Kind>(Kind const& layer) {
          if constexpr (std::is_same_v<Kind, Conv>) {
            double const window = double(layer.kernel) * layer.kernel / layer.groups;
            fill(detail::deviation(layer.init, placed.in.channels * window, placed.out.channels * window),
                 layer.bias);
          } else if constexpr (std::is_same_v<Kind, Linear>) {
            fill(detail::deviation(layer.init, static_cast<double>(placed.in.size()), layer.outputs),
                 layer.bias);
          } else if constexpr (std::is_same_v<Kind, BatchNorm>) {
            std::ranges::fill(parameters.part(placed.weights.offset, placed.weights.count), 1.0f);
            std::ranges::fill(parameters.part(placed.biases.offset, placed.biases.count), 0.0f);
          }
        },
        placed.layer);
  });
}

}  // namespace elastic::model
