// SPDX-License-Identifier: Apache-2.0
// Local response normalization for EigenNet, on channels-last activations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "elastic/model/detail/lrn_factor.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"

namespace elastic::model::detail {

/// Lrn.
class EigenLrn {
 public:
  EigenLrn(Shape shape, Lrn const& lrn, int max_batch)
      : lrn_(lrn),
        channels_(shape.channels),
        pixels_(static_cast<Index>(shape.height) * shape.width),
        scales_(values(static_cast<Index>(shape.size()) * max_batch)),
        y_(values(static_cast<Index>(shape.size()) * max_batch)),
        terms_(static_cast<std::size_t>(shape.channels)) {}

  float* forward(Pass, float* x, Index count, Step&) {
    x_ = x;
    float* const y = y_.span().data();
    float* const scale = scales_.span().data();
    auto const k = static_cast<float>(lrn_.k), alpha = static_cast<float>(lrn_.alpha),
               beta = static_cast<float>(lrn_.beta);
    for (Index first = 0; first < count * pixels_ * channels_; first += channels_) {
      for (Index c = 0; c < channels_; ++c) terms_[at(c)] = x[first + c] * x[first + c];
      for (Index c = 0; c < channels_; ++c) {
        scale[first + c] = k + alpha * sum_around(c);
        y[first + c] = x[first + c] * lrn_factor(scale[first + c], beta);
      }
    }
    return y;
  }

  float* backward(float* dy, float* dx, Index count) {
    float const* const scale = scales_.span().data();
    auto const twice = static_cast<float>(2 * lrn_.alpha * lrn_.beta), beta = static_cast<float>(lrn_.beta);
    for (Index first = 0; first < count * pixels_ * channels_; first += channels_) {
      for (Index i = first; i < first + channels_; ++i) {
        float const factor = lrn_factor(scale[i], beta);
        dx[i] = dy[i] * factor;
        terms_[at(i - first)] = dx[i] * x_[i] / scale[i];
      }
      for (Index c = 0; c < channels_; ++c) dx[first + c] -= twice * x_[first + c] * sum_around(c);
    }
    return dx;
  }

 private:
  float sum_around(Index channel) const {
    Index const half = lrn_.size / 2;
    float sum = 0;
    for (Index c = std::max<Index>(0, channel - half); c <= std::min(channels_ - 1, channel + half); ++c)
      sum += terms_[at(c)];
    return sum;
  }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  Lrn lrn_;
  Index channels_, pixels_;
  Values scales_, y_;
  std::vector<float> terms_;  // one pixel's, of the sums over channels
  float const* x_ = nullptr;
};

}  // namespace elastic::model::detail
