// SPDX-License-Identifier: Apache-2.0
// Which part of a flat parameter vector is what: weight decay and bias rates treat the kinds differently.
#pragma once

#include <cstddef>

namespace elastic {

enum class ParameterKind {
  weight,
  bias,
  normalization,  ///< scale or shift of a batch normalization
};

/// `count` parameters from `offset` of one kind. A model that has a `groups()` lists them all, in order.
struct ParameterGroup {
  std::size_t offset = 0;
  std::size_t count = 0;
  ParameterKind kind = ParameterKind::weight;
};

}  // namespace elastic
