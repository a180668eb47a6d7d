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

namespace detail {

/// How many channels the branches of an inception module have: 1x1, 3x3 and 5x5 convolutions, the latter two behind
/// 1x1 ones that reduce theirs, and a 1x1 one behind a pool.
struct Inception {
  int one, reduce_three, three, reduce_five, five, pooled;
};

inline Layer inception(Inception const& n) {
  auto const conv = [](int channels, int kernel, double deviation) {
    return Conv{channels, kernel, kernel / 2, 1, 1, normal(deviation), 0.2};
  };
  return Branches{{{conv(n.one, 1, 0.03), Relu{}},
                   {conv(n.reduce_three, 1, 0.09), Relu{}, conv(n.three, 3, 0.03), Relu{}},
                   {conv(n.reduce_five, 1, 0.2), Relu{}, conv(n.five, 5, 0.03), Relu{}},
                   {MaxPool{.kernel = 3, .stride = 1, .pad = 1}, conv(n.pooled, 1, 0.1), Relu{}}}};
}

}  // namespace detail

/// GoogLeNet (Szegedy et al. 2015, table 1) as Theano-MPI trains it: on 224x224 crops, with two Auxiliaries of weight
/// 0.3 behind the modules 4a and 4d.
///
/// 13,378,280 parameters for 1000 classes, 6,998,552 of them outside the Auxiliaries. As there, pools are padded by 1,
/// which yields the paper's sizes, they come before normalization, and module 4e is normalized too. Convolutions start
/// with its deviations and biases of 0.2, linear layers as N(0, 0.01^2) with biases of 0.
inline Architecture googlenet(int classes = 1000) {
  using detail::inception;
  MaxPool const halve{.kernel = 3, .stride = 2, .pad = 1};
  auto const tower = [=] {
    return Auxiliary{0.3,
                     {AvgPool{.kernel = 5, .stride = 3},
                      Conv{.channels = 128, .kernel = 1, .init = normal(0.1), .bias = 0.2}, Relu{},
                      Linear{.outputs = 1024, .init = normal(0.01)}, Relu{}, Dropout{.rate = 0.7},
                      Linear{.outputs = classes, .init = normal(0.01)}}};
  };
  return {{3, 224, 224},
          {Conv{.channels = 64, .kernel = 7, .pad = 3, .stride = 2, .init = normal(0.1), .bias = 0.2},
           Relu{},
           halve,
           Lrn{},
           Conv{.channels = 64, .kernel = 1, .init = normal(0.1), .bias = 0.2},
           Relu{},
           Conv{.channels = 192, .kernel = 3, .pad = 1, .init = normal(0.03), .bias = 0.2},
           Relu{},
           halve,
           Lrn{},
           inception({64, 96, 128, 16, 32, 32}),    // 3a
           inception({128, 128, 192, 32, 96, 64}),  // 3b
           halve,
           inception({192, 96, 208, 16, 48, 64}),  // 4a
           tower(),
           inception({160, 112, 224, 24, 64, 64}),  // 4b
           inception({128, 128, 256, 24, 64, 64}),  // 4c
           inception({112, 144, 288, 32, 64, 64}),  // 4d
           tower(),
           inception({256, 160, 320, 32, 128, 128}),  // 4e
           Lrn{},
           halve,
           inception({256, 160, 320, 32, 128, 128}),  // 5a
           inception({384, 192, 384, 48, 128, 128}),  // 5b
           AvgPool{.kernel = 7},
           Dropout{.rate = 0.4},
           Linear{.outputs = classes, .init = normal(0.01)}}};
}

/// 28x28 gray images, two hidden layers of 512, ten classes: 669,706 parameters.
inline Architecture perceptron(Init init = {}) {
  return {{1, 28, 28},
          {Linear{.outputs = 512, .init = init}, Relu{}, Linear{.outputs = 512, .init = init}, Relu{},
           Linear{.outputs = 10, .init = init}}};
}

}  // namespace elastic::model
