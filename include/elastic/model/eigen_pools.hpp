// SPDX-License-Identifier: Apache-2.0
// The pools of EigenNet, on channels-last activations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "elastic/model/eigen_product.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"

namespace elastic::model::detail {

/// The windows of a pool, as far as they lie within the image.
class EigenWindows {
 public:
  EigenWindows(Shape in, Shape out, Index kernel, Index stride, Index pad)
      : in_(in), out_(out), kernel_(kernel), stride_(stride == 0 ? kernel : stride), pad_(pad) {}

  /// For each window of `count` images: start(window), then value(window, k, offset) for each of its places k with
  /// the pixel that starts at `offset`.
  template <class Start, class Value>
  void each(Index count, Start start, Value value) const {
    Index window = 0;
    for (Index n = 0; n < count; ++n)
      for (Index y = -pad_, oy = 0; oy < out_.height; ++oy, y += stride_)
        for (Index x = -pad_, ox = 0; ox < out_.width; ++ox, x += stride_, ++window) {
          start(window);
          for (Index row = std::max<Index>(y, 0); row < std::min<Index>(y + kernel_, in_.height); ++row)
            for (Index column = std::max<Index>(x, 0); column < std::min<Index>(x + kernel_, in_.width);
                 ++column)
              value(window, (row - y) * kernel_ + column - x,
                    ((n * in_.height + row) * in_.width + column) * in_.channels);
        }
  }

  Index channels() const { return in_.channels; }
  Index inputs() const { return static_cast<Index>(in_.size()); }
  Index outputs() const { return static_cast<Index>(out_.size()); }
  Index kernel() const { return kernel_; }

 private:
  Shape in_, out_;
  Index kernel_, stride_, pad_;
};

/// MaxPool; remembers which value of each window won.
class EigenPool {
 public:
  EigenPool(Shape in, Shape out, MaxPool const& pool, int max_batch)
      : windows_(in, out, pool.kernel, pool.stride, pool.pad),
        y_(values(windows_.outputs() * max_batch)),
        winners_(out.size() * static_cast<std::size_t>(max_batch)) {}

  float* forward(Pass, float* x, Index count, Step&) {
    float* const y = y_.span().data();
    std::int32_t* const winners = winners_.data();
    Index const channels = windows_.channels();
    windows_.each(
        count,
        [=](Index window) {
          std::fill_n(y + window * channels, channels, -std::numeric_limits<float>::infinity());
          std::fill_n(winners + window * channels, channels, -1);
        },
        [=](Index window, Index k, Index offset) {
          float* const best = y + window * channels;
          std::int32_t* const winner = winners + window * channels;
          float const* const value = x + offset;
          auto const place = static_cast<std::int32_t>(k);
          for (Index c = 0; c < channels; ++c) {
            bool const wins = value[c] > best[c];
            best[c] = wins ? value[c] : best[c];
            winner[c] = wins ? place : winner[c];
          }
        });
    return y;
  }

  float* backward(float* dy, float* dx, Index count) {
    std::fill_n(dx, windows_.inputs() * count, 0.0f);
    std::int32_t const* const winners = winners_.data();
    Index const channels = windows_.channels();
    windows_.each(
        count, [](Index) {},
        [=](Index window, Index k, Index offset) {
          float const* const slope = dy + window * channels;
          std::int32_t const* const winner = winners + window * channels;
          float* const target = dx + offset;
          for (Index c = 0; c < channels; ++c) target[c] += winner[c] == k ? slope[c] : 0.0f;
        });
    return dx;
  }

 private:
  EigenWindows windows_;
  Values y_;
  std::vector<std::int32_t> winners_;
};

/// AvgPool.
class EigenAverage {
 public:
  EigenAverage(Shape in, Shape out, AvgPool const& pool, int max_batch)
      : windows_(in, out, pool.kernel, pool.stride, 0),
        share_(1 / static_cast<float>(pool.kernel * pool.kernel)),
        y_(values(windows_.outputs() * max_batch)) {}

  float* forward(Pass, float* x, Index count, Step&) {
    float* const y = y_.span().data();
    Index const channels = windows_.channels();
    std::fill_n(y, windows_.outputs() * count, 0.0f);
    windows_.each(
        count, [](Index) {},
        [=, share = share_](Index window, Index, Index offset) {
          for (Index c = 0; c < channels; ++c) y[window * channels + c] += share * x[offset + c];
        });
    return y;
  }

  float* backward(float* dy, float* dx, Index count) {
    Index const channels = windows_.channels();
    std::fill_n(dx, windows_.inputs() * count, 0.0f);
    windows_.each(
        count, [](Index) {},
        [=, share = share_](Index window, Index, Index offset) {
          for (Index c = 0; c < channels; ++c) dx[offset + c] += share * dy[window * channels + c];
        });
    return dx;
  }

 private:
  EigenWindows windows_;
  float share_;
  Values y_;
};

}  // namespace elastic::model::detail
