// SPDX-License-Identifier: Apache-2.0
// One tensor as a .npy file, which numpy.load reads
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/model/tensor_view.hpp"

namespace elastic::model {

/// Writes the tensor to `path`, replacing what is there in one step. Throws ConfigError for a type that numpy does
/// not have (BF16, 8-bit floating point), Error if the file cannot be written.
inline void save_npy(std::filesystem::path const& path, TensorView const& tensor) {
  static constexpr std::pair<std::string_view, std::string_view> types[] = {
      {"F32", "<f4"}, {"F64", "<f8"}, {"F16", "<f2"}, {"I64", "<i8"}, {"I32", "<i4"}, {"I16", "<i2"},
      {"I8", "|i1"},  {"U64", "<u8"}, {"U32", "<u4"}, {"U16", "<u2"}, {"U8", "|u1"},  {"BOOL", "|b1"}};
  std::string_view type;
  for (auto const& [dtype, name] : types)
    if (dtype == tensor.info.dtype) type = name;
  if (type.empty())
    throw ConfigError(path.string() + ": numpy has no type for " + tensor.info.name + ", which is " +
                      tensor.info.dtype);
  std::string header = "{'descr': '";
  header.append(type).append("', 'fortran_order': False, 'shape': (");
  for (std::uint64_t const n : tensor.info.shape) header.append(std::to_string(n)).append(", ");
  header += "), }";
  constexpr std::size_t before = 10;  // magic, version, length
  header.append(63 - (before + header.size()) % 64, ' ').append("\n");
  std::string start("\x93NUMPY\x01\x00", 8);
  start += static_cast<char>(header.size() % 256);
  start += static_cast<char>(header.size() / 256);
  std::vector<std::string_view> const parts{start, header, tensor.bytes};
  detail::write_atomically(path, parts);
}

}  // namespace elastic::model
