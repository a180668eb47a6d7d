// SPDX-License-Identifier: Apache-2.0
// CIFAR-10 in its binary version (https://www.cs.toronto.edu/~kriz/cifar.html): records of a label byte and
// 1,024 red, 1,024 green and 1,024 blue bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "elastic/data/detail/byte_file.hpp"
#include "elastic/data/image_set.hpp"

namespace elastic::data {

/// Appends the records of one binary file to `set`, which holds 3 x 32 x 32 images or is empty. Any number
/// of records is accepted, so that excerpts work. Throws DataError, naming file and byte, for a missing or
/// empty file, a partial record and a label above 9.
inline void append_cifar10(std::filesystem::path const& path, ImageSet& set) {
  constexpr std::size_t image = 3 * 32 * 32, record = 1 + image;
  detail::ByteFile file(path, "unpack cifar-10-binary.tar.gz and name its folder cifar-10-batches-bin");
  if (file.compressed()) file.fail("uncompressed records of 3073 bytes", "gzip data");
  std::uint64_t const size = file.capacity();
  if (size == 0) file.fail("records of 3073 bytes", "an empty file");
  if (size % record != 0) {
    file.fail_at(size - size % record, "a record of 3073 bytes",
                 "only " + std::to_string(size % record) + " (truncated, or not CIFAR-10)");
  }
  std::size_t const count = size / record, before = set.count;
  set.channels = 3;
  set.height = set.width = 32;
  set.classes = 10;
  set.count += count;
  set.labels.resize(set.count);
  set.pixels.resize(set.count * image);
  for (std::size_t i = before; i < set.count; ++i) {
    std::uint64_t const start = file.offset();
    file.read(&set.labels[i], 1, "label");
    if (set.labels[i] > 9) file.fail_at(start, "a label of 0 ... 9", std::to_string(set.labels[i]));
    file.read(&set.pixels[i * image], image, "pixels");
  }
}

/// The ten names of `batches.meta.txt`, one a line; the published ones if the file is not there. Throws
/// DataError if it holds another number of names.
inline std::vector<std::string> cifar10_class_names(std::filesystem::path const& folder) {
  std::filesystem::path const path = folder / "batches.meta.txt";
  std::ifstream file(path);
  if (!file) {
    return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  }
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (names.size() != 10) {
    throw DataError(path.string() + ": expected 10 class names, one a line, found " +
                    std::to_string(names.size()));
  }
  return names;
}

/// Reads `data_batch_1.bin` ... `data_batch_5.bin` (train: 50,000 images) or `test_batch.bin` (10,000) from
/// `folder`; 3 x 32 x 32, 10 classes. Throws DataError as append_cifar10 does.
inline ImageSet cifar10(std::filesystem::path const& folder, Split split) {
  ImageSet set;
  if (split == Split::train) {
    for (int i = 1; i <= 5; ++i) append_cifar10(folder / ("data_batch_" + std::to_string(i) + ".bin"), set);
  } else {
    append_cifar10(folder / "test_batch.bin", set);
  }
  set.class_names = cifar10_class_names(folder);
  return set;
}

}  // namespace elastic::data
