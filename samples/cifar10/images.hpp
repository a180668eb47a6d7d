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
#include <vector>

#include "../kit/task.hpp"
#include "elastic/data/augment.hpp"
#include "elastic/data/batches.hpp"
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
  bool flip = true;
  int pad = 0;

  static constexpr auto options = std::tuple{
      elastic::Option{
          "data", &Images::data,
          "folder with CIFAR-10's .bin or Fashion-MNIST's files; not set: Debian's Fashion-MNIST"},
      elastic::Option{"net", &Images::net,
                      "the EASGD paper's net, the Async-EASGD example's, or a perceptron"},
      elastic::Option{"flip", &Images::flip, "mirror half of the training images"},
      elastic::Option{"pad", &Images::pad, "zeros around an image that a random crop may reach into", 0, 16},
  };
};

/// The whole set in memory.
class SmallImages final : public Task {
 public:
  /// Throws ConfigError or DataError where the folder does not hold what it should.
  explicit SmallImages(Images const& images) : images_(images) {
    namespace data = elastic::data;
    bool const cifar = !images.data.empty() &&
                       std::filesystem::exists(std::filesystem::path(images.data) / "data_batch_1.bin");
    auto const read = [&](data::Split split) {
      return cifar
                 ? data::cifar10(images.data, split)
                 : data::fashion_mnist(images.data.empty() ? data::fashion_mnist_folder : images.data, split);
    };
    train_ = read(data::Split::train);
    test_ = read(data::Split::test);
    normal_ = data::normalization(train_);
    crop_ = images.net == NetName::async_easgd ? train_.height : 28;
  }

  elastic::model::Architecture architecture() const override {
    switch (images_.net) {
      case NetName::easgd:
        return elastic::model::easgd_cifar(train_.channels, train_.classes,
                                           {elastic::model::Init{elastic::model::Init::Kind::glorot}});
      case NetName::async_easgd:
        return elastic::model::async_easgd_cifar(train_.channels, crop_, train_.classes);
      case NetName::perceptron: break;
    }
    if (train_.channels != 1)
      throw elastic::ConfigError("net: the perceptron takes Fashion-MNIST's gray images");
    return elastic::model::perceptron();
  }
  std::size_t count(elastic::data::Split split) const override { return set(split).count; }
  std::vector<std::string> const& class_names() const override { return test_.class_names; }
  std::unique_ptr<Stream> stream(StreamOptions const& o) const override {
    return std::make_unique<StreamOf<elastic::data::Batches<elastic::data::ImageSet>>>(
        train_, normal_,
        elastic::data::BatchOptions{.batch = o.batch,
                                    .rank = o.rank,
                                    .ranks = o.ranks,
                                    .seed = o.seed,
                                    .crop = crop_,
                                    .pad = images_.pad,
                                    .flip = images_.flip,
                                    .prefetch = o.prefetch,
                                    .start = o.start});
  }
  void pass(PassOptions const& o,
            std::function<void(elastic::model::Batch const&)> const& each) const override {
    elastic::data::for_each_batch(
        set(o.split), normal_, {.batch = o.batch, .crop = crop_, .first = o.first, .count = o.count}, each);
  }
  int evaluation_batch() const override { return 250; }
  std::string describe() const override { return elastic::describe(images_); }

 private:
  elastic::data::ImageSet const& set(elastic::data::Split split) const {
    return split == elastic::data::Split::train ? train_ : test_;
  }

  Images images_;
  elastic::data::ImageSet train_, test_;
  elastic::data::Normalization normal_;
  int crop_ = 28;
};

}  // namespace sample
