// SPDX-License-Identifier: Apache-2.0
// CIFAR-10 binary files: what is read from good ones, and that bad ones are refused at the byte where they
// go wrong.
#include "elastic/data/cifar10.hpp"

#include <random>
#include <string>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using elastic::DataError;
using elastic::data::cifar10;
using elastic::data::Split;
using support::message_of;

std::string records(std::size_t count, unsigned seed) {
  std::mt19937 bits(seed);
  std::string bytes(count * 3073, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i % 3073 == 0 ? bits() % 10 : bits() % 256);
  }
  return bytes;
}

std::string complaint(std::string const& test_batch) {
  support::TempFolder const folder;
  folder.write("test_batch.bin", test_batch);
  return message_of<DataError>([&] { cifar10(folder.path(), Split::test); });
}

}  // namespace

TEST_CASE("the five training files follow each other, byte for byte") {
  support::TempFolder const folder;
  std::string all;
  for (unsigned i = 1; i <= 5; ++i) {
    std::string const part = records(i, i);
    folder.write("data_batch_" + std::to_string(i) + ".bin", part);
    all += part;
  }
  auto const set = cifar10(folder.path(), Split::train);
  REQUIRE(set.count == 15);
  REQUIRE(set.channels == 3);
  REQUIRE(set.height == 32);
  REQUIRE(set.width == 32);
  REQUIRE(set.class_names[9] == "truck");
  std::string again;
  for (std::size_t i = 0; i < set.count; ++i) {
    again += static_cast<char>(set.labels[i]);
    again.append(set.pixels.begin() + static_cast<std::ptrdiff_t>(i * 3072),
                 set.pixels.begin() + static_cast<std::ptrdiff_t>((i + 1) * 3072));
  }
  REQUIRE(again == all);
}

TEST_CASE("class names come from batches.meta.txt where it is") {
  support::TempFolder const folder;
  folder.write("test_batch.bin", records(1, 1));
  folder.write("batches.meta.txt", "a\nb\nc\r\nd\ne\nf\ng\nh\ni\nj\n\n");
  REQUIRE(cifar10(folder.path(), Split::test).class_names[2] == "c");
  folder.write("batches.meta.txt", "a\nb\n");
  CHECK_THAT(message_of<DataError>([&] { cifar10(folder.path(), Split::test); }),
             ContainsSubstring("batches.meta.txt: expected 10 class names, one a line, found 2"));
}

TEST_CASE("a bad CIFAR-10 file is refused with its name, the byte and the expectation") {
  std::string const good = records(3, 3);
  CHECK_THAT(complaint(""),
             ContainsSubstring("test_batch.bin: byte 0: expected records of 3073 bytes, found an empty"));
  CHECK_THAT(complaint(good.substr(0, 100)),
             ContainsSubstring("byte 0: expected a record of 3073 bytes, found only 100"));
  CHECK_THAT(complaint(good.substr(0, 2 * 3073 + 5)),
             ContainsSubstring("byte 6146: expected a record of 3073 bytes, found only 5"));
  CHECK_THAT(complaint(good + "x"),
             ContainsSubstring("byte 9219: expected a record of 3073 bytes, found only 1"));
  std::string ten = good;
  ten[3073] = 10;
  CHECK_THAT(complaint(ten), ContainsSubstring("byte 3073: expected a label of 0 ... 9, found 10"));
  ten[3073] = static_cast<char>(255);
  CHECK_THAT(complaint(ten), ContainsSubstring("found 255"));
}

TEST_CASE("a missing file is named, with the way to get it") {
  support::TempFolder const folder;
  for (unsigned i = 1; i <= 4; ++i) folder.write("data_batch_" + std::to_string(i) + ".bin", records(1, i));
  CHECK_THAT(message_of<DataError>([&] { cifar10(folder.path(), Split::train); }),
             ContainsSubstring("data_batch_5.bin: cannot be opened: No such file") &&
                 ContainsSubstring("cifar-10-binary.tar.gz"));
}
