// SPDX-License-Identifier: Apache-2.0
// A task over any image store of the library: how images are read, cut and normalized, and with which net.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/data/batches.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/data/normalization.hpp"
#include "elastic/data/sampler.hpp"
#include "elastic/options.hpp"
#include "task.hpp"

namespace sample {

struct Reading {
  elastic::data::Normalize normalize = elastic::data::Normalize::standard;
  elastic::data::Sampler sampler = elastic::data::Sampler::permutation;
  elastic::data::Augment augment = elastic::data::Augment::image;
  bool flip = true;
  int pad = 0;
  int loaders = 1;

  static constexpr auto options = std::tuple{
      elastic::Option{"normalize", &Reading::normalize,
                      "bytes as they are, less their channel's mean, less the mean image, or standardized"},
      elastic::Option{
          "sampler", &Reading::sampler,
          "the order of training images: every epoch another one, that of the files, or drawn again and "
          "again, from all or from all classes alike"},
      elastic::Option{"augment", &Reading::augment,
                      "each image is cropped and flipped by itself, or each batch"},
      elastic::Option{"flip", &Reading::flip, "mirror half of the training images"},
      elastic::Option{"pad", &Reading::pad, "zeros around an image that a random crop may reach into", 0, 16},
      elastic::Option{"loaders", &Reading::loaders, "threads that read and cut the images of a batch", 1,
                      1024},
  };
};

template <elastic::data::ImageStore Set>
class StoredImages final : public Task {
 public:
  /// Crops are as large as the net's input. `about` describes the data and the net for the log, "key=value" a line.
  StoredImages(Set train, Set test, elastic::model::Architecture net, Reading const& reading,
               int evaluation_batch, std::string about)
      : train_(std::move(train)),
        test_(std::move(test)),
        net_(std::move(net)),
        reading_(reading),
        evaluation_batch_(evaluation_batch),
        about_(std::move(about)),
        normal_(elastic::data::normalization(train_, reading.normalize, most_measured, reading.loaders)) {
    if (train_.channels != net_.input().channels || train_.classes != net_.classes())
      throw elastic::ConfigError("the net takes " + std::to_string(net_.input().channels) + " channels and " +
                                 std::to_string(net_.classes()) + " classes; the images have " +
                                 std::to_string(train_.channels) + " and " + std::to_string(train_.classes));
    if (test_.classes == train_.classes && test_.class_names != train_.class_names)
      throw elastic::ConfigError(
          "the classes of the images to test with have other names than those of the "
          "training images");
    if (test_.classes != train_.classes)
      throw elastic::ConfigError("the training images have " + std::to_string(train_.classes) +
                                 " classes, those to test with " + std::to_string(test_.classes));
  }

  elastic::model::Architecture architecture() const override { return net_; }
  std::size_t count(elastic::data::Split split) const override { return set(split).count; }
  std::vector<std::string> const& class_names() const override { return train_.class_names; }
  std::unique_ptr<Stream> stream(StreamOptions const& o) const override {
    return std::make_unique<StreamOf<elastic::data::Batches<Set>>>(
        train_, normal_,
        elastic::data::BatchOptions{.batch = o.batch,
                                    .rank = o.rank,
                                    .ranks = o.ranks,
                                    .seed = o.seed,
                                    .crop = net_.input().height,
                                    .pad = reading_.pad,
                                    .flip = reading_.flip,
                                    .augment = reading_.augment,
                                    .sampler = reading_.sampler,
                                    .prefetch = o.prefetch,
                                    .loaders = reading_.loaders,
                                    .start = o.start});
  }
  void pass(PassOptions const& o,
            std::function<void(elastic::model::Batch const&)> const& each) const override {
    elastic::data::for_each_batch(set(o.split), normal_,
                                  {.batch = o.batch,
                                   .crop = net_.input().height,
                                   .first = o.first,
                                   .count = o.count,
                                   .loaders = reading_.loaders},
                                  each);
  }
  int evaluation_batch() const override { return evaluation_batch_; }
  std::string describe() const override { return about_ + elastic::describe(reading_); }

 private:
  static constexpr std::size_t most_measured = 65536;  // images that the normalization is measured on

  Set const& set(elastic::data::Split split) const {
    return split == elastic::data::Split::train ? train_ : test_;
  }

  Set train_, test_;
  elastic::model::Architecture net_;
  Reading reading_;
  int evaluation_batch_;
  std::string about_;
  elastic::data::Normalization normal_;
};

}  // namespace sample
