// SPDX-License-Identifier: Apache-2.0
// IDX files, the format of MNIST and its successors (http://yann.lecun.com/exdb/mnist): big-endian magic,
// dimensions, bytes. Fashion-MNIST is one Debian package away, which makes it the set of the samples.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "elastic/data/detail/byte_file.hpp"
#include "elastic/data/image_set.hpp"

namespace elastic::data {

/// Reads an image file (magic 0x00000803) and its label file (0x00000801), plain or, with zlib, gzip.
/// Gray images: channels is 1. Throws DataError, naming file and byte, for a missing or truncated file, a
/// wrong magic, sizes of zero, bytes behind the end, a label that is not below `classes` (1 ... 256) and for
/// counts that differ.
inline ImageSet read_idx(std::filesystem::path const& images, std::filesystem::path const& labels,
                         int classes = 10, std::string_view hint = {}) {
  auto const number = [](auto value) { return std::to_string(value); };
  auto const expect_magic = [](detail::ByteFile& file, std::uint32_t magic, std::string const& what) {
    std::uint32_t const found = file.read_big_endian_32("IDX magic");
    if (found != magic)
      file.fail_at(0, "magic " + std::to_string(magic) + " of " + what, std::to_string(found));
  };
  constexpr std::uint32_t largest_side = 1u << 15;

  ImageSet set;
  set.channels = 1;
  set.classes = classes;

  detail::ByteFile pixels(images, hint);
  expect_magic(pixels, 0x803, "an IDX image file");
  std::uint32_t const count = pixels.read_big_endian_32("image count");
  std::uint32_t const height = pixels.read_big_endian_32("image height");
  std::uint32_t const width = pixels.read_big_endian_32("image width");
  if (count == 0) pixels.fail_at(4, "at least one image", "0");
  if (height == 0 || height > largest_side) pixels.fail_at(8, "a height of 1 ... 32768", number(height));
  if (width == 0 || width > largest_side) pixels.fail_at(12, "a width of 1 ... 32768", number(width));
  std::uint64_t const bytes = std::uint64_t{count} * height * width;  // below 2^62
  std::string const shape = "pixels (" + number(count) + " x " + number(height) + " x " + number(width) + ")";
  pixels.require(bytes, shape);
  set.count = count;
  set.height = static_cast<int>(height);
  set.width = static_cast<int>(width);
  set.pixels.resize(bytes);
  pixels.read(set.pixels.data(), bytes, shape);
  pixels.expect_end();

  detail::ByteFile marks(labels, hint);
  expect_magic(marks, 0x801, "an IDX label file");
  std::uint32_t const marked = marks.read_big_endian_32("label count");
  if (marked != count) {
    marks.fail_at(4, number(count) + " labels, as many as there are images in " + images.string(),
                  number(marked));
  }
  std::uint64_t const first = marks.offset();
  marks.require(count, "labels");
  set.labels.resize(count);
  marks.read(set.labels.data(), count, "labels");
  marks.expect_end();
  auto const bad =
      std::find_if(set.labels.begin(), set.labels.end(), [&](int label) { return label >= classes; });
  if (bad != set.labels.end()) {
    marks.fail_at(first + static_cast<std::uint64_t>(bad - set.labels.begin()),
                  "a label below " + number(classes), number(int{*bad}));
  }
  return set;
}

/// Where Debian's package dataset-fashion-mnist puts its files.
inline constexpr char const* fashion_mnist_folder = "/usr/share/datasets/fashion-mnist";

/// Fashion-MNIST (Xiao et al., arXiv:1708.07747): 60,000 training and 10,000 test images, 1 x 28 x 28, 10
/// classes; the four files may be gzip or plain. Throws DataError as read_idx does.
inline ImageSet fashion_mnist(std::filesystem::path const& folder, Split split) {
  std::string const stem = split == Split::train ? "train" : "t10k";
  auto const find = [&](std::string const& kind) {
    std::filesystem::path const plain = folder / (stem + kind);
    std::error_code ignored;
    return std::filesystem::exists(plain, ignored) ? plain : std::filesystem::path(plain.string() + ".gz");
  };
  ImageSet set = read_idx(find("-images-idx3-ubyte"), find("-labels-idx1-ubyte"), 10,
                          "Fashion-MNIST comes with the Debian package dataset-fashion-mnist");
  set.class_names = {"t-shirt", "trouser", "pullover", "dress", "coat",
                     "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot"};
  return set;
}

inline ImageSet fashion_mnist(Split split) { return fashion_mnist(fashion_mnist_folder, split); }

}  // namespace elastic::data
