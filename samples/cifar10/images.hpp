// SPDX-License-Identifier: Apache-2.0
// What cifar10 trains on, and which net.
#pragma once

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "../kit/small_images.hpp"
#include "../kit/stored_images.hpp"
#include "elastic/options.hpp"

namespace sample {

struct Images {
  std::string data{};
  NetName net = NetName::easgd;

  static constexpr auto options = std::tuple{
      elastic::Option{"data", &Images::data, data_help},
      elastic::Option{"net", &Images::net,
                      "the EASGD paper's net, the Async-EASGD example's, or a perceptron"},
  };
};

/// Throws ConfigError or DataError where the folder does not hold what it should.
inline std::unique_ptr<Task> load(Images const& images, Reading const& reading) {
  using elastic::data::ImageSet;
  using elastic::data::Split;
  ImageSet train = small_images(images.data, Split::train);
  auto net = architecture(images.net, train);
  return std::make_unique<StoredImages<ImageSet>>(std::move(train), small_images(images.data, Split::test),
                                                  std::move(net), reading, 250, elastic::describe(images));
}

}  // namespace sample
