// SPDX-License-Identifier: Apache-2.0
// A folder of batch files as one image store.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "elastic/data/batch_file.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/data/normalization.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// All `*.batch` files of a folder, which must be those of one set, whole: an ImageStore that nothing but the
/// images asked for are read from.
class BatchFiles : public ImageStoreFields {
 public:
  /// Reads and verifies every header. Throws DataError for a bad file, one that is missing or there twice, and
  /// for files of different sets.
  explicit BatchFiles(std::filesystem::path const& folder) {
    std::vector<std::filesystem::path> paths;
    std::error_code failure;
    for (auto const& entry : std::filesystem::directory_iterator(folder, failure))
      if (entry.path().extension() == ".batch") paths.push_back(entry.path());
    if (failure) throw DataError(folder.string() + ": cannot be read: " + failure.message());
    if (paths.empty()) throw DataError(folder.string() + ": expected batch files, *.batch, found none");
    std::ranges::sort(paths);
    for (auto const& path : paths) files_.emplace_back(path);
    std::ranges::stable_sort(files_, {}, [](BatchFile const& file) { return file.header().file; });

    BatchFile const& first = files_.front();
    std::uint64_t const files = first.header().files;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      BatchFileHeader const& header = files_[i].header();
      if (header.set != first.header().set || header.files != files ||
          shape_of(files_[i]) != shape_of(first) || files_[i].classes != first.classes)
        throw DataError(files_[i].path() + ": belongs to another set than " + first.path());
      if (header.file < i)
        throw DataError(files_[i].path() + ": is file " + std::to_string(header.file) +
                        " of its set, as is " + files_[i - 1].path());
      if (header.file > i) throw missing(folder, i, files);
    }
    if (files_.size() != files) throw missing(folder, files_.size(), files);
    static_cast<ImageStoreFields&>(*this) = first;
    count = 0;
    for (BatchFile const& file : files_) {
      begin_.push_back(count);
      count += file.count;
    }
  }

  int label(std::size_t i) const {
    auto const [file, place] = find(i);
    return file.label(place);
  }
  std::uint8_t const* image(std::size_t i, std::vector<std::uint8_t>& scratch) const {
    auto const [file, place] = find(i);
    return file.image(place, scratch);
  }
  PixelSums pixel_sums() const {
    PixelSums total(channels, height, width);
    for (BatchFile const& file : files_) total.add(file.pixel_sums());
    return total;
  }

 private:
  struct Place {
    BatchFile const& file;
    std::size_t image;
  };
  Place find(std::size_t i) const {
    auto const file = static_cast<std::size_t>(std::ranges::upper_bound(begin_, i) - begin_.begin()) - 1;
    return {files_[file], i - begin_[file]};
  }
  static DataError missing(std::filesystem::path const& folder, std::uint64_t file, std::uint64_t files) {
    return DataError(folder.string() + ": expected " + std::to_string(files) +
                     " batch files, found no file " + std::to_string(file) +
                     "; `prepare` again writes what is missing");
  }

  std::vector<BatchFile> files_;
  std::vector<std::size_t> begin_;  // of each file: its first image
};

}  // namespace elastic::data
