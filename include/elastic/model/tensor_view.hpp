// SPDX-License-Identifier: Apache-2.0
// What a tensor is outside of any model: a name, a type, a shape, and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/span.hpp"

namespace elastic::model {

/// The format's name for the type of a tensor's values.
template <class T>
inline constexpr std::string_view dtype_of = "";
template <>
inline constexpr std::string_view dtype_of<float> = "F32";
template <>
inline constexpr std::string_view dtype_of<double> = "F64";

/// The name, type and shape of a tensor.
struct TensorInfo {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;  ///< the last index runs fastest; none: one value
};

/// "F32[64,3,5,5]".
inline std::string to_string(TensorInfo const& info) {
  std::string text = info.dtype + "[";
  for (std::uint64_t const n : info.shape) {
    if (text.back() != '[') text += ',';
    text += std::to_string(n);
  }
  text += ']';
  return text;
}

/// A tensor whose values are somewhere in memory.
struct TensorView {
  TensorInfo info;
  std::string_view bytes;
};

/// `values` as a tensor; a shape that is left out is [size].
template <class T>
TensorView view_tensor(std::string name, Span<T const> values, std::vector<std::uint64_t> shape = {}) {
  if (shape.empty()) shape = {values.size()};
  return {{std::move(name), std::string(dtype_of<T>), std::move(shape)},
          {reinterpret_cast<char const*>(values.data()), values.size() * sizeof(T)}};
}

/// Bytes of a value of this type; 0 for a type that the format does not have.
inline std::uint64_t dtype_size(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int> sizes[] = {
      {"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},    {"I8", 1},
      {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (auto const& [name, size] : sizes)
    if (name == dtype) return static_cast<std::uint64_t>(size);
  return 0;
}

}  // namespace elastic::model
