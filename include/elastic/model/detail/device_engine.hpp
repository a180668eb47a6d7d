// SPDX-License-Identifier: Apache-2.0
// The layers of DeviceNet, and the memory they share.
#pragma once

#include <cstddef>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_chain.hpp"
#include "elastic/model/detail/device_feed.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/moments.hpp"
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
  float const* labels;
  double* auxiliary_loss;   // what Auxiliaries add to the sum of losses
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
      : DeviceEngine(DeviceSite<Dev, Kit>{device, kit, most, parameters, gradients}, architecture) {}

  /// The Dropouts, in the order in which they draw.
  std::vector<Dropped> const& dropouts() const { return dropouts_; }
  bool has_auxiliaries() const { return has_auxiliaries_; }

  DeviceRun<Dev, Kit> run(Dev& device, Kit& kit, Fed const& fed, double* auxiliary_loss, float* moments,
                          float const* statistics) const {
    return {device,    kit,        workspace_.span().data(), partial_sums_.span(),
            fed.masks, fed.labels, auxiliary_loss,           moments,
            statistics};
  }

  /// The logits, which the caller overwrites with their gradient before backward().
  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    return layers_.forward(run, pass, x, count);
  }

  template <class Run>
  void backward(Run& run, float* dy, std::size_t count) {
    layers_.backward(run, dy, count);
  }

 private:
  DeviceEngine(DeviceSite<Dev, Kit> site, Architecture const& architecture)
      : slopes_(site.device.template allocate<float>(slope_room(architecture.layers(), site.most))),
        layers_(architecture.layers(), architecture.input(), site, slopes_.span().data(),
                /*passes_gradient=*/false),
        dropouts_(site.dropouts),
        has_auxiliaries_(site.auxiliaries > 0),
        workspace_(site.device.template allocate<std::byte>(site.workspace_bytes)),
        partial_sums_(site.device.template allocate<double>(2048)) {}  // blocks that fill a GPU

  typename Dev::template Buffer<float> slopes_;
  DeviceChain<Dev, Kit> layers_;
  std::vector<Dropped> dropouts_;
  bool has_auxiliaries_;
  typename Dev::template Buffer<std::byte> workspace_;
  typename Dev::template Buffer<double> partial_sums_;
};

}  // namespace elastic::model::detail
