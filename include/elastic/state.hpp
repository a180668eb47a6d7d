// SPDX-License-Identifier: Apache-2.0
// The vectors of a training run that others must find by name: center, velocity. What is not here dies with
// the rule's locals.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/event.hpp"

namespace elastic {

/// Named vectors of `T` on one device. They outlive the run, so checkpoints, testers and audits can read
/// them, and may be set before it, so that a run can continue.
template <class Dev, class T>
class States {
 public:
  using Memory = typename Dev::memory;
  explicit States(Dev& device) : device_(device) {}

  /// The vector called `name`; a copy of `initial` if there is none yet. Throws ConfigError if it has another
  /// size.
  Span<T, Memory> get(std::string_view name, Span<T const, Memory> initial) {
    auto found = vectors_.find(name);
    if (found == vectors_.end()) {
      found = vectors_.emplace(name, device_.template allocate<T>(initial.size())).first;
      device_.copy(initial, found->second.span());
    }
    if (found->second.span().size() != initial.size())
      throw ConfigError("state '" + std::string(name) + "' has " +
                        std::to_string(found->second.span().size()) + " values, the model has " +
                        std::to_string(initial.size()));
    return found->second.span();
  }

  /// The vector called `name`; throws ConfigError naming those that exist.
  Span<T const, Memory> at(std::string_view name) const {
    auto const found = vectors_.find(name);
    if (found == vectors_.end()) {
      std::string known;
      for (auto const& [key, vector] : vectors_) known += " " + key;
      throw ConfigError("there is no state '" + std::string(name) + "'; there is" +
                        (known.empty() ? " none" : known));
    }
    return found->second.span();
  }

  /// All of them, by name.
  std::vector<NamedVector<T const, Memory>> all() const {
    std::vector<NamedVector<T const, Memory>> named;
    for (auto const& [name, vector] : vectors_) named.push_back({name, vector.span()});
    return named;
  }

  bool contains(std::string_view name) const { return vectors_.find(name) != vectors_.end(); }

 private:
  Dev& device_;
  std::map<std::string, typename Dev::template Buffer<T>, std::less<>> vectors_;
};

}  // namespace elastic
