// SPDX-License-Identifier: Apache-2.0
// Which part of a flat parameter vector plays which role, so that a solver can treat the roles differently:
// weight decay on weights only, twice the learning rate for biases.
#pragma once

#include <cstddef>

namespace elastic::model {

/// The role of a stretch of parameters.
enum class ParameterKind {
  weight,
  bias,
  normalization,  ///< scale or shift of a batch normalization
};

/// `count` parameters of one kind, contiguous from `offset`.
struct ParameterGroup {
  std::size_t offset = 0;
  std::size_t count = 0;
  ParameterKind kind = ParameterKind::weight;
};

}  // namespace elastic::model
