// SPDX-License-Identifier: Apache-2.0
// Which part of a flat parameter vector is what: weight decay and bias rates treat the kinds differently.
#pragma once

#include <cstddef>
#include <vector>

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

/// Parameters in all of `groups`.
inline std::size_t all_in(std::vector<ParameterGroup> const& groups) {
  std::size_t count = 0;
  for (ParameterGroup const& group : groups) count += group.count;
  return count;
}

/// Those of `model`: its tensors. All of it if it does not say.
template <class Model>
std::vector<ParameterGroup> groups_of(Model& model) {
  if constexpr (requires { model.groups(); }) {
    auto const& groups = model.groups();
    return {groups.begin(), groups.end()};
  } else {
    return {ParameterGroup{0, model.parameters().size(), ParameterKind::weight}};
  }
}

}  // namespace elastic
