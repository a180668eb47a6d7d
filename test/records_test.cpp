// SPDX-License-Identifier: Apache-2.0
// What observers leave in files, decoded by other means than those that wrote it.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/observer/tensorboard.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

std::string bytes_of(fs::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path only_file(fs::path const& folder) {
  std::vector<fs::path> const files(fs::directory_iterator(folder), {});
  REQUIRE(files.size() == 1);
  return files[0];
}

template <class T>
T take(std::string_view& bytes) {
  T value;
  REQUIRE(bytes.size() >= sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

/// CRC-32C bit by bit, masked as TFRecord does.
std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (char const byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
  }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

std::uint64_t varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    auto const byte = take<unsigned char>(bytes);
    value |= std::uint64_t(byte & 127) << shift;
    if (byte < 128) return value;
  }
}

/// The fields of a protobuf message, each number's last value as bytes.
std::map<int, std::string> fields_of(std::string_view bytes) {
  std::map<int, std::string> fields;
  while (!bytes.empty()) {
    auto const key = varint(bytes);
    std::uint64_t length = 0;
    switch (key & 7) {
      case 0: {
        auto const value = varint(bytes);
        fields[int(key >> 3)] = {reinterpret_cast<char const*>(&value), sizeof value};
        continue;
      }
      case 1: length = 8; break;
      case 2: length = varint(bytes); break;
      case 5: length = 4; break;
      default: FAIL("wire type " << (key & 7));
    }
    REQUIRE(bytes.size() >= length);
    fields[int(key >> 3)] = bytes.substr(0, length);
    bytes.remove_prefix(length);
  }
  return fields;
}

template <class T>
T as(std::string const& bytes) {
  std::string_view view = bytes;
  return take<T>(view);
}

struct Point {
  std::string tag;
  float value;
  std::int64_t step;
  bool operator==(Point const&) const = default;
};

/// The points of an event file whose first record names its version.
std::vector<Point> points_of(fs::path const& path) {
  std::string const file = bytes_of(path);
  std::string_view rest = file;
  std::vector<Point> points;
  for (bool first = true; !rest.empty(); first = false) {
    std::string_view const head = rest.substr(0, 8);
    auto const length = take<std::uint64_t>(rest);
    REQUIRE(take<std::uint32_t>(rest) == masked_crc(head));
    REQUIRE(rest.size() >= length);
    std::string_view const record = rest.substr(0, length);
    rest.remove_prefix(length);
    REQUIRE(take<std::uint32_t>(rest) == masked_crc(record));
    auto event = fields_of(record);
    REQUIRE(as<double>(event.at(1)) > 1.7e9);  // later than 2023
    if (first) {
      REQUIRE(event.at(3) == "brain.Event:2");
      continue;
    }
    auto const point = fields_of(fields_of(event.at(5)).at(1));
    points.push_back({point.at(1), as<float>(point.at(2)), as<std::int64_t>(event.at(2))});
  }
  return points;
}

}  // namespace

TEST_CASE("the test's own checksum is CRC-32C") {
  std::uint32_t const crc = 0xE3069283u;  // of "123456789": RFC 3720's polynomial
  REQUIRE(masked_crc("123456789") == (crc >> 15 | crc << 17) + 0xA282EAD8u);
}

TEST_CASE("a TensorBoard file holds the points that were written") {
  support::TempFolder const folder;
  {
    elastic::observer::TensorBoard board(folder.path() / "run" / "worker 0");
    board.scalar("a", 0.1, 0);
    board.scalar(std::string(300, 'x'), -2.5, 1'000'000'000'000);
    board.scalar("odd", std::numeric_limits<double>::quiet_NaN(), 127);
  }
  auto const path = only_file(folder.path() / "run" / "worker 0");
  CHECK_THAT(path.filename().string(), Catch::Matchers::StartsWith("events.out.tfevents."));
  auto const points = points_of(path);
  REQUIRE(points.size() == 3);
  CHECK(points[0] == Point{"a", 0.1f, 0});
  CHECK(points[1] == Point{std::string(300, 'x'), -2.5f, 1'000'000'000'000});
  CHECK(points[2].tag == "odd");
  CHECK(std::isnan(points[2].value));
  CHECK(points[2].step == 127);
}

TEST_CASE("events become curves, thinned to their means") {
  support::TempFolder const folder;
  elastic::observer::TensorBoard all(folder.path() / "all", {.every = 0});
  elastic::observer::TensorBoard few(folder.path() / "few", {.every = 1e6});
  for (auto* board : {&all, &few}) {
    elastic::notify(elastic::event::Step{1, 5, 10, 2.0, 0.25}, *board);
    elastic::notify(elastic::event::Step{1, 6, 10, 1.0, 0.5}, *board);
    elastic::notify(elastic::event::Exchange{1, 6, 0.75}, *board);
    elastic::notify(elastic::event::Applied{2, 6, 3.5, 77}, *board);
  }
  CHECK(points_of(only_file(folder.path() / "all")) == std::vector<Point>{{"train/loss", 2.0f, 5},
                                                                          {"train/learning_rate", 0.25f, 5},
                                                                          {"train/loss", 1.0f, 6},
                                                                          {"train/learning_rate", 0.5f, 6},
                                                                          {"exchange/waited", 0.75f, 6},
                                                                          {"center/loss", 3.5f, 77}});
  CHECK(points_of(only_file(folder.path() / "few")).size() == 4);
}

TEST_CASE("a TensorBoard file that cannot be written says so") {
  support::TempFolder const folder;
  auto const file = folder.write("file", "");
  CHECK_THROWS(elastic::observer::TensorBoard(file / "inside"));
}
