// SPDX-License-Identifier: Apache-2.0
// The format of files of images that are ready to train on: bytes of one size, labels, checksums, and the sums
// that means follow from. docs/batch-format.md describes it.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/data/normalization.hpp"
#include "elastic/error.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/model/detail/crc32c.hpp"

namespace elastic::data {

static_assert(std::endian::native == std::endian::little, "batch files are little-endian");

/// The first 128 bytes of a batch file.
struct BatchFileHeader {
  static constexpr std::array<char, 8> right_magic{'e', 'l', 'a', 's', 't', 'i', 'c', 'B'};
  static constexpr std::uint32_t newest = 1;
  static constexpr std::uint64_t largest_image = std::uint64_t{1} << 32;  // so that no sum below overflows

  std::array<char, 8> magic = right_magic;
  std::uint32_t version = newest;
  std::uint32_t channels = 0;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint64_t count = 0;  ///< images in this file
  std::uint64_t file = 0;   ///< its number in the set: 0 ... files-1
  std::uint64_t files = 1;
  std::uint64_t set = 0;  ///< equal in all files of a set, and in no others
  std::uint32_t classes = 0;
  std::uint32_t name_bytes = 0;    ///< class names at byte 128, UTF-8, each ended by a line feed
  std::uint64_t labels_at = 0;     ///< count x uint32, each below classes
  std::uint64_t checksums_at = 0;  ///< count x uint32: CRC-32C of each image
  std::uint64_t sums_at = 0;       ///< channels x height x width x uint32: sum of each place over the images
  std::uint64_t images_at = 0;     ///< count x channels x height x width bytes, at a multiple of 4096
  std::uint64_t file_bytes = 0;
  std::uint64_t zero[2] = {};
  std::uint32_t sums_checksum = 0;    ///< CRC-32C of the bytes from sums_at to images_at
  std::uint32_t header_checksum = 0;  ///< CRC-32C of the bytes from 0 to sums_at without these four

  std::uint64_t image_bytes() const { return std::uint64_t{channels} * height * width; }

  /// Sets the places and the length, which follow from the counts.
  void lay_out() {
    labels_at = (sizeof *this + name_bytes + 7) / 8 * 8;
    checksums_at = labels_at + 4 * count;
    sums_at = (checksums_at + 4 * count + 7) / 8 * 8;
    // behind the sums the sum of squares of each channel, as uint64
    images_at = (sums_at + 4 * image_bytes() + 4 + 8 * channels + 4095) / 4096 * 4096;
    file_bytes = images_at + count * image_bytes();
  }
  /// Where the sums of squares are.
  std::uint64_t squares_at() const { return (sums_at + 4 * image_bytes() + 7) / 8 * 8; }
};
static_assert(sizeof(BatchFileHeader) == 128);

/// Replaces the file at `path` by one of these images: `images` holds labels.size() of them. `header` says shape,
/// classes and place in the set; the rest of it follows. After a crash there is the old file or the new one.
/// Throws ConfigError for sizes, labels or names that cannot be, Error if it cannot be written.
inline void write_batch_file(std::filesystem::path const& path, BatchFileHeader header,
                             std::vector<std::string> const& class_names, std::span<int const> labels,
                             std::span<std::uint8_t const> images) {
  auto const refuse = [&](std::string const& why) { throw ConfigError(path.string() + ": " + why); };
  std::string names;
  for (std::string const& name : class_names) {
    if (name.empty() || name.find('\n') != name.npos) refuse("'" + name + "' cannot be the name of a class");
    names += name + '\n';
  }
  header.count = labels.size();
  header.name_bytes = static_cast<std::uint32_t>(names.size());
  if (header.image_bytes() == 0 || header.image_bytes() > header.largest_image ||
      images.size() != header.count * header.image_bytes())
    refuse(std::to_string(images.size()) + " bytes for " + std::to_string(header.count) + " images of " +
           std::to_string(header.image_bytes()));
  if (header.count == 0 || header.count > 1 << 24) refuse("expected 1 ... 2^24 images");
  if (!class_names.empty() && class_names.size() != header.classes)
    refuse(std::to_string(class_names.size()) + " names for " + std::to_string(header.classes) + " classes");
  header.lay_out();

  std::string front(header.images_at, '\0');
  auto const put = [&](std::uint64_t at, void const* from, std::size_t bytes) {
    std::memcpy(front.data() + at, from, bytes);
  };
  put(sizeof header, names.data(), names.size());
  PixelSums sums(static_cast<int>(header.channels), static_cast<int>(header.height),
                 static_cast<int>(header.width));
  for (std::size_t i = 0; i < header.count; ++i) {
    auto const label = static_cast<std::uint32_t>(labels[i]);
    if (label >= header.classes) refuse("label " + std::to_string(labels[i]) + " is not below the classes");
    std::uint8_t const* const image = images.data() + i * header.image_bytes();
    model::detail::Crc32c crc;
    crc.add(image, header.image_bytes());
    std::uint32_t const checksum = crc.value();
    put(header.labels_at + 4 * i, &label, 4);
    put(header.checksums_at + 4 * i, &checksum, 4);
    sums.add(image);
  }
  for (std::size_t k = 0; k < sums.pixels.size(); ++k) {
    auto const sum = static_cast<std::uint32_t>(sums.pixels[k]);
    put(header.sums_at + 4 * k, &sum, 4);
  }
  put(header.squares_at(), sums.squares.data(), 8 * sums.squares.size());
  model::detail::Crc32c of_sums, of_header;
  of_sums.add(front.data() + header.sums_at, header.images_at - header.sums_at);
  header.sums_checksum = of_sums.value();
  put(0, &header, sizeof header);
  of_header.add(front.data(), sizeof header - 4);
  of_header.add(front.data() + sizeof header, header.sums_at - sizeof header);
  header.header_checksum = of_header.value();
  put(0, &header, sizeof header);
  std::array<std::string_view, 2> const parts{
      front, std::string_view(reinterpret_cast<char const*>(images.data()), images.size())};
  model::detail::write_atomically(path, parts);
}

}  // namespace elastic::data
