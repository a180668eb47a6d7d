// SPDX-License-Identifier: Apache-2.0
// The small images that cifar10 trains on, and its nets.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "../kit/stored_images.hpp"
#include "elastic/data/cifar10.hpp"
#include "elastic/data/idx.hpp"
#include "elastic/error.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/options.hpp"

namespace sample {

enum class NetName { easgd, async_easgd, perceptron };

constexpr auto names(NetName) {
  return std::array{std::pair{std::string_view("easgd"), NetName::easgd},
                    std::pair{std::string_view("async_easgd"), NetName::async_easgd},
                    std::pair{std::string_view("perceptron"), NetName::perceptron}};
}

struct Images {
  std::string data{};
  NetName net = NetName::easgd;

  static constexpr auto options = std::tuple{
      elastic::Option{
          "data", &Images::data,
          "folder with CIFAR-10's .bin or Fashion-MNIST's files; not set: Debian's Fashion-MNIST"},
      elastic::Option{"net", &Images::net,
                      "the EASGD paper's net, the Async-EASGD example's, or a perceptron"},
  };
};

inline elastic::model::Architecture architecture(NetName net, elastic::data::ImageSet const& images) {
  namespace model = elastic::model;
  switch (net) {
    case NetName::easgd:
      return model::easgd_cifar(images.channels, images.classes, {model::Init{model::Init::Kind::glorot}});
    case NetName::async_easgd:
      return model::async_easgd_cifar(images.channels, images.height, images.classes);
    case NetName::perceptron: break;
  }
  if (images.channels != 1)
    throw elastic::ConfigError("net: the perceptron takes Fashion-MNIST's gray images");
  return model::perceptron();
}

/// Throws ConfigError or DataError where the folder does not hold what it should.
inline std::unique_ptr<Task> load(Images const& images, Reading const& reading) {
  namespace data = elastic::data;
  bool const cifar = !images.data.empty() &&
                     std::filesystem::exists(std::filesystem::path(images.data) / "data_batch_1.bin");
  auto const read = [&](data::Split split) {
    return cifar ? data::cifar10(images.data, split)
                 : data::fashion_mnist(images.data.empty() ? data::fashion_mnist_folder : images.data, split);
  };
  auto train = read(data::Split::train);
  auto net = architecture(images.net, train);
  return std::make_unique<StoredImages<data::ImageSet>>(
      std::move(train), read(data::Split::test), std::move(net), reading, 250, elastic::describe(images));
}

}  // namespace sample
