// SPDX-License-Identifier: Apache-2.0
// The small images that samples and benches train on, CIFAR-10's or Fashion-MNIST's, and the nets for them.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/data/cifar10.hpp"
#include "elastic/data/idx.hpp"
#include "elastic/error.hpp"
#include "elastic/model/nets.hpp"

namespace sample {

enum class NetName { easgd, async_easgd, perceptron };

constexpr auto names(NetName) {
  return std::array{std::pair{std::string_view("easgd"), NetName::easgd},
                    std::pair{std::string_view("async_easgd"), NetName::async_easgd},
                    std::pair{std::string_view("perceptron"), NetName::perceptron}};
}

constexpr std::string_view data_help =
    "folder with CIFAR-10's .bin or Fashion-MNIST's files; not set: Debian's Fashion-MNIST";

/// Throws ConfigError or DataError where the folder does not hold what it should.
inline elastic::data::ImageSet small_images(std::string const& folder, elastic::data::Split split) {
  namespace data = elastic::data;
  if (folder.empty()) return data::fashion_mnist(data::fashion_mnist_folder, split);
  return std::filesystem::exists(std::filesystem::path(folder) / "data_batch_1.bin")
             ? data::cifar10(folder, split)
             : data::fashion_mnist(folder, split);
}

/// The net for images like these. Throws ConfigError where it cannot take them.
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

}  // namespace sample
