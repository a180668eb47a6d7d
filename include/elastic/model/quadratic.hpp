// SPDX-License-Identifier: Apache-2.0
// The model whose every answer is known: many independent copies of F(x) = h x^2 / 2 with noisy gradients.
#pragma once

#include <vector>

#include "elastic/device/cpu.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// n parameters, each with gradient h x - noise; a batch is the n noises. The optimum is 0.
///
/// The closed forms of EASGD's mean and variance hold for each parameter on its own (Zhang et al. 2015,
/// supplement).
template <class T = float>
class Quadratic {
 public:
  using scalar = T;
  using device_type = device::Cpu;
  using batch = std::vector<T>;

  Quadratic(device::Cpu& device, std::size_t n, T curvature = 1)
      : device_(device), x_(device.allocate<T>(n)), g_(device.allocate<T>(n)), h_(curvature) {}

  device::Cpu& device() { return device_; }
  Span<T> parameters() { return x_.span(); }
  Span<T> gradients() { return g_.span(); }

  /// Returns the mean of h x^2 / 2.
  double gradient(batch const& noise) {
    auto const x = x_.span(), g = g_.span();
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      g[i] = h_ * x[i] - noise[i];
      sum += double(h_ * x[i] * x[i]) / 2;
    }
    return sum / double(x.size());
  }

 private:
  device::Cpu& device_;
  device::Cpu::Buffer<T> x_, g_;
  T h_;
};

}  // namespace elastic::model
