// SPDX-License-Identifier: Apache-2.0
// What every batch source reads from: labeled images of one size, by index. In memory, mapped from batch files
// or decoded from a folder, they are one to whoever trains.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/error.hpp"

namespace elastic::data {

/// Labeled images of one size that any number of threads may read at once.
///
/// `image(i, scratch)` points at channels x height x width bytes (CHW), which stay valid until the same
/// `scratch` is used again; it throws DataError for an image that cannot be read. `label(i)` is below
/// `classes`. `class_names` is empty or has one name a class.
template <class Set>
concept ImageStore = requires(Set const& set, std::size_t i, std::vector<std::uint8_t>& scratch) {
  { set.count } -> std::convertible_to<std::size_t>;
  { set.channels } -> std::convertible_to<int>;
  { set.height } -> std::convertible_to<int>;
  { set.width } -> std::convertible_to<int>;
  { set.classes } -> std::convertible_to<int>;
  { set.class_names } -> std::convertible_to<std::vector<std::string>>;
  { set.label(i) } -> std::convertible_to<int>;
  { set.image(i, scratch) } -> std::convertible_to<std::uint8_t const*>;
};

/// The fields that an image store must have.
struct ImageStoreFields {
  std::size_t count = 0;
  int channels = 0;
  int height = 0;
  int width = 0;
  int classes = 0;
  std::vector<std::string> class_names{};
};

/// "3 x 256 x 256"
template <ImageStore Set>
std::string shape_of(Set const& set) {
  return std::to_string(set.channels) + " x " + std::to_string(set.height) + " x " +
         std::to_string(set.width);
}

/// Bytes of one image.
template <ImageStore Set>
std::size_t image_bytes(Set const& set) {
  return static_cast<std::size_t>(set.channels) * static_cast<std::size_t>(set.height) *
         static_cast<std::size_t>(set.width);
}

/// Throws ConfigError for images without pixels, and what the set's own check() throws, if it has one.
template <ImageStore Set>
void check_store(Set const& set) {
  if (set.channels < 1 || set.height < 1 || set.width < 1)
    throw ConfigError("image set: images of " + shape_of(set) + " have no pixels");
  if constexpr (requires { set.check(); }) set.check();
}

}  // namespace elastic::data
