// SPDX-License-Identifier: Apache-2.0
// The power in local response normalization, for every backend of our own.
#pragma once

#include <cmath>

#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// scale^-beta; AlexNet's exponent without a call of pow.
ELASTIC_FN inline float lrn_factor(float scale, float beta) {
  if (beta == 0.75f) return 1 / std::sqrt(scale * std::sqrt(scale));
  return std::pow(scale, -beta);
}

}  // namespace elastic::model::detail
