// SPDX-License-Identifier: Apache-2.0
// Short floats by their bits, so that any compiler and any device rounds as a tensor core's operands are rounded.
#pragma once

#include <cstdint>
#include <cstring>

#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// `bits` upper bits of a float, rounded to nearest, ties to even; NaN stays NaN.
template <int bits>
ELASTIC_FN inline std::uint32_t rounded_bits(float value) {
  constexpr std::uint32_t dropped = 32 - bits, half = (1u << (dropped - 1)) - 1;
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  if ((word & 0x7fffffffu) > 0x7f800000u) return (word | 0x00400000u) >> dropped;
  return (word + half + ((word >> dropped) & 1u)) >> dropped;
}

/// The upper half of a float, as bfloat16 is.
struct Bf16 {
  Bf16() = default;
  ELASTIC_FN explicit Bf16(float value) : bits(static_cast<std::uint16_t>(rounded_bits<16>(value))) {}
  ELASTIC_FN explicit operator float() const {
    std::uint32_t const word = static_cast<std::uint32_t>(bits) << 16;
    float value = 0;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
  std::uint16_t bits;
};

/// What a tensor core sees of a float in TF32: sign, 8 bits of exponent, 10 of mantissa.
inline float tf32(float value) {
  std::uint32_t const word = rounded_bits<19>(value) << 13;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace elastic::model::detail
