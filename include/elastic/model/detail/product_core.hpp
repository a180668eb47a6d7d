// SPDX-License-Identifier: Apache-2.0
// The ways in which DeviceNet computes Conv and Linear, one of which is chosen for each layer when a net is made.
#pragma once

#include <cstddef>
#include <variant>

#include "elastic/model/architecture.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/model/detail/bf16.hpp"
#include "elastic/model/detail/device_products.hpp"

namespace elastic::model::detail {

template <class... More>
using ProductCore =
    std::variant<PatchConvolution<float>, PatchConvolution<Bf16>, Dense<float>, Dense<Bf16>, More...>;

/// The product of matrices that is the layer.
template <class Core>
Core product_core(Conv const& conv, PlacedLayer const& placed, int most, CudaNetOptions const& options) {
  std::size_t const bytes = static_cast<std::size_t>(options.workspace) << 20;
  if (options.precision == Precision::bf16) return PatchConvolution<Bf16>(placed, conv, most, bytes);
  return PatchConvolution<float>(placed, conv, most, bytes);
}
template <class Core>
Core product_core(Linear const&, PlacedLayer const& placed, int most, CudaNetOptions const& options) {
  if (options.precision == Precision::bf16) return Dense<Bf16>(placed, most);
  return Dense<float>(placed, most);
}

}  // namespace elastic::model::detail
