// SPDX-License-Identifier: Apache-2.0
// Convolution as a matrix product: windows of an image become columns, and gradients of columns an image's.
// Images are channels-last, so that a row of a window is one contiguous run.
#pragma once

#include <algorithm>
#include <cstddef>

namespace elastic::model::detail {

/// Windows over one image of height x width x pixel values, of which each pixel yields `channels`.
/// A patch holds kernel_height x kernel_width x channels values, channels fastest.
struct Windows {
  std::ptrdiff_t height, width, pixel, channels;
  std::ptrdiff_t kernel_height, kernel_width, pad, stride;
  std::ptrdiff_t out_height, out_width;

  std::ptrdiff_t patch_size() const { return kernel_height * kernel_width * channels; }
  std::ptrdiff_t count() const { return out_height * out_width; }
};

/// Calls inside(patch_offset, image_offset, length) for each run of values that patches share with the image
/// and outside(patch_offset, length) for each run that lies in the padding.
template <class Inside, class Outside>
void for_each_run(Windows const& w, Inside inside, Outside outside) {
  bool const whole_pixels = w.channels == w.pixel;
  std::ptrdiff_t patch = 0;
  for (std::ptrdiff_t y = 0; y < w.out_height; ++y) {
    for (std::ptrdiff_t x = 0; x < w.out_width; ++x) {
      std::ptrdiff_t const left = x * w.stride - w.pad;
      std::ptrdiff_t const begin = std::clamp<std::ptrdiff_t>(-left, 0, w.kernel_width);
      std::ptrdiff_t const end = std::clamp<std::ptrdiff_t>(w.width - left, begin, w.kernel_width);
      for (std::ptrdiff_t row = y * w.stride - w.pad, last = row + w.kernel_height; row < last; ++row) {
        if (row < 0 || row >= w.height) {
          outside(patch, w.kernel_width * w.channels);
        } else {
          std::ptrdiff_t const image = (row * w.width + left) * w.pixel;
          if (begin > 0) outside(patch, begin * w.channels);
          if (whole_pixels) {
            inside(patch + begin * w.channels, image + begin * w.pixel, (end - begin) * w.channels);
          } else {
            for (std::ptrdiff_t i = begin; i < end; ++i)
              inside(patch + i * w.channels, image + i * w.pixel, w.channels);
          }
          if (end < w.kernel_width) outside(patch + end * w.channels, (w.kernel_width - end) * w.channels);
        }
        patch += w.kernel_width * w.channels;
      }
    }
  }
}

/// Writes the image's patches one after the other; zeros stand for the padding.
inline void gather_patches(Windows const& w, float const* image, float* patches) {
  for_each_run(
      w,
      [=](std::ptrdiff_t to, std::ptrdiff_t from, std::ptrdiff_t length) {
        std::copy_n(image + from, length, patches + to);
      },
      [=](std::ptrdiff_t to, std::ptrdiff_t length) { std::fill_n(patches + to, length, 0.0f); });
}

/// Adds each patch to the part of the image it was taken from.
inline void scatter_patches(Windows const& w, float const* patches, float* image) {
  for_each_run(
      w,
      [=](std::ptrdiff_t from, std::ptrdiff_t to, std::ptrdiff_t length) {
        for (std::ptrdiff_t i = 0; i < length; ++i) image[to + i] += patches[from + i];
      },
      [](std::ptrdiff_t, std::ptrdiff_t) {});
}

}  // namespace elastic::model::detail
