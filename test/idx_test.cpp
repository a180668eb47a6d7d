// SPDX-License-Identifier: Apache-2.0
// IDX files: what is read from good ones, and that bad ones are refused at the byte where they go wrong.
#include "elastic/data/idx.hpp"

#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using elastic::DataError;
using elastic::data::read_idx;
using support::message_of;

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

std::string random_bytes(std::size_t n, unsigned below) {
  std::mt19937 bits(7);
  std::string bytes(n, '\0');
  for (char& byte : bytes) byte = static_cast<char>(bits() % below);
  return bytes;
}

std::string const pixels = random_bytes(5 * 3 * 4, 256);
std::string const labels = random_bytes(5, 10);
std::string const image_head = big_endian(0x803) + big_endian(5) + big_endian(3) + big_endian(4);
std::string const label_head = big_endian(0x801) + big_endian(5);

/// The complaint about this pair of files; its paths are images and labels in the folder.
std::string complaint(std::string const& image_file, std::string const& label_file) {
  support::TempFolder const folder;
  auto const images = folder.write("images", image_file);
  auto const marks = folder.write("labels", label_file);
  return message_of<DataError>([&] { read_idx(images, marks); });
}

}  // namespace

TEST_CASE("an IDX pair is read byte for byte") {
  support::TempFolder const folder;
  auto const set =
      read_idx(folder.write("images", image_head + pixels), folder.write("labels", label_head + labels));
  REQUIRE(set.count == 5);
  REQUIRE(set.channels == 1);
  REQUIRE(set.height == 3);
  REQUIRE(set.width == 4);
  REQUIRE(set.classes == 10);
  REQUIRE(std::string(set.pixels.begin(), set.pixels.end()) == pixels);
  REQUIRE(std::string(set.labels.begin(), set.labels.end()) == labels);
}

TEST_CASE("a bad image file is refused with its name, the byte and the expectation") {
  std::string const good_labels = label_head + labels;

  std::string const head = complaint(image_head.substr(0, 10), good_labels);
  CHECK_THAT(head, ContainsSubstring(
                       "images: byte 10: expected 2 more bytes of image height, found the end of the file"));

  std::string const body = complaint(image_head + pixels.substr(0, 59), good_labels);
  CHECK_THAT(body, ContainsSubstring("images: byte 16: expected 60 bytes of pixels (5 x 3 x 4), found 59"));

  std::string const extra = complaint(image_head + pixels + "x", good_labels);
  CHECK_THAT(extra, ContainsSubstring("images: byte 76: expected the end of the file, found more bytes"));

  std::string const magic = complaint(label_head + labels, good_labels);
  CHECK_THAT(magic,
             ContainsSubstring("images: byte 0: expected magic 2051 of an IDX image file, found 2049"));

  std::string const none =
      complaint(big_endian(0x803) + big_endian(0) + big_endian(3) + big_endian(4), good_labels);
  CHECK_THAT(none, ContainsSubstring("images: byte 4: expected at least one image, found 0"));

  std::string const flat =
      complaint(big_endian(0x803) + big_endian(5) + big_endian(0) + big_endian(4), good_labels);
  CHECK_THAT(flat, ContainsSubstring("images: byte 8: expected a height of 1 ... 32768, found 0"));

  CHECK_THAT(complaint("", good_labels),
             ContainsSubstring("images: byte 0: expected 4 more bytes of IDX magic"));
}

TEST_CASE("a header that asks for exabytes is refused before anything is allocated") {
  std::string const huge =
      big_endian(0x803) + big_endian(0xffffffff) + big_endian(32768) + big_endian(32768) + pixels;
  CHECK_THAT(complaint(huge, label_head + labels),
             ContainsSubstring("images: byte 16: expected 4611686017353646080 bytes of pixels"));
}

TEST_CASE("a bad label file is refused with its name, the byte and the expectation") {
  std::string const good_images = image_head + pixels;

  std::string const magic = complaint(good_images, image_head + pixels);
  CHECK_THAT(magic,
             ContainsSubstring("labels: byte 0: expected magic 2049 of an IDX label file, found 2051"));

  std::string const count = complaint(good_images, big_endian(0x801) + big_endian(6) + labels + "\1");
  CHECK_THAT(count, ContainsSubstring("labels: byte 4: expected 5 labels") && ContainsSubstring("found 6"));

  std::string const body = complaint(good_images, label_head + labels.substr(0, 4));
  CHECK_THAT(body, ContainsSubstring("labels: byte 8: expected 5 bytes of labels, found 4"));

  std::string ten = label_head + labels;
  ten[8 + 3] = 10;
  CHECK_THAT(complaint(good_images, ten),
             ContainsSubstring("labels: byte 11: expected a label below 10, found 10"));

  std::string const extra = complaint(good_images, label_head + labels + "xy");
  CHECK_THAT(extra, ContainsSubstring("labels: byte 13: expected the end of the file"));
}

TEST_CASE("a missing file is named, and Fashion-MNIST says where it comes from") {
  support::TempFolder const folder;
  std::string const missing =
      message_of<DataError>([&] { read_idx(folder.path() / "nowhere", folder.path() / "labels"); });
  CHECK_THAT(missing, ContainsSubstring("nowhere: cannot be opened: No such file or directory"));

  std::string const set =
      message_of<DataError>([&] { elastic::data::fashion_mnist(folder.path(), elastic::data::Split::test); });
  CHECK_THAT(set, ContainsSubstring("t10k-images-idx3-ubyte.gz") &&
                      ContainsSubstring("Debian package dataset-fashion-mnist"));

  std::string const not_a_file = message_of<DataError>([&] { read_idx(folder.path(), folder.path()); });
  CHECK_THAT(not_a_file, ContainsSubstring("cannot be opened"));
}

#ifdef ELASTIC_HAS_ZLIB  // set where zlib was found
namespace {

/// The gzip form of these bytes.
std::string zipped(std::string const& bytes) {
  support::TempFolder const folder;
  auto const path = folder.path() / "zipped";
  gzFile const file = gzopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  REQUIRE(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
  REQUIRE(gzclose(file) == Z_OK);
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("gzip files are read like plain ones, and refused when cut or damaged") {
  support::TempFolder const folder;
  std::string const images = zipped(image_head + pixels);
  std::string const marks = zipped(label_head + labels);
  auto const set = read_idx(folder.write("images.gz", images), folder.write("labels.gz", marks));
  REQUIRE(std::string(set.pixels.begin(), set.pixels.end()) == pixels);

  CHECK_THAT(complaint(images.substr(0, images.size() / 2), marks),
             ContainsSubstring("more bytes of pixels (5 x 3 x 4), found the end"));
  std::string damaged = images;
  damaged[images.size() - 6] = static_cast<char>(damaged[images.size() - 6] ^ 1);  // in the checksum
  CHECK_THAT(complaint(damaged, marks),
             ContainsSubstring("expected readable data") && ContainsSubstring("incorrect data check"));
  std::string const lying = big_endian(0x803) + big_endian(1u << 30) + big_endian(3) + big_endian(4) + pixels;
  CHECK_THAT(complaint(zipped(lying), marks),
             ContainsSubstring("bytes of pixels") && ContainsSubstring("found at most"));
}

TEST_CASE("Debian's Fashion-MNIST is read whole", "[fashion-mnist]") {
  if (!std::filesystem::exists(elastic::data::fashion_mnist_folder)) {
    WARN("dataset-fashion-mnist is not installed");
    return;
  }
  auto const set = elastic::data::fashion_mnist(elastic::data::Split::test);
  REQUIRE(set.count == 10000);
  REQUIRE(set.image_bytes() == 28 * 28);
  std::vector<int> per_class(10);
  for (std::uint8_t const label : set.labels) ++per_class[label];
  REQUIRE(per_class == std::vector<int>(10, 1000));
  REQUIRE(set.class_names[set.labels[0]] == "ankle boot");
}
#endif
