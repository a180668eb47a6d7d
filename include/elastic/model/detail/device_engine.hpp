// SPDX-License-Identifier: Apache-2.0
// The layers of DeviceNet in a row, and the memory they share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_feed.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/device_layers.hpp"
#include "elastic/model/detail/device_lrn.hpp"
#include "elastic/model/detail/device_norm.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

/// What layers need while they run, besides their own memory.
template <class Dev, class Kit>
struct DeviceRun {
  Dev& device;
  Kit& kit;
  std::byte* workspace;
  Span<double, typename Dev::memory> partial_sums;
  float const* masks;
  float* moments;           // of the batch, written by passes that train or calibrate
  float const* statistics;  // by which Pass::evaluate normalizes

  /// c = a b, `batch` times, row-major.
  template <class T>
  void multiply(std::size_t batch, std::size_t m, std::size_t n, std::size_t k, Matrices<T const> a,
                Matrices<T const> b, Matrices<float> c) {
    kit.multiply(column_major<T>(batch, m, n, k, a, b, c));
  }
};

template <class Dev, class Kit>
class DeviceEngine {
 public:
  DeviceEngine(Dev& device, Kit& kit, Architecture const& architecture, std::size_t most,
               float const* parameters, float* gradients)
      : slopes_{device.template allocate<float>(most * largest(architecture)),
                device.template allocate<float>(most * largest(architecture))},
        workspace_(device.template allocate<std::byte>(0)),
        partial_sums_(device.template allocate<double>(2048)) {  // blocks that fill a GPU
    if (!fits(most * largest(architecture))) refuse_index("a layer's activations");
    Schedule const schedule = make_schedule(architecture.layers());
    first_trained_ = schedule.first_trained;
    for (PlacedLayer const& placed : schedule.layers) {
      DeviceParameters const bound{parameters + placed.weights.offset, parameters + placed.biases.offset,
                                   gradients + placed.weights.offset, gradients + placed.biases.offset};
      std::visit([&](auto const& layer) { add(device, kit, layer, placed, bound, most); }, placed.layer);
    }
    workspace_ = device.template allocate<std::byte>(workspace_bytes_);
  }

  /// The Dropouts, in the order in which they draw.
  std::vector<Dropped> const& dropouts() const { return dropouts_; }

  DeviceRun<Dev, Kit> run(Dev& device, Kit& kit, float const* masks, float* moments,
                          float const* statistics) const {
    return {device, kit, workspace_.span().data(), partial_sums_.span(), masks, moments, statistics};
  }

  /// The logits, which the caller overwrites with their gradient before backward().
  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    for (Layer& layer : layers_)
      x = std::visit([&](auto& kind) { return kind.forward(run, pass, x, count); }, layer);
    return x;
  }

  template <class Run>
  void backward(Run& run, float* dy, std::size_t count) {
    float* spare = slopes_[0].span().data();
    float* next = slopes_[1].span().data();
    for (std::size_t i = layers_.size(); i-- > first_trained_;) {
      float* const wanted = i > first_trained_ ? spare : nullptr;
      float* const dx =
          std::visit([&](auto& kind) { return kind.backward(run, dy, wanted, count); }, layers_[i]);
      if (dx == spare) std::swap(spare, next);
      dy = dx;
    }
  }

 private:
  using Product = DeviceProduct<Dev, typename Kit::Core>;
  using Layer = std::variant<Product, DevicePool<Dev>, DeviceRelu<Dev>, DeviceDropout<Dev>, DeviceNorm<Dev>,
                             DeviceLrn<Dev>>;

  static std::size_t largest(Architecture const& architecture) {
    std::size_t values = 0;
    for (PlacedLayer const& placed : architecture.layers())
      values = std::max({values, placed.in.size(), placed.out.size()});
    return values;
  }

  template <class Kind>
  void add_product(Dev& device, Kit& kit, Kind const& kind, PlacedLayer const& placed, DeviceParameters bound,
                   std::size_t most) {
    Product product(device, placed, bound, kit.core(kind, placed, static_cast<int>(most)), most);
    workspace_bytes_ = std::max(workspace_bytes_, product.workspace());
    layers_.emplace_back(std::move(product));
  }
  void add(Dev& device, Kit& kit, Conv const& conv, PlacedLayer const& placed, DeviceParameters bound,
           std::size_t most) {
    add_product(device, kit, conv, placed, bound, most);
  }
  void add(Dev& device, Kit& kit, Linear const& linear, PlacedLayer const& placed, DeviceParameters bound,
           std::size_t most) {
    add_product(device, kit, linear, placed, bound, most);
  }
  void add(Dev& device, Kit&, MaxPool const& pool, PlacedLayer const& placed, DeviceParameters,
           std::size_t most) {
    if (pool.pad > 0) refuse_layer("padded MaxPool");
    layers_.emplace_back(std::in_place_type<DevicePool<Dev>>, device, placed, pool, most);
  }
  void add(Dev&, Kit&, AvgPool const&, PlacedLayer const&, DeviceParameters, std::size_t) {
    refuse_layer("AvgPool");
  }
  void add(Dev&, Kit&, Branches const&, PlacedLayer const&, DeviceParameters, std::size_t) {
    refuse_layer("Branches");
  }
  void add(Dev&, Kit&, Auxiliary const&, PlacedLayer const&, DeviceParameters, std::size_t) {
    refuse_layer("Auxiliary");
  }
  [[noreturn]] static void refuse_layer(char const* what) {
    throw ConfigError(std::string("a net on a device has no ") + what + "; EigenNet and OnednnNet do");
  }
  void add(Dev&, Kit&, Relu const&, PlacedLayer const& placed, DeviceParameters, std::size_t) {
    layers_.emplace_back(std::in_place_type<DeviceRelu<Dev>>, placed);
  }
  void add(Dev&, Kit&, Dropout const& dropout, PlacedLayer const& placed, DeviceParameters, std::size_t) {
    layers_.emplace_back(std::in_place_type<DeviceDropout<Dev>>, placed, masks_);
    dropouts_.push_back({placed.in.size(), dropout.rate});
    masks_ += placed.in.size();
  }
  void add(Dev& device, Kit&, BatchNorm const& norm, PlacedLayer const& placed, DeviceParameters bound,
           std::size_t most) {
    layers_.emplace_back(std::in_place_type<DeviceNorm<Dev>>, device, placed, norm, bound, moments_, most);
    moments_ += 2 * static_cast<std::size_t>(placed.in.channels);
  }
  void add(Dev& device, Kit&, Lrn const& lrn, PlacedLayer const& placed, DeviceParameters, std::size_t most) {
    layers_.emplace_back(std::in_place_type<DeviceLrn<Dev>>, device, placed, lrn, most);
  }

  std::size_t first_trained_ = 0;
  std::size_t masks_ = 0, moments_ = 0, workspace_bytes_ = 0;  // of the layers so far
  std::vector<Dropped> dropouts_;
  std::vector<Layer> layers_;
  typename Dev::template Buffer<float> slopes_[2];  // gradients of a layer's output and input take turns
  typename Dev::template Buffer<std::byte> workspace_;
  typename Dev::template Buffer<double> partial_sums_;
};

}  // namespace elastic::model::detail
