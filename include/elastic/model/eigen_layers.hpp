// SPDX-License-Identifier: Apache-2.0
// The layers of EigenNet that neither are products nor pool, on channels-last activations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "elastic/model/dropout.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"

namespace elastic::model::detail {

/// Relu, in place.
class EigenRelu {
 public:
  explicit EigenRelu(Shape shape) : size_(static_cast<Index>(shape.size())) {}

  float* forward(Pass, float* x, Index count, Step&) {
    y_ = x;
    for (Index i = 0; i < count * size_; ++i) x[i] = x[i] > 0 ? x[i] : 0.0f;
    return x;
  }

  float* backward(float* dy, float*, Index count) const {
    for (Index i = 0; i < count * size_; ++i) dy[i] = y_[i] > 0 ? dy[i] : 0.0f;
    return dy;
  }

 private:
  Index size_;
  float const* y_ = nullptr;
};

/// Dropout, in place.
class EigenDropout {
 public:
  EigenDropout(Shape shape, double rate, int max_batch)
      : channels_(shape.channels),
        pixels_(static_cast<Index>(shape.height) * shape.width),
        rate_(rate),
        mask_(shape.size() * static_cast<std::size_t>(max_batch)) {}

  float* forward(Pass pass, float* x, Index count, Step& step) {
    if (pass != Pass::train) return x;
    draw_dropout_mask(step.random, rate_,
                      {mask_.data(), static_cast<std::size_t>(count * channels_ * pixels_)});
    return backward(x, nullptr, count);
  }

  float* backward(float* x, float*, Index count) const {
    float const* mask = mask_.data();  // in the order of NCHW
    for (Index n = 0; n < count; ++n)
      for (Index c = 0; c < channels_; ++c)
        for (Index p = 0; p < pixels_; ++p) x[(n * pixels_ + p) * channels_ + c] *= *mask++;
    return x;
  }

 private:
  Index channels_, pixels_;
  double rate_;
  std::vector<float> mask_;
};

/// BatchNorm.
class EigenNorm {
 public:
  EigenNorm(Shape shape, double epsilon, Bound bound, Moments& moments, int max_batch)
      : bound_(bound),
        moments_(&moments),
        channels_(shape.channels),
        pixels_(static_cast<Index>(shape.height) * shape.width),
        epsilon_(epsilon),
        inverse_(shape_size()),
        first_(shape_size()),
        second_(shape_size()),
        y_(values(static_cast<Index>(shape.size()) * max_batch)) {}

  float* forward(Pass pass, float* x, Index count, Step&) {
    x_ = x;
    Index const rows = count * pixels_;
    float* const mean = moments_->mean.data();
    float* const variance = moments_->variance.data();
    if (pass != Pass::evaluate) {
      average(rows, mean, [x](Index i, Index) { return x[i]; });
      average(rows, variance, [=](Index i, Index c) { return (x[i] - mean[c]) * (x[i] - mean[c]); });
    }
    float* const y = y_.span().data();
    for (Index c = 0; c < channels_; ++c) {
      inverse_[at(c)] = static_cast<float>(1 / std::sqrt(static_cast<double>(variance[c]) + epsilon_));
      first_[at(c)] = bound_.weights[c] * inverse_[at(c)];
    }
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < channels_; ++c)
        y[r * channels_ + c] = (x[r * channels_ + c] - mean[c]) * first_[at(c)] + bound_.biases[c];
    return y;
  }

  float* backward(float* dy, float* dx, Index count) {
    Index const rows = count * pixels_;
    float const* const x = x_;
    float const* const mean = moments_->mean.data();
    float const* const inverse = inverse_.data();
    average(rows, first_.data(), [dy](Index i, Index) { return dy[i]; });
    average(rows, second_.data(), [=](Index i, Index c) { return dy[i] * (x[i] - mean[c]) * inverse[c]; });
    for (Index c = 0; c < channels_; ++c) {
      bound_.bias_gradients[c] = first_[at(c)] * static_cast<float>(rows);
      bound_.weight_gradients[c] = second_[at(c)] * static_cast<float>(rows);
    }
    if (dx == nullptr) return dx;
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < channels_; ++c) {
        Index const i = r * channels_ + c;
        float const normalized = (x[i] - mean[c]) * inverse[c];
        dx[i] = bound_.weights[c] * inverse[c] * (dy[i] - first_[at(c)] - normalized * second_[at(c)]);
      }
    }
    return dx;
  }

 private:
  // Each channel's mean of f(index, channel). Floats add up a few hundred rows, doubles the rest, so that the
  // last rows count as much as the first.
  template <class F>
  void average(Index rows, float* means, F f) {
    constexpr Index block = 256;
    partial_.resize(shape_size());
    total_.assign(shape_size(), 0.0);
    for (Index first = 0; first < rows; first += block) {
      std::fill(partial_.begin(), partial_.end(), 0.0f);
      for (Index r = first; r < std::min(rows, first + block); ++r)
        for (Index c = 0; c < channels_; ++c) partial_[at(c)] += f(r * channels_ + c, c);
      for (Index c = 0; c < channels_; ++c) total_[at(c)] += static_cast<double>(partial_[at(c)]);
    }
    for (Index c = 0; c < channels_; ++c)
      means[c] = static_cast<float>(total_[at(c)] / static_cast<double>(rows));
  }

  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  std::size_t shape_size() const { return at(channels_); }

  Bound bound_;
  Moments* moments_;
  Index channels_, pixels_;
  double epsilon_;
  std::vector<float> inverse_, first_, second_, partial_;
  std::vector<double> total_;
  Values y_;
  float const* x_ = nullptr;
};

}  // namespace elastic::model::detail
