// SPDX-License-Identifier: Apache-2.0
// Convolution and linear layers of DeviceNet as products of matrices, on NCHW activations, without their biases.
// T is what the factors are: float, or Bf16, which they are rounded to on the way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/bf16.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/detail/scratch.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// Writes every window of every image as a column: image x (channel x row x column of the kernel) x window.
template <class T>
struct GatherPatches {
  WindowShape w;
  float const* x;
  T* patches;
  ELASTIC_FN void operator()(std::size_t i) const {
    auto rest = static_cast<std::uint32_t>(i);
    int const column = static_cast<int>(take(rest, w.out_width)) * w.stride - w.pad;
    int const row = static_cast<int>(take(rest, w.out_height)) * w.stride - w.pad;
    int const x_at = column + static_cast<int>(take(rest, w.kernel));
    int const y_at = row + static_cast<int>(take(rest, w.kernel));
    bool const inside =
        x_at >= 0 && x_at < w.width && y_at >= 0 && y_at < w.height;  // rest: image and channel
    patches[i] = T(inside ? x[place(rest, w.height, y_at, w.width, x_at)] : 0.0f);
  }
};

/// Each value of the images becomes the sum of its copies in the patches.
struct SumPatches {
  WindowShape w;
  float const* patches;
  float* x;
  ELASTIC_FN void operator()(std::size_t i) const {
    auto rest = static_cast<std::uint32_t>(i);
    int const column = static_cast<int>(take(rest, w.width)) + w.pad;
    int const row = static_cast<int>(take(rest, w.height)) + w.pad;
    float sum = 0;
    for (int ky = 0; ky < w.kernel; ++ky) {
      int const down = row - ky, oy = down / w.stride;
      if (down < 0 || oy * w.stride != down || oy >= w.out_height) continue;
      for (int kx = 0; kx < w.kernel; ++kx) {
        int const right = column - kx, ox = right / w.stride;
        if (right < 0 || ox * w.stride != right || ox >= w.out_width) continue;
        sum += patches[place(place(rest, w.kernel, ky, w.kernel, kx), w.out_height, oy, w.out_width, ox)];
      }
    }
    x[i] = sum;
  }
};

/// sum[i] of `count` arrays of `n` values that lie one after the other, added to what `sum` holds if `adds`.
struct SumArrays {
  float const* arrays;
  float* sum;
  std::size_t n, count;
  bool adds;
  ELASTIC_FN void operator()(std::size_t i) const {
    float total = adds ? sum[i] : 0.0f;
    for (std::size_t k = 0; k < count; ++k) total += arrays[k * n + i];
    sum[i] = total;
  }
};

struct Round {
  float const* from;
  Bf16* to;
  ELASTIC_FN void operator()(std::size_t i) const { to[i] = Bf16(from[i]); }
};

struct Widen {
  Bf16 const* from;
  float* to;
  ELASTIC_FN void operator()(std::size_t i) const { to[i] = static_cast<float>(from[i]); }
};

/// `n` values as factors of type T: themselves, or rounded into `scratch`.
template <class T, class Run>
T const* factors(Run& run, Scratch& scratch, float const* values, std::size_t n) {
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    T* const rounded = scratch.take<T>(n);
    run.device.launch(n, Round{values, rounded});
    return rounded;
  }
}
template <class T>
constexpr std::size_t factors_room(std::size_t n) {
  return std::is_same_v<T, float> ? 0 : Scratch::room<T>(n);
}

/// A convolution as weights times patches, for as many images at a time as its share of the memory holds.
template <class T>
class PatchConvolution {
 public:
  PatchConvolution(PlacedLayer const& placed, Conv const& conv, int max_batch, std::size_t most_bytes)
      : w_(window_shape(placed.in, placed.out, conv.kernel, conv.stride, conv.pad)),
        groups_(static_cast<std::size_t>(conv.groups)),
        outputs_(static_cast<std::size_t>(conv.channels) / groups_),
        pixels_(static_cast<std::size_t>(placed.out.height) * static_cast<std::size_t>(placed.out.width)),
        weights_(placed.weights.count),
        depth_(weights_ / (groups_ * outputs_)),
        in_(placed.in.size()),
        out_(placed.out.size()) {
    auto const most = static_cast<std::size_t>(max_batch);
    while (images_ < most && workspace_for(images_ + 1) <= most_bytes && fits_index(images_ + 1)) ++images_;
    if (!fits_index(images_)) refuse_index("a convolution's patches of one image");
  }

  /// Bytes of scratch memory.
  std::size_t workspace() const { return workspace_for(images_); }

  template <class Run>
  void forward(Run& run, float const* x, float const* weights, float* y, std::size_t count) const {
    Scratch scratch(run.workspace);
    T const* const w = factors<T>(run, scratch, weights, weights_);
    T* const patches = scratch.take<T>(images_ * patch_size());
    for (std::size_t first = 0; first < count; first += images_) {
      std::size_t const images = std::min(images_, count - first);
      gather(run, x + first * in_, patches, images);
      for (std::size_t g = 0; g < groups_; ++g)
        run.multiply(images, outputs_, pixels_, depth_, Matrices<T const>{w + g * outputs_ * depth_, depth_},
                     Matrices<T const>{patches + g * depth_ * pixels_, pixels_, patch_size()},
                     Matrices<float>{y + first * out_ + g * outputs_ * pixels_, pixels_, out_});
    }
  }

  /// Images add up in a fixed order: one gradient each, then their sum.
  template <class Run>
  void weight_gradient(Run& run, float const* x, float const* dy, float* dw, std::size_t count) const {
    for (std::size_t first = 0; first < count; first += images_) {
      std::size_t const images = std::min(images_, count - first);
      Scratch scratch(run.workspace);
      T* const patches = scratch.take<T>(images * patch_size());
      float* const each = scratch.take<float>(images * weights_);
      T const* const slopes = factors<T>(run, scratch, dy + first * out_, images * out_);
      gather(run, x + first * in_, patches, images);
      for (std::size_t g = 0; g < groups_; ++g)
        run.multiply(images, outputs_, depth_, pixels_,
                     Matrices<T const>{slopes + g * outputs_ * pixels_, pixels_, out_},
                     Matrices<T const>{patches + g * depth_ * pixels_, pixels_, patch_size(), true},
                     Matrices<float>{each + g * outputs_ * depth_, depth_, weights_});
      run.device.launch(weights_, SumArrays{each, dw, weights_, images, first > 0});
    }
  }

  template <class Run>
  void input_gradient(Run& run, float const* dy, float const* weights, float* dx, std::size_t count) const {
    Scratch whole(run.workspace);
    T const* const w = factors<T>(run, whole, weights, weights_);
    for (std::size_t first = 0; first < count; first += images_) {
      std::size_t const images = std::min(images_, count - first);
      Scratch scratch = whole;
      T const* const slopes = factors<T>(run, scratch, dy + first * out_, images * out_);
      float* const patches = scratch.take<float>(images * patch_size());
      for (std::size_t g = 0; g < groups_; ++g)
        run.multiply(images, depth_, pixels_, outputs_,
                     Matrices<T const>{w + g * outputs_ * depth_, depth_, 0, true},
                     Matrices<T const>{slopes + g * outputs_ * pixels_, pixels_, out_},
                     Matrices<float>{patches + g * depth_ * pixels_, pixels_, patch_size()});
      run.device.launch(images * in_, SumPatches{w_, patches, dx + first * in_});
    }
  }

 private:
  std::size_t patch_size() const { return groups_ * depth_ * pixels_; }  // of one image

  template <class Run>
  void gather(Run& run, float const* x, T* patches, std::size_t images) const {
    run.device.launch(images * patch_size(), GatherPatches<T>{w_, x, patches});
  }

  std::size_t workspace_for(std::size_t images) const {
    std::size_t const slopes = factors_room<T>(images * out_);
    std::size_t const to_weights =
        Scratch::room<T>(images * patch_size()) + Scratch::room<float>(images * weights_) + slopes;
    std::size_t const to_input =
        factors_room<T>(weights_) + slopes + Scratch::room<float>(images * patch_size());
    return std::max(to_weights, to_input);  // forward takes less than to_input
  }
  bool fits_index(std::size_t images) const { return fits(images * std::max(patch_size(), in_)); }

  WindowShape w_;
  std::size_t groups_, outputs_;  // outputs of one group
  std::size_t pixels_, weights_, depth_, in_, out_;
  std::size_t images_ = 1;  // per product
};

/// A linear layer.
template <class T>
class Dense {
 public:
  Dense(PlacedLayer const& placed, int max_batch)
      : in_(placed.in.size()), out_(placed.out.size()), most_(static_cast<std::size_t>(max_batch)) {}

  std::size_t workspace() const {
    return factors_room<T>(in_ * out_) + factors_room<T>(most_ * in_) + factors_room<T>(most_ * out_);
  }

  template <class Run>
  void forward(Run& run, float const* x, float const* weights, float* y, std::size_t count) const {
    Scratch scratch(run.workspace);
    run.multiply(1, count, out_, in_, Matrices<T const>{factors<T>(run, scratch, x, count * in_), in_},
                 Matrices<T const>{factors<T>(run, scratch, weights, in_ * out_), in_, 0, true},
                 Matrices<float>{y, out_});
  }
  template <class Run>
  void weight_gradient(Run& run, float const* x, float const* dy, float* dw, std::size_t count) const {
    Scratch scratch(run.workspace);
    run.multiply(1, out_, in_, count,
                 Matrices<T const>{factors<T>(run, scratch, dy, count * out_), out_, 0, true},
                 Matrices<T const>{factors<T>(run, scratch, x, count * in_), in_}, Matrices<float>{dw, in_});
  }
  template <class Run>
  void input_gradient(Run& run, float const* dy, float const* weights, float* dx, std::size_t count) const {
    Scratch scratch(run.workspace);
    run.multiply(1, count, in_, out_, Matrices<T const>{factors<T>(run, scratch, dy, count * out_), out_},
                 Matrices<T const>{factors<T>(run, scratch, weights, in_ * out_), in_},
                 Matrices<float>{dx, in_});
  }

 private:
  std::size_t in_, out_, most_;
};

}  // namespace elastic::model::detail
