// SPDX-License-Identifier: Apache-2.0
// Batch files: what is written comes back, as one set, here and in Python; and no bad byte goes unnoticed.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "elastic/data/batch_files.hpp"
#include "elastic/data/batches.hpp"
#include "elastic/data/image_set.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using elastic::DataError;
using namespace elastic::data;
using support::message_of;

constexpr int height = 7, width = 5;

ImageSet random_set(std::size_t count) {
  ImageSet set{.count = count, .channels = 3, .height = height, .width = width, .classes = 4};
  set.class_names = {"n01", "n02", "\xc3\xa9t\xc3\xa9", "n04"};
  std::mt19937 bits(5);
  for (std::size_t i = 0; i < count * set.image_bytes(); ++i)
    set.pixels.push_back(static_cast<std::uint8_t>(bits()));
  for (std::size_t i = 0; i < count; ++i) set.labels.push_back(static_cast<std::uint8_t>(bits() % 4));
  return set;
}

/// Writes images first ... first+count-1 of `set` as file `file` of `files`.
fs::path write(fs::path const& path, ImageSet const& set, std::size_t first, std::size_t count,
               std::uint64_t file = 0, std::uint64_t files = 1, std::uint64_t id = 99) {
  std::vector<int> const labels(set.labels.begin() + static_cast<std::ptrdiff_t>(first),
                                set.labels.begin() + static_cast<std::ptrdiff_t>(first + count));
  write_batch_file(path,
                   {.channels = 3,
                    .height = height,
                    .width = width,
                    .file = file,
                    .files = files,
                    .set = id,
                    .classes = 4},
                   set.class_names, labels,
                   std::span(set.pixels).subspan(first * set.image_bytes(), count * set.image_bytes()));
  return path;
}

std::string read(fs::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What is wrong with a file of these bytes, whichever part of it is read.
std::string complaint(support::TempFolder const& folder, std::string const& bytes) {
  auto const path = folder.write("bad.batch", bytes);
  return message_of<DataError>([&] { BatchFile(path).verify(); });
}

}  // namespace

TEST_CASE("a folder of batch files is the set that was written") {
  support::TempFolder const folder;
  ImageSet const set = random_set(30);
  write(folder.path() / "z.batch", set, 0, 11, 0, 3);  // numbers count, not names
  write(folder.path() / "a.batch", set, 24, 6, 2, 3);
  write(folder.path() / "m.batch", set, 11, 13, 1, 3);
  for (auto const& entry : fs::directory_iterator(folder.path())) CHECK(entry.path().extension() == ".batch");
  BatchFiles const files(folder.path());
  REQUIRE(files.count == 30);
  CHECK((files.channels == 3 && files.height == height && files.width == width && files.classes == 4));
  CHECK(files.class_names == set.class_names);
  std::vector<std::uint8_t> scratch;
  for (std::size_t i : {0u, 10u, 11u, 23u, 24u, 29u}) {
    CHECK(files.label(i) == set.label(i));
    CHECK(std::equal(set.image(i, scratch), set.image(i, scratch) + set.image_bytes(),
                     files.image(i, scratch)));
  }
  CHECK(reinterpret_cast<std::uintptr_t>(files.image(11, scratch)) % 4096 == 0);
  for (auto const& [name, kind] : names(Normalize{})) {
    Normalization const expected = normalization(set, kind), found = normalization(files, kind);
    CHECK((found.mean == expected.mean && found.deviation == expected.deviation));
    CHECK(found.mean_image == expected.mean_image);
    BatchOptions const options{.batch = 8, .crop = 4, .flip = true, .loaders = 2};
    Batches in_memory(set, expected, options);
    Batches mapped(files, found, options);
    for (int i = 0; i < 5; ++i) {
      auto const& batch = mapped.next();
      auto const& right = in_memory.next();
      CHECK((batch.images == right.images && batch.labels == right.labels));
    }
  }
}

TEST_CASE("every bad byte of a batch file is an error that names the file") {
  support::TempFolder const folder;
  ImageSet const set = random_set(6);
  std::string const good = read(write(folder.path() / "good.batch", set, 0, 6));
  REQUIRE(complaint(folder, good) == "nothing was thrown");
  std::string const where = (folder.path() / "bad.batch").string() + ": byte ";
  std::mt19937 bits(8);
  BatchFileHeader header;
  std::memcpy(&header, good.data(), sizeof header);
  for (std::size_t i = 0; i < good.size(); i += i < header.sums_at + 500 || i >= header.images_at ? 1 : 41) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << bits() % 8));
    if (complaint(folder, bad).find(where) == std::string::npos)
      FAIL("byte " << i << ": " << complaint(folder, bad));
  }
  for (std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{127}, std::size_t{128},
                           std::size_t{4096}, good.size() - 1})
    CHECK_THAT(complaint(folder, good.substr(0, size)), ContainsSubstring(where + std::to_string(size)));
  CHECK_THAT(complaint(folder, good + "x"),
             ContainsSubstring(where + std::to_string(good.size()) + ": expected a file of "));

  auto const with = [&](std::size_t at, std::uint64_t value, std::size_t bytes) {
    std::string bad = good;
    std::memcpy(bad.data() + at, &value, bytes);
    return complaint(folder, bad);
  };
  CHECK_THAT(with(0, 0x58, 1), ContainsSubstring(where + "0: expected the letters elasticB"));
  CHECK_THAT(with(8, 2, 4), ContainsSubstring(where + "8: expected a version up to 1, found 2"));
  CHECK_THAT(with(16, 0, 4), ContainsSubstring(where + "16: expected a height of 1 ... 16384, found 0"));
  CHECK_THAT(with(24, ~std::uint64_t{0}, 8), ContainsSubstring(where + "24: expected 1 ... 2^24 images"));
  CHECK_THAT(with(32, 1, 8), ContainsSubstring(where + "32: expected a number below 1, found 1"));
  CHECK_THAT(with(88, 4096 * 5, 8), ContainsSubstring(where + "88: expected "));
}

TEST_CASE("a bad image is found when it is read, and named; the others can be read") {
  support::TempFolder const folder;
  ImageSet const set = random_set(6);
  auto const path = write(folder.path() / "a.batch", set, 0, 6);
  std::string bytes = read(path);
  std::size_t const at = bytes.size() - 2 * set.image_bytes();
  bytes[at + 9] = static_cast<char>(bytes[at + 9] + 1);
  folder.write("a.batch", bytes);
  BatchFiles const files(folder.path());
  std::vector<std::uint8_t> scratch;
  for (std::size_t i : {0u, 1u, 2u, 3u, 5u}) CHECK(files.image(i, scratch) != nullptr);
  for (int again = 0; again < 2; ++again)
    CHECK_THAT(
        message_of<DataError>([&] { files.image(4, scratch); }),
        ContainsSubstring("a.batch: byte " + std::to_string(at) + ": expected image 4 with the checksum"));
}

TEST_CASE("files that are not one whole set are refused") {
  support::TempFolder const folder;
  ImageSet const set = random_set(12);
  auto const refused = [&] { return message_of<DataError>([&] { BatchFiles{folder.path()}; }); };
  CHECK_THAT(refused(), ContainsSubstring("expected batch files, *.batch, found none"));
  write(folder.path() / "0.batch", set, 0, 4, 0, 3);
  write(folder.path() / "2.batch", set, 8, 4, 2, 3);
  CHECK_THAT(refused(), ContainsSubstring("expected 3 batch files, found no file 1"));
  write(folder.path() / "1.batch", set, 4, 4, 0, 3);
  CHECK_THAT(refused(), ContainsSubstring("1.batch: is file 0 of its set, as is "));
  write(folder.path() / "1.batch", set, 4, 4, 1, 3, 98);
  CHECK_THAT(refused(), ContainsSubstring("1.batch: belongs to another set than "));
  write(folder.path() / "1.batch", set, 4, 4, 1, 3);
  CHECK(refused() == "nothing was thrown");
  fs::remove(folder.path() / "2.batch");
  CHECK_THAT(refused(), ContainsSubstring("found no file 2"));
  CHECK_THAT(message_of<DataError>([&] { BatchFiles{folder.path() / "none"}; }),
             ContainsSubstring("cannot be read"));

  auto const not_written = [&](ImageSet const& bad) {
    return message_of<elastic::ConfigError>([&] { write(folder.path() / "3.batch", bad, 0, 12); });
  };
  ImageSet bad = set;
  bad.labels[7] = 4;
  CHECK_THAT(not_written(bad), ContainsSubstring("label 4 is not below the classes"));
  bad = set;
  bad.class_names.pop_back();
  CHECK_THAT(not_written(bad), ContainsSubstring("3 names for 4 classes"));
  bad.class_names = {"a", "b", "c\nd", "e"};
  CHECK_THAT(not_written(bad), ContainsSubstring("cannot be the name of a class"));
  CHECK_FALSE(fs::exists(folder.path() / "3.batch"));
}

TEST_CASE("Python reads a batch file with numpy alone") {
  std::string python;  // Debian's python3-numpy is for Debian's python3, which need not be the first one
  for (std::string const name : {"python3", "/usr/bin/python3"})
    if (python.empty() && std::system((name + " -c 'import numpy' 2>/dev/null").c_str()) == 0) python = name;
  if (python.empty()) {
    WARN("python3 with numpy not found: not tried");
    return;
  }
  support::TempFolder const folder;
  ImageSet const set = random_set(9);
  auto const path = write(folder.path() / "a.batch", set, 0, 9);
  auto const printed = folder.path() / "out";
  std::string const command = python + " '" +
                              (support::source_tree() / "samples/imagenet/read_batch.py").string() + "' '" +
                              path.string() + "' > '" + printed.string() + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  double mean = 0;
  for (std::uint8_t pixel : set.pixels) mean += pixel;
  char expected[200];
  std::snprintf(expected, sizeof expected, "%s 9 3 7 5 labels %d %d %d %d names 4 mean %.3f\n", path.c_str(),
                set.label(0), set.label(1), set.label(2), set.label(3), mean / double(set.pixels.size()));
  CHECK(read(printed) == expected);
}
