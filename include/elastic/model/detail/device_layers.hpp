// SPDX-License-Identifier: Apache-2.0
// The layers of DeviceNet except those that normalize or pool, on NCHW activations: what they compute as functors, and the memory they
// keep. Gradients are gathered, never scattered, so that the same sum has the same bits each time.
#pragma once

#include <cstddef>
#include <utility>
#include <variant>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/device_sums.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/ops.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

struct AddBias {
  ChannelIndex index;
  float const* biases;
  float* y;
  ELASTIC_FN void operator()(std::size_t i) const { y[i] += biases[index.channel(i)]; }
};
/// Where a layer's parameters and their gradients are, on the device.
struct DeviceParameters {
  float const *weights, *biases;
  float *weight_gradients, *bias_gradients;
};

/// Conv and Linear: a product, which Core computes in one of several ways, plus biases.
template <class Dev, class Core>
class DeviceProduct {
 public:
  DeviceProduct(Dev& device, PlacedLayer const& placed, DeviceParameters parameters, Core core,
                std::size_t most)
      : core_(std::move(core)),
        p_(parameters),
        index_(placed.out),
        out_(placed.out.size()),
        y_(device.template allocate<float>(most * placed.out.size())) {}

  std::size_t workspace() const {
    return std::visit([](auto const& core) { return core.workspace(); }, core_);
  }

  template <class Run>
  float* forward(Run& run, Pass, float* x, std::size_t count) {
    x_ = x;
    float* const y = y_.span().data();
    std::visit([&](auto& core) { core.forward(run, x, p_.weights, y, count); }, core_);
    run.device.launch(count * out_, AddBias{index_, p_.biases, y});
    return y;
  }

  /// Without `dx`, the gradient of the input is not wanted.
  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    sum_long_rows(run, index_.channels, count * index_.pixels, ChannelValue{index_, dy},
                  StoreFloat{p_.bias_gradients});
    std::visit([&](auto& core) { core.weight_gradient(run, x_, dy, p_.weight_gradients, count); }, core_);
    if (dx != nullptr)
      std::visit([&](auto& core) { core.input_gradient(run, dy, p_.weights, dx, count); }, core_);
    return dx;
  }

 private:
  Core core_;
  DeviceParameters p_;
  ChannelIndex index_;
  std::size_t out_;
  typename Dev::template Buffer<float> y_;
  float const* x_ = nullptr;
};

struct Rectify {
  ELASTIC_FN void operator()(float& x) const { x = x > 0 ? x : 0.0f; }
};
struct RectifySlope {
  ELASTIC_FN void operator()(float& dy, float y) const { dy = y > 0 ? dy : 0.0f; }
};

/// Relu, in place.
template <class Dev>
class DeviceRelu {
 public:
  explicit DeviceRelu(PlacedLayer const& placed) : size_(placed.in.size()) {}

  template <class Run>
  float* forward(Run& run, Pass, float* x, std::size_t count) {
    y_ = x;
    run.device.for_each(Rectify{}, Values(x, count * size_));
    return x;
  }
  template <class Run>
  float* backward(Run& run, float* dy, float*, std::size_t count) const {
    run.device.for_each(RectifySlope{}, Values(dy, count * size_), read(Values(y_, count * size_)));
    return dy;
  }

 private:
  using Values = Span<float, typename Dev::memory>;
  std::size_t size_;
  float* y_ = nullptr;
};

struct Multiply {
  ELASTIC_FN void operator()(float& x, float mask) const { x *= mask; }
};

/// Dropout, in place, by a mask that the run brings along: `before` values an image are those of other layers.
template <class Dev>
class DeviceDropout {
 public:
  DeviceDropout(PlacedLayer const& placed, std::size_t before) : size_(placed.in.size()), before_(before) {}

  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) const {
    return pass == Pass::train ? backward(run, x, nullptr, count) : x;
  }
  template <class Run>
  float* backward(Run& run, float* x, float*, std::size_t count) const {
    using Memory = typename Dev::memory;
    run.device.for_each(Multiply{}, Span<float, Memory>(x, count * size_),
                        Span<float const, Memory>(run.masks + count * before_, count * size_));
    return x;
  }

 private:
  std::size_t size_, before_;
};

}  // namespace elastic::model::detail
