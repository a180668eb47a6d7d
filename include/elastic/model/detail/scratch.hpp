// SPDX-License-Identifier: Apache-2.0
// The device memory that the layers of one net take turns with: they run one after the other.
#pragma once

#include <cstddef>

namespace elastic::model::detail {

/// Cuts one allocation into arrays. Their owner asked for enough of it: see room().
class Scratch {
 public:
  static constexpr std::size_t line = 256;  // bytes; what each array is aligned to

  /// What an array of `n` takes at most.
  template <class T>
  static constexpr std::size_t room(std::size_t n) {
    return (n * sizeof(T) + line - 1) / line * line;
  }

  explicit Scratch(std::byte* memory) : next_(memory) {}

  template <class T>
  T* take(std::size_t n) {
    auto* const array = reinterpret_cast<T*>(next_);
    next_ += room<T>(n);
    return array;
  }

 private:
  std::byte* next_;
};

}  // namespace elastic::model::detail
