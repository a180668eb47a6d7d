// SPDX-License-Identifier: Apache-2.0
// The nets of the samples and benches, as architectures any backend can run.
#pragma once

#include <optional>
#include <vector>

#include "elastic/model/architecture.hpp"

namespace elastic::model {

/// The seven-layer CIFAR-10 net of the EASGD paper on 28x28 crops (Zhang, Choromanska, LeCun 2015, section
/// 5): C(64, 5x5) P C(128, 5x5) P C(64, 3x3) D(256) dropout 1/2 S(classes), ReLU, no padding.
///
/// 351,946 parameters for 3 channels and 10 classes. Without `init` the weights start as in Theano-MPI's
/// version: N(0, 0.05^2) in convolutions, 0.001 in D, 0.005 in S; biases are 0. With it, all but S start so:
/// a small S keeps the first loss at log(classes).
inline Architecture easgd_cifar(int channels = 3, int classes = 10, std::optional<Init> init = {}) {
  Init const conv = init.value_or(normal(0.05));
  return {{channels, 28, 28},
          {Conv{.channels = 64, .kernel = 5, .init = conv}, Relu{}, MaxPool{.kernel = 2},
           Conv{.channels = 128, .kernel = 5, .init = conv}, Relu{}, MaxPool{.kernel = 2},
           Conv{.channels = 64, .kernel = 3, .init = conv}, Relu{},
           Linear{.outputs = 256, .init = init.value_or(normal(0.001))}, Relu{}, Dropout{.rate = 0.5},
           Linear{.outputs = classes, .init = normal(0.005)}}};
}

/// The CIFAR-10 net of the Async-EASGD and torch-distlearn examples: four times convolution 5x5, batch
/// normalization, ReLU and pooling (64, 128, 256, 512 maps), then one linear layer.
///
/// 4,328,970 parameters for 3x32x32 and 10 classes; images are `size` x `size`, 16 or more.
inline Architecture async_easgd_cifar(int channels = 3, int size = 32, int classes = 10, Init init = {}) {
  std::vector<Layer> layers;
  for (int const maps : {64, 128, 256, 512}) {
    layers.push_back(Conv{.channels = maps, .kernel = 5, .pad = 2, .init = init});
    layers.push_back(BatchNorm{.epsilon = 1e-3});
    layers.push_back(Relu{});
    layers.push_back(MaxPool{.kernel = 2});
  }
  layers.push_back(Linear{.outputs = classes, .init = init});
  return {{channels, size, size}, layers};
}

/// AlexNet as Theano-MPI and theano_alexnet train it ("AlexNet-128b"): two groups in the second, fourth and fifth
/// convolution, pooling before normalization, 227x227 crops.
///
/// 60,965,224 parameters for 1000 classes. Weights start as N(0, 0.01^2), in the hidden linear layers as
/// N(0, 0.005^2); biases as 0.1 in the second and fourth convolution and the hidden linear layers, else as 0.
inline Architecture alexnet(int classes = 1000) {
  Init const init = normal(0.01), hidden = normal(0.005);
  return {{3, 227, 227},
          {Conv{.channels = 96, .kernel = 11, .stride = 4, .init = init},
           Relu{},
           MaxPool{.kernel = 3, .stride = 2},
           Lrn{},
           Conv{.channels = 256, .kernel = 5, .pad = 2, .groups = 2, .init = init, .bias = 0.1},
           Relu{},
           MaxPool{.kernel = 3, .stride = 2},
           Lrn{},
           Conv{.channels = 384, .kernel = 3, .pad = 1, .init = init},
           Relu{},
           Conv{.channels = 384, .kernel = 3, .pad = 1, .groups = 2, .init = init, .bias = 0.1},
           Relu{},
           Conv{.channels = 256, .kernel = 3, .pad = 1, .groups = 2, .init = init},
           Relu{},
           MaxPool{.kernel = 3, .stride = 2},
           Linear{.outputs = 4096, .init = hidden, .bias = 0.1},
           Relu{},
           Dropout{.rate = 0.5},
           Linear{.outputs = 4096, .init = hidden, .bias = 0.1},
           Relu{},
           Dropout{.rate = 0.5},
           Linear{.outputs = classes, .init = init}}};
}

/// 28x28 gray images, two hidden layers of 512, ten classes: 669,706 parameters.
inline Architecture perceptron(Init init = {}) {
  return {{1, 28, 28},
          {Linear{.outputs = 512, .init = init}, Relu{}, Linear{.outputs = 512, .init = init}, Relu{},
           Linear{.outputs = 10, .init = init}}};
}

}  // namespace elastic::model
