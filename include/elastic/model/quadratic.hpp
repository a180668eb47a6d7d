// SPDX-License-Identifier: Apache-2.0
// The model whose every answer is known: many independent copies of F(x) = h x^2 / 2 with noisy gradients.
#pragma once

#include <type_traits>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// n parameters, each with gradient h x - noise; a batch is the n noises. The optimum is 0.
///
/// The closed forms of EASGD's mean and variance hold for each parameter on its own (Zhang et al. 2015,
/// supplement).
template <class T = float, Device Dev = device::Cpu>
class Quadratic {
 public:
  using scalar = T;
  using device_type = Dev;
  using View = Span<T, typename Dev::memory>;
  using batch = std::vector<T>;

  Quadratic(Dev& device, std::size_t n, T curvature = 1)
      : device_(device),
        x_(device.template allocate<T>(n)),
        g_(device.template allocate<T>(n)),
        host_(std::is_same_v<typename Dev::memory, memory::Host> ? 0 : n),
        h_(curvature) {}

  Dev& device() { return device_; }
  View parameters() { return x_.span(); }
  View gradients() { return g_.span(); }

  /// Returns the mean of h x^2 / 2.
  double gradient(batch const& noise) {
    if constexpr (!std::is_same_v<typename Dev::memory, memory::Host>) {
      Span<T> const host(host_);  // two small copies are all that a model this small needs
      device_.download(read(x_.span()), host);
      double const loss = gradient_of(host, noise, host);
      device_.upload(read(host), g_.span());
      return loss;
    } else {
      return gradient_of(x_.span(), noise, g_.span());
    }
  }

 private:
  double gradient_of(Span<T> x, batch const& noise, Span<T> g) const {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      T const xi = x[i];
      g[i] = h_ * xi - noise[i];
      sum += double(h_ * xi * xi) / 2;
    }
    return sum / double(x.size());
  }

  Dev& device_;
  typename Dev::template Buffer<T> x_, g_;
  std::vector<T> host_;  // x and then g, where the device has a memory of its own
  T h_;
};

}  // namespace elastic::model
