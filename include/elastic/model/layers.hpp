// SPDX-License-Identifier: Apache-2.0
// The words a net is described in: plain aggregates that say what a layer is, not how a backend computes it.
#pragma once

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

namespace elastic::model {

/// The size of one image, or of one image's activations.
struct Shape {
  int channels = 0;
  int height = 1;
  int width = 1;

  std::size_t size() const {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) *
           static_cast<std::size_t>(width);
  }
  friend bool operator==(Shape const&, Shape const&) = default;
};

/// "3x28x28": channels, height, width.
inline std::string to_string(Shape shape) {
  return std::to_string(shape.channels) + "x" + std::to_string(shape.height) + "x" +
         std::to_string(shape.width);
}

/// How the weights of a layer start. Each weight is drawn from a normal distribution of mean 0.
struct Init {
  enum class Kind {
    he,      ///< variance 2 / fan_in: keeps the scale of activations through ReLU (He et al. 2015)
    glorot,  ///< variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)
    normal,  ///< standard deviation `deviation`
  };
  Kind kind = Kind::he;
  double deviation = 0;
};

/// Weights from N(0, deviation^2).
inline Init normal(double deviation) { return {Init::Kind::normal, deviation}; }

/// Convolution with bias; square kernels, zero padding on all four sides, the output size rounded down.
/// Weights are laid out output channel x input channel / groups x row x column, then one bias a channel.
struct Conv {
  int channels = 0;  ///< output channels
  int kernel = 0;
  int pad = 0;
  int stride = 1;
  int groups = 1;  ///< divides input and output channels; group g sees the g-th part of the input channels
  Init init = {};
  double bias = 0;  ///< what every bias starts as
};

/// Maximum over square windows, the output size rounded down. A stride of 0 means that of the kernel. Padding, less
/// than the kernel, surrounds the image on all four sides and never wins.
struct MaxPool {
  int kernel = 2;
  int stride = 0;
  int pad = 0;
};

/// Mean over square windows that lie within the image. A stride of 0 means that of the kernel.
struct AvgPool {
  int kernel = 2;
  int stride = 0;
};

/// max(x, 0); its derivative at 0 is 0.
struct Relu {};

/// Zeroes each value with probability `rate` and scales the others by 1 / (1 - rate), in training only.
struct Dropout {
  double rate = 0.5;
};

/// Every output sees the whole image: outputs x (channels x height x width) weights, then one bias an output.
struct Linear {
  int outputs = 0;
  Init init = {};
  double bias = 0;  ///< what every bias starts as
};

/// Normalizes each channel over batch and image, then scales (gamma, starts as 1) and shifts (beta, starts as
/// 0). The variance is the biased one.
struct BatchNorm {
  double epsilon = 1e-5;
};

/// Local response normalization across channels: x / (k + alpha * sum)^beta, where sum is that of the squares of
/// the `size` channels around x's own, as far as they exist. As in its paper (Krizhevsky, Sutskever, Hinton 2012,
/// section 3.3), alpha is not divided by the size; oneDNN, cuDNN and PyTorch divide it.
struct Lrn {
  int size = 5;  ///< odd
  double k = 2;
  double alpha = 1e-4;
  double beta = 0.75;
};

struct Branches;
struct Auxiliary;

/// Any layer.
using Layer =
    std::variant<Conv, MaxPool, AvgPool, Relu, Dropout, Linear, BatchNorm, Lrn, Branches, Auxiliary>;

/// Several nets side by side on the same input; their outputs, of equal height and width, follow one another as
/// channels. A branch without layers passes its input on.
struct Branches {
  std::vector<std::vector<Layer>> branches;
};

/// A classifier of its own on the way, for training only: `weight` times its cross-entropy joins the loss. The layers
/// after it see what it saw. It ends as the net does, with as many classes, and may not hold another Auxiliary.
struct Auxiliary {
  double weight = 0.3;  ///< positive
  std::vector<Layer> layers;
};

}  // namespace elastic::model
