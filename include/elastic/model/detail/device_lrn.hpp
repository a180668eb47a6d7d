// SPDX-License-Identifier: Apache-2.0
// Lrn of DeviceNet, on NCHW activations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/lrn_factor.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// The sum of term(j) over the values j that share value i's place, in the channels around its own.
template <class Term>
ELASTIC_FN float sum_around(ChannelIndex const& index, int size, std::size_t i, Term term) {
  auto const half = static_cast<std::uint32_t>(size) / 2, own = index.channel(i);
  std::uint32_t const first = own < half ? 0 : own - half;
  std::uint32_t const last = own + half < index.channels ? own + half : index.channels - 1;
  std::size_t j = i - std::size_t(own - first) * index.pixels;
  float sum = 0;
  for (std::uint32_t c = first; c <= last; ++c, j += index.pixels) sum += term(j);
  return sum;
}

struct SquareOf {
  float const* x;
  ELASTIC_FN float operator()(std::size_t j) const { return x[j] * x[j]; }
};
struct LrnForward {
  ChannelIndex index;
  int size;
  float k, alpha, beta;
  float const* x;
  float *scales, *y;
  ELASTIC_FN void operator()(std::size_t i) const {
    float const scale = k + alpha * sum_around(index, size, i, SquareOf{x});
    scales[i] = scale;
    y[i] = x[i] * lrn_factor(scale, beta);
  }
};
struct LrnTerm {
  float beta;
  float const *x, *scales, *dy;
  ELASTIC_FN float operator()(std::size_t j) const {
    return dy[j] * x[j] * lrn_factor(scales[j], beta) / scales[j];
  }
};
struct LrnBackward {
  ChannelIndex index;
  int size;
  float alpha, beta;
  float const *x, *scales, *dy;
  float* dx;
  ELASTIC_FN void operator()(std::size_t i) const {
    float const others = sum_around(index, size, i, LrnTerm{beta, x, scales, dy});
    dx[i] = dy[i] * lrn_factor(scales[i], beta) - 2 * alpha * beta * x[i] * others;
  }
};

template <class Dev>
class DeviceLrn {
 public:
  DeviceLrn(Dev& device, PlacedLayer const& placed, Lrn const& lrn, std::size_t most)
      : lrn_(lrn),
        index_(placed.in),
        size_(placed.in.size()),
        scales_(device.template allocate<float>(most * size_)),
        y_(device.template allocate<float>(most * size_)) {}

  template <class Run>
  float* forward(Run& run, Pass, float* x, std::size_t count) {
    x_ = x;
    float* const y = y_.span().data();
    run.device.launch(count * size_, LrnForward{index_, lrn_.size, float(lrn_.k), float(lrn_.alpha),
                                                float(lrn_.beta), x, scales_.span().data(), y});
    return y;
  }
  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    run.device.launch(count * size_, LrnBackward{index_, lrn_.size, float(lrn_.alpha), float(lrn_.beta), x_,
                                                 scales_.span().data(), dy, dx});
    return dx;
  }

 private:
  Lrn lrn_;
  ChannelIndex index_;
  std::size_t size_;
  typename Dev::template Buffer<float> scales_, y_;
  float const* x_ = nullptr;
};

}  // namespace elastic::model::detail
