// SPDX-License-Identifier: Apache-2.0
// The pools of DeviceNet, on NCHW activations. Gradients are gathered, never scattered, so that the same sum has the
// same bits each time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// Calls f(place in the window, value) for each value of the i-th window that lies within the image.
template <class F>
ELASTIC_FN void each_in_window(WindowShape const& w, float const* x, std::size_t i, F f) {
  auto rest = static_cast<std::uint32_t>(i);
  int const left = static_cast<int>(take(rest, w.out_width)) * w.stride - w.pad,
            top = static_cast<int>(take(rest, w.out_height)) * w.stride - w.pad;
  float const* const image = x + place(rest, w.height, 0, w.width, 0);
  for (int row = top < 0 ? 0 : top; row < top + w.kernel && row < w.height; ++row)
    for (int column = left < 0 ? 0 : left; column < left + w.kernel && column < w.width; ++column)
      f((row - top) * w.kernel + column - left, image[place(0, w.height, row, w.width, column)]);
}
/// Calls f(place in the window, window) for each window that the i-th value of the images is in.
template <class F>
ELASTIC_FN void each_window_of(WindowShape const& w, std::size_t i, F f) {
  auto rest = static_cast<std::uint32_t>(i);
  int const column = static_cast<int>(take(rest, w.width)) + w.pad,
            row = static_cast<int>(take(rest, w.height)) + w.pad;
  int const first_y = row < w.kernel ? 0 : (row - w.kernel) / w.stride + 1,
            first_x = column < w.kernel ? 0 : (column - w.kernel) / w.stride + 1;
  for (int y = first_y; y < w.out_height && y * w.stride <= row; ++y)
    for (int x = first_x; x < w.out_width && x * w.stride <= column; ++x)
      f((row - y * w.stride) * w.kernel + column - x * w.stride,
        place(rest, w.out_height, y, w.out_width, x));
}

/// The largest value of each window, and which of the window it is: the first of equals.
struct PoolForward {
  WindowShape w;
  float const* x;
  float* y;
  std::uint16_t* winners;
  struct Best {
    float value;
    int place;
    ELASTIC_FN void operator()(int other, float candidate) {
      if (place >= 0 && !(candidate > value)) return;
      value = candidate;
      place = other;
    }
  };
  ELASTIC_FN void operator()(std::size_t i) const {
    Best best{0, -1};
    each_in_window<Best&>(w, x, i, best);
    y[i] = best.value;
    winners[i] = static_cast<std::uint16_t>(best.place);
  }
};
/// Each value's slope is the sum of those of the windows that it won.
struct PoolBackward {
  WindowShape w;
  float const* dy;
  std::uint16_t const* winners;
  float* dx;
  struct Won {
    float const* dy;
    std::uint16_t const* winners;
    float sum;
    ELASTIC_FN void operator()(int place, std::size_t window) {
      if (winners[window] == place) sum += dy[window];
    }
  };
  ELASTIC_FN void operator()(std::size_t i) const {
    Won won{dy, winners, 0};
    each_window_of<Won&>(w, i, won);
    dx[i] = won.sum;
  }
};

template <class Dev>
class DevicePool {
 public:
  DevicePool(Dev& device, PlacedLayer const& placed, MaxPool const& pool, std::size_t most)
      : w_(window_shape(placed.in, placed.out, pool.kernel, pool.stride == 0 ? pool.kernel : pool.stride,
                        pool.pad)),
        in_(placed.in.size()),
        out_(placed.out.size()),
        y_(device.template allocate<float>(most * out_)),
        winners_(device.template allocate<std::uint16_t>(most * out_)) {
    if (pool.kernel > 255) throw ConfigError("a net on a device pools windows of up to 255x255 values");
  }

  template <class Run>
  float* forward(Run& run, Pass, float* x, std::size_t count) {
    run.device.launch(count * out_, PoolForward{w_, x, y_.span().data(), winners_.span().data()});
    return y_.span().data();
  }
  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    run.device.launch(count * in_, PoolBackward{w_, dy, winners_.span().data(), dx});
    return dx;
  }

 private:
  WindowShape w_;
  std::size_t in_, out_;
  typename Dev::template Buffer<float> y_;
  typename Dev::template Buffer<std::uint16_t> winners_;
};

struct AverageForward {
  WindowShape w;
  float const* x;
  float* y;
  struct Sum {
    float sum;
    ELASTIC_FN void operator()(int, float value) { sum += value; }
  };
  ELASTIC_FN void operator()(std::size_t i) const {
    Sum all{0};
    each_in_window<Sum&>(w, x, i, all);
    y[i] = all.sum / static_cast<float>(w.kernel * w.kernel);
  }
};
struct AverageBackward {
  WindowShape w;
  float const* dy;
  float* dx;
  struct Sum {
    float const* dy;
    float sum;
    ELASTIC_FN void operator()(int, std::size_t window) { sum += dy[window]; }
  };
  ELASTIC_FN void operator()(std::size_t i) const {
    Sum all{dy, 0};
    each_window_of<Sum&>(w, i, all);
    dx[i] = all.sum / static_cast<float>(w.kernel * w.kernel);
  }
};

template <class Dev>
class DeviceAverage {
 public:
  DeviceAverage(Dev& device, PlacedLayer const& placed, AvgPool const& pool, std::size_t most)
      : w_(window_shape(placed.in, placed.out, pool.kernel, pool.stride == 0 ? pool.kernel : pool.stride, 0)),
        in_(placed.in.size()),
        out_(placed.out.size()),
        y_(device.template allocate<float>(most * out_)) {}

  template <class Run>
  float* forward(Run& run, Pass, float* x, std::size_t count) {
    run.device.launch(count * out_, AverageForward{w_, x, y_.span().data()});
    return y_.span().data();
  }
  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    run.device.launch(count * in_, AverageBackward{w_, dy, dx});
    return dx;
  }

 private:
  WindowShape w_;
  std::size_t in_, out_;
  typename Dev::template Buffer<float> y_;
};

}  // namespace elastic::model::detail
