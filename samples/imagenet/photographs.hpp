// SPDX-License-Identifier: Apache-2.0
// The photographs that imagenet trains on, and its nets.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "../kit/stored_images.hpp"
#include "elastic/data/batch_files.hpp"
#include "elastic/data/image_folder.hpp"
#include "elastic/error.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/options.hpp"

namespace sample {

enum class PhotoNet { alexnet, googlenet };

constexpr auto names(PhotoNet) {
  return std::array{std::pair{std::string_view("alexnet"), PhotoNet::alexnet},
                    std::pair{std::string_view("googlenet"), PhotoNet::googlenet}};
}

struct Photographs {
  std::string data{};
  PhotoNet net = PhotoNet::alexnet;
  int size = 256;
  std::string val_labels{};

  static constexpr auto options = std::tuple{
      elastic::Option{"data", &Photographs::data,
                      "folder with train/ and val/: of photographs, a folder a class, or of batch files as "
                      "`imagenet prepare` writes them"},
      elastic::Option{"net", &Photographs::net, "which net"},
      elastic::Option{"size", &Photographs::size,
                      "photographs become squares of so many pixels before they are cropped", 1, 4096},
      elastic::Option{"val_labels", &Photographs::val_labels,
                      "a file of lines `image class`, for a val/ whose photographs lie side by side"},
  };
};

inline elastic::model::Architecture architecture(PhotoNet net, int classes) {
  switch (net) {
    case PhotoNet::googlenet: return elastic::model::googlenet(classes);
    case PhotoNet::alexnet: break;
  }
  return elastic::model::alexnet(classes);
}

inline bool holds_batch_files(std::filesystem::path const& folder) {
  std::error_code none;
  for (auto const& entry : std::filesystem::directory_iterator(folder, none))
    if (entry.path().extension() == ".batch") return true;
  return false;
}

/// Throws ConfigError or DataError where the folder does not hold what it should.
inline std::unique_ptr<Task> load(Photographs const& photographs, Reading const& reading) {
  namespace data = elastic::data;
  if (photographs.data.empty())
    throw elastic::ConfigError("data is not set: expected a folder with train/ and val/");
  std::filesystem::path const root = photographs.data;
  std::filesystem::path const val = root / "val";
  if (!std::filesystem::exists(val))
    throw elastic::ConfigError("data: " + root.string() +
                               " has no val/ with images to test on; `ln -s train " + val.string() +
                               "` tests on those that are trained on");
  auto const task = [&](auto train, auto test) -> std::unique_ptr<Task> {
    auto net = architecture(photographs.net, train.classes);
    return std::make_unique<StoredImages<decltype(train)>>(std::move(train), std::move(test), std::move(net),
                                                           reading, 64, elastic::describe(photographs));
  };
  if (holds_batch_files(root / "train")) return task(data::BatchFiles(root / "train"), data::BatchFiles(val));
  data::ImageFolder train(root / "train", {.size = photographs.size});
  data::ImageFolder test(
      val, {.size = photographs.size, .class_names = train.class_names, .labels = photographs.val_labels});
  return task(std::move(train), std::move(test));
}

}  // namespace sample
