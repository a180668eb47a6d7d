// SPDX-License-Identifier: Apache-2.0
// One file of images that are ready to train on, read through memory: nothing is parsed but its header.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/data/batch_format.hpp"
#include "elastic/data/detail/mapped_file.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/data/normalization.hpp"
#include "elastic/model/detail/crc32c.hpp"

namespace elastic::data {

/// A batch file, mapped: an ImageStore. The header is verified at once and each image when it is first read.
class BatchFile : public ImageStoreFields {
 public:
  /// Throws DataError, naming file, byte, expectation and what was found.
  explicit BatchFile(std::filesystem::path const& path) : file_(path) {
    if (file_.size() < sizeof header_) file_.fail(file_.size(), "128 bytes of header", "the end of the file");
    std::memcpy(&header_, file_.data(), sizeof header_);
    check_header();
    channels = static_cast<int>(header_.channels);
    height = static_cast<int>(header_.height);
    width = static_cast<int>(header_.width);
    classes = static_cast<int>(header_.classes);
    count = header_.count;
    read_names();
    for (std::size_t i = 0; i < count; ++i)
      if (std::uint32_t const found = number(header_.labels_at, i); found >= header_.classes)
        file_.fail(header_.labels_at + 4 * i, "a label below " + std::to_string(classes),
                   std::to_string(found));
    verified_ = std::make_unique<std::atomic<bool>[]>(count);
  }

  BatchFileHeader const& header() const { return header_; }
  std::string const& path() const { return file_.path(); }
  int label(std::size_t i) const { return static_cast<int>(number(header_.labels_at, i)); }

  /// Throws DataError for an image whose bytes are not those that were written.
  std::uint8_t const* image(std::size_t i, std::vector<std::uint8_t>&) const {
    std::uint64_t const at = header_.images_at + i * header_.image_bytes();
    if (!verified_[i].load(std::memory_order_relaxed)) {  // two threads may both do it
      expect_checksum(at, header_.image_bytes(), number(header_.checksums_at, i),
                      "image " + std::to_string(i));
      verified_[i].store(true, std::memory_order_relaxed);
    }
    return file_.data() + at;
  }

  /// Reads every image; throws DataError at the first that is bad.
  void verify() const {
    std::vector<std::uint8_t> unused;
    for (std::size_t i = 0; i < count; ++i) image(i, unused);
    pixel_sums();
  }

  /// The sums of these images, which the file holds. Throws DataError if they are not those that were written.
  PixelSums pixel_sums() const {
    expect_checksum(header_.sums_at, header_.images_at - header_.sums_at, header_.sums_checksum, "sums");
    PixelSums sums(channels, height, width);
    sums.images = count;
    for (std::size_t k = 0; k < sums.pixels.size(); ++k) sums.pixels[k] = number(header_.sums_at, k);
    std::memcpy(sums.squares.data(), file_.data() + header_.squares_at(), 8 * sums.squares.size());
    return sums;
  }

 private:
  std::uint32_t number(std::uint64_t at, std::size_t i) const {
    std::uint32_t value;
    std::memcpy(&value, file_.data() + at + 4 * i, 4);
    return value;
  }

  void expect_checksum(std::uint64_t at, std::uint64_t bytes, std::uint32_t expected,
                       std::string const& what) const {
    model::detail::Crc32c crc;
    crc.add(file_.data() + at, bytes);
    if (crc.value() != expected) fail_checksum(at, what, expected, crc.value());
  }
  [[noreturn]] void fail_checksum(std::uint64_t at, std::string const& what, std::uint32_t expected,
                                  std::uint32_t found) const {
    file_.fail(at, what + " with the checksum " + std::to_string(expected), std::to_string(found));
  }

  /// In this order, so that the first thing that is wrong is what is named.
  void check_header() const {
    auto const expect = [&](bool good, std::size_t at, std::string const& expected, auto found) {
      if (!good) file_.fail(at, expected, std::to_string(found));
    };
    BatchFileHeader const& h = header_;
    if (h.magic != h.right_magic) file_.fail(0, "the letters elasticB of a batch file", "others");
    expect(h.version >= 1 && h.version <= h.newest, offsetof(BatchFileHeader, version),
           "a version up to " + std::to_string(h.newest), h.version);
    auto const side = [](std::uint32_t n) { return n >= 1 && n <= 1 << 14; };
    expect(side(h.channels), offsetof(BatchFileHeader, channels), "1 ... 16384 channels", h.channels);
    expect(side(h.height), offsetof(BatchFileHeader, height), "a height of 1 ... 16384", h.height);
    expect(side(h.width), offsetof(BatchFileHeader, width), "a width of 1 ... 16384", h.width);
    expect(h.image_bytes() <= h.largest_image, offsetof(BatchFileHeader, channels),
           "images of at most " + std::to_string(h.largest_image) + " bytes", h.image_bytes());
    expect(h.count >= 1 && h.count <= 1 << 24, offsetof(BatchFileHeader, count), "1 ... 2^24 images",
           h.count);
    expect(h.file < h.files, offsetof(BatchFileHeader, file), "a number below " + std::to_string(h.files),
           h.file);
    expect(h.classes >= 1 && h.classes <= 1 << 24, offsetof(BatchFileHeader, classes), "1 ... 2^24 classes",
           h.classes);
    BatchFileHeader right = h;
    right.lay_out();  // nothing in it overflows
    auto const place = [&](std::uint64_t found, std::uint64_t expected, std::size_t at) {
      expect(found == expected, at, std::to_string(expected), found);
    };
    place(h.labels_at, right.labels_at, offsetof(BatchFileHeader, labels_at));
    place(h.checksums_at, right.checksums_at, offsetof(BatchFileHeader, checksums_at));
    place(h.sums_at, right.sums_at, offsetof(BatchFileHeader, sums_at));
    place(h.images_at, right.images_at, offsetof(BatchFileHeader, images_at));
    place(h.file_bytes, right.file_bytes, offsetof(BatchFileHeader, file_bytes));
    if (file_.size() != h.file_bytes)
      file_.fail(std::min<std::uint64_t>(file_.size(), h.file_bytes),
                 "a file of " + std::to_string(h.file_bytes) + " bytes", std::to_string(file_.size()));
    model::detail::Crc32c crc;
    crc.add(file_.data(), sizeof h - 4);
    crc.add(file_.data() + sizeof h, h.sums_at - sizeof h);
    if (crc.value() != h.header_checksum) fail_checksum(0, "a header", h.header_checksum, crc.value());
  }

  void read_names() {
    std::string_view rest(reinterpret_cast<char const*>(file_.data()) + sizeof header_, header_.name_bytes);
    for (std::size_t end; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1))
      class_names.emplace_back(rest.substr(0, end));
    if (!rest.empty() || (!class_names.empty() && class_names.size() != header_.classes))
      file_.fail(sizeof header_, std::to_string(classes) + " names of classes, a line each, or none",
                 std::to_string(class_names.size()) + (rest.empty() ? "" : " and the beginning of another"));
  }

  detail::MappedFile file_;
  BatchFileHeader header_;
  std::unique_ptr<std::atomic<bool>[]> verified_;
};

}  // namespace elastic::data
