// SPDX-License-Identifier: Apache-2.0
// BatchNorm of DeviceNet, on NCHW activations.
#pragma once

#include <cmath>
#include <cstddef>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/device_layers.hpp"
#include "elastic/model/detail/device_sums.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

struct StoreMean {
  float* to;
  double count;
  ELASTIC_FN void operator()(std::size_t channel, double sum) const {
    to[channel] = static_cast<float>(sum / count);
  }
};
struct SquaredDistance {
  ChannelIndex index;
  float const *x, *mean;
  ELASTIC_FN double operator()(std::size_t channel, std::size_t j) const {
    double const off = double(x[index(channel, j)]) - double(mean[channel]);
    return off * off;
  }
};

/// What x has become when it is normalized: gamma * normalized(x) + beta is the output.
struct Normalize {
  ChannelIndex index;
  float epsilon;
  float const *x, *mean, *variance;
  ELASTIC_FN float inverse(std::size_t channel) const { return 1 / std::sqrt(variance[channel] + epsilon); }
  ELASTIC_FN float operator()(std::size_t channel, std::size_t i) const {
    return (x[i] - mean[channel]) * inverse(channel);
  }
};
struct NormForward {
  Normalize normalized;
  float const *gamma, *beta;
  float* y;
  ELASTIC_FN void operator()(std::size_t i) const {
    std::size_t const c = normalized.index.channel(i);
    y[i] = normalized(c, i) * gamma[c] + beta[c];
  }
};
/// Row c sums the slopes of channel c, row channels + c those of its scale.
struct NormSlope {
  Normalize normalized;
  float const* dy;
  ELASTIC_FN double operator()(std::size_t row, std::size_t j) const {
    ChannelIndex const& index = normalized.index;
    if (row < index.channels) return double(dy[index(row, j)]);
    std::size_t const c = row - index.channels, i = index(c, j);
    return double(dy[i]) * double(normalized(c, i));
  }
};
struct StoreSlopes {
  std::size_t channels;
  float *beta, *gamma;
  ELASTIC_FN void operator()(std::size_t row, double sum) const {
    (row < channels ? beta[row] : gamma[row - channels]) = static_cast<float>(sum);
  }
};
struct NormBackward {
  Normalize normalized;
  float share;  // of one value in the sums
  float const *gamma, *gamma_gradient, *beta_gradient, *dy;
  float* dx;
  ELASTIC_FN void operator()(std::size_t i) const {
    std::size_t const c = normalized.index.channel(i);
    float const common = share * (beta_gradient[c] + normalized(c, i) * gamma_gradient[c]);
    dx[i] = gamma[c] * normalized.inverse(c) * (dy[i] - common);
  }
};

/// Its moments are part of those of the run, from `before` on: means, then variances.
template <class Dev>
class DeviceNorm {
 public:
  DeviceNorm(Dev& device, PlacedLayer const& placed, BatchNorm const& norm, DeviceParameters parameters,
             std::size_t before, std::size_t most)
      : p_(parameters),
        index_(placed.in),
        epsilon_(static_cast<float>(norm.epsilon)),
        before_(before),
        size_(placed.in.size()),
        y_(device.template allocate<float>(most * size_)) {}

  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    x_ = x;
    float* const y = y_.span().data();
    std::size_t const samples = count * index_.pixels;
    if (pass != Pass::evaluate) {
      float* const mean = run.moments + before_;
      sum_long_rows(run, index_.channels, samples, ChannelValue{index_, x}, StoreMean{mean, double(samples)});
      sum_long_rows(run, index_.channels, samples, SquaredDistance{index_, x, mean},
                    StoreMean{mean + index_.channels, double(samples)});
    }
    float const* const by = (pass == Pass::evaluate ? run.statistics : run.moments) + before_;
    run.device.launch(count * size_, NormForward{normalize(by), p_.weights, p_.biases, y});
    return y;
  }
  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    std::size_t const samples = count * index_.pixels;
    Normalize const normalized = normalize(run.moments + before_);
    run.device.template sum_rows<double>(
        2 * index_.channels, samples, NormSlope{normalized, dy},
        StoreSlopes{index_.channels, p_.bias_gradients, p_.weight_gradients});
    if (dx != nullptr)
      run.device.launch(count * size_,
                        NormBackward{normalized, static_cast<float>(1 / double(samples)), p_.weights,
                                     p_.weight_gradients, p_.bias_gradients, dy, dx});
    return dx;
  }

 private:
  Normalize normalize(float const* moments) const {
    return {index_, epsilon_, x_, moments, moments + index_.channels};
  }

  DeviceParameters p_;
  ChannelIndex index_;
  float epsilon_;
  std::size_t before_, size_;
  typename Dev::template Buffer<float> y_;
  float const* x_ = nullptr;
};

}  // namespace elastic::model::detail
