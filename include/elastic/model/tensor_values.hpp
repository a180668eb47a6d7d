// SPDX-License-Identifier: Apache-2.0
// The values of a tensor of any type, as numbers: for tools that look at files, not for training.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/tensor_view.hpp"
#include "elastic/wire.hpp"

namespace elastic::model {

/// All values, in order; integers beyond 2^53 are rounded. Throws DataError for 8-bit floating point.
inline std::vector<double> numbers_of(TensorView const& tensor) {
  std::string const& dtype = tensor.info.dtype;
  std::vector<double> values;
  auto const read = [&]<class Raw, class F>(Raw raw, F number) {
    values.reserve(tensor.bytes.size() / sizeof raw);
    for (std::size_t at = 0; at + sizeof raw <= tensor.bytes.size(); at += sizeof raw) {
      std::memcpy(&raw, tensor.bytes.data() + at, sizeof raw);
      values.push_back(number(raw));
    }
    return values;
  };
  auto const as = [&]<class Raw>(Raw raw) { return read(raw, [](Raw x) { return static_cast<double>(x); }); };
  if (dtype == "F32") return as(float());
  if (dtype == "F64") return as(double());
  if (dtype == "F16")
    return read(std::uint16_t(), [](std::uint16_t x) { return double{codec::Fp16::decode(x)}; });
  if (dtype == "BF16")
    return read(std::uint16_t(), [](std::uint16_t x) { return double{codec::Bf16::decode(x)}; });
  if (dtype == "I64") return as(std::int64_t());
  if (dtype == "U64") return as(std::uint64_t());
  if (dtype == "I32") return as(std::int32_t());
  if (dtype == "U32") return as(std::uint32_t());
  if (dtype == "I16") return as(std::int16_t());
  if (dtype == "U16") return as(std::uint16_t());
  if (dtype == "I8") return as(std::int8_t());
  if (dtype == "U8" || dtype == "BOOL") return as(std::uint8_t());
  throw DataError("tensor " + tensor.info.name + ": values of type " + dtype + " cannot be read here");
}

}  // namespace elastic::model
