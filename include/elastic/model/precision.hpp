// SPDX-License-Identifier: Apache-2.0
// What a GPU may make of the factors of a matrix product; everything else is computed in float32.
#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace elastic::model {

/// How products of matrices and convolutions see their factors. Sums, parameters, gradients and activations are
/// float32 with each of them.
enum class Precision {
  float32,  ///< as they are: 24 bits
  tf32,     ///< rounded to 11 bits by the tensor cores
  bf16,     ///< rounded to 8 bits before the product, half the memory to read
};
constexpr auto names(Precision) {
  using namespace std::string_view_literals;
  return std::array{std::pair{"float32"sv, Precision::float32}, std::pair{"tf32"sv, Precision::tf32},
                    std::pair{"bf16"sv, Precision::bf16}};
}

}  // namespace elastic::model
