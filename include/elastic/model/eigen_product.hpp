// SPDX-License-Identifier: Apache-2.0
// Conv and Linear of EigenNet: products of weights and patches, several images at a time, on channels-last
// activations: a batch is a matrix with a column a pixel.
#pragma once

// g++ 12 takes the undefined values inside its own AVX-512 intrinsics for uninitialized variables.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <cstddef>
#include <span>

#include "elastic/device/cpu.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/patches.hpp"

namespace elastic::model::detail {

using Index = std::ptrdiff_t;
using Values = device::Cpu::Buffer<float>;
using Columns = Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>>;
using Rows = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

inline Values values(Index count) { return Values(static_cast<std::size_t>(count)); }

/// Where a layer's parameters and their gradients are.
struct Bound {
  float const* weights;
  float const* biases;
  float* weight_gradients;
  float* bias_gradients;
};

/// What a pass forward brings along, and what it leaves besides the logits.
struct Step {
  Generator& random;
  std::span<int const> labels;
  double auxiliary_loss = 0;
};

/// Adds `rows` consecutive vectors of `width` values to `sum`.
inline void add_rows(float const* rows, Index count, Index width, float* sum) {
  for (Index r = 0; r < count; ++r)
    for (Index i = 0; i < width; ++i) sum[i] += rows[r * width + i];
}

/// Conv and Linear: products of packed weights and patches, several images at a time.
class EigenProduct {
 public:
  EigenProduct(Shape in, Shape out, Conv const& conv, Index kernel_height, Index kernel_width, Bound bound,
               int max_batch)
      : bound_(bound),
        windows_{in.height,     in.width,     in.channels, in.channels / conv.groups,
                 kernel_height, kernel_width, conv.pad,    conv.stride,
                 out.height,    out.width},
        groups_(conv.groups),
        outputs_(out.channels / conv.groups),
        whole_(windows_.count() == 1 && windows_.patch_size() == static_cast<Index>(in.size())),
        images_(whole_
                    ? max_batch
                    : std::min<Index>(max_batch, std::max<Index>(1, columns_per_product / windows_.count()))),
        packed_(values(weight_count())),
        packed_gradients_(values(weight_count())),
        patches_(values(whole_ ? 0 : windows_.patch_size() * windows_.count() * images_)),
        y_(values(static_cast<Index>(out.size()) * max_batch)) {}

  float* forward(Pass, float* x, Index count, Step&) {
    x_ = x;
    pack();
    float* const y = y_.span().data();
    for (Index first = 0; first < count; first += images_) {
      Index const images = std::min(images_, count - first);
      for (Index g = 0; g < groups_; ++g)
        output(y, first, images, g).noalias() = weights(packed_, g) * gather(first, images, g);
      for (Index column = first * windows_.count(); column < (first + images) * windows_.count(); ++column)
        for (Index i = 0; i < channels(); ++i) y[column * channels() + i] += bound_.biases[i];
    }
    return y;
  }

  /// Without `dx`, the gradient of the input is not wanted.
  float* backward(float* dy, float* dx, Index count) {
    std::fill_n(packed_gradients_.span().data(), weight_count(), 0.0f);
    std::fill_n(bound_.bias_gradients, channels(), 0.0f);
    for (Index first = 0; first < count; first += images_) {
      Index const images = std::min(images_, count - first);
      for (Index g = 0; g < groups_; ++g)
        weights(packed_gradients_, g).noalias() +=
            output(dy, first, images, g) * gather(first, images, g).transpose();
      add_rows(dy + first * windows_.count() * channels(), images * windows_.count(), channels(),
               bound_.bias_gradients);
      if (dx != nullptr) input_gradient(dy, dx, first, images);
    }
    unpack();
    return dx;
  }

 private:
  // Enough columns for a product to run at full speed, few enough for its patches to stay in cache.
  static constexpr Index columns_per_product = 1024;

  Index channels() const { return groups_ * outputs_; }
  Index weight_count() const { return channels() * windows_.patch_size(); }
  Index image_size() const { return windows_.height * windows_.width * windows_.pixel; }

  Rows weights(Values& packed, Index group) const {
    Index const k = windows_.patch_size();
    return {packed.span().data() + group * outputs_ * k, outputs_, k};
  }

  Columns output(float* y, Index first, Index images, Index group) const {
    return {y + first * windows_.count() * channels() + group * outputs_, outputs_, images * windows_.count(),
            Eigen::OuterStride<>(channels())};
  }

  Columns columns(float* patches, Index images) const {
    Index const k = windows_.patch_size();
    return {patches, k, images * windows_.count(), Eigen::OuterStride<>(k)};
  }

  Columns gather(Index first, Index images, Index group) {
    if (whole_) return columns(x_ + first * image_size(), images);
    float* const patches = patches_.span().data();
    for (Index i = 0; i < images; ++i)
      gather_patches(windows_, x_ + (first + i) * image_size() + group * windows_.channels,
                     patches + i * windows_.count() * windows_.patch_size());
    return columns(patches, images);
  }

  void input_gradient(float* dy, float* dx, Index first, Index images) {
    float* const image = dx + first * image_size();
    if (whole_) {
      columns(image, images).noalias() = weights(packed_, 0).transpose() * output(dy, first, images, 0);
      return;
    }
    std::fill_n(image, images * image_size(), 0.0f);
    for (Index g = 0; g < groups_; ++g) {
      Columns patches = columns(patches_.span().data(), images);
      patches.noalias() = weights(packed_, g).transpose() * output(dy, first, images, g);
      for (Index i = 0; i < images; ++i)
        scatter_patches(windows_, patches.data() + i * windows_.count() * windows_.patch_size(),
                        image + i * image_size() + g * windows_.channels);
    }
  }

  // The flat vector holds a kernel as channel x row x column; patches have their channels last.
  void pack() {
    each_kernel([this](Index flat, Index packed) { packed_.span()[at(packed)] = bound_.weights[flat]; });
  }
  void unpack() {
    each_kernel([this](Index flat, Index packed) {
      bound_.weight_gradients[flat] = packed_gradients_.span()[at(packed)];
    });
  }
  template <class F>
  void each_kernel(F f) const {
    Index const size = windows_.kernel_height * windows_.kernel_width, inputs = windows_.channels;
    for (Index o = 0; o < channels(); ++o)
      for (Index c = 0; c < inputs; ++c)
        for (Index p = 0; p < size; ++p) f((o * inputs + c) * size + p, (o * size + p) * inputs + c);
  }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  Bound bound_;
  Windows windows_;
  Index groups_, outputs_;  // outputs of one group
  bool whole_;              // one window, the image itself: nothing to gather
  Index images_;            // per product
  Values packed_, packed_gradients_, patches_, y_;
  float* x_ = nullptr;
};

}  // namespace elastic::model::detail
