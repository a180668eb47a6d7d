// SPDX-License-Identifier: Apache-2.0
// Takes a fuzzer's input apart: values while there are bytes, zeros after.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace fuzz {

class Input {
 public:
  Input(std::uint8_t const* data, std::size_t size) : left_(data, size) {}

  bool empty() const { return left_.empty(); }

  template <class T>
  T take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    auto const part = bytes(sizeof(T));
    if (!part.empty()) std::memcpy(&value, part.data(), part.size());
    return value;
  }
  /// At most `count` bytes.
  std::span<std::uint8_t const> bytes(std::size_t count) {
    auto const part = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(part.size());
    return part;
  }
  std::span<std::uint8_t const> rest() { return bytes(left_.size()); }

 private:
  std::span<std::uint8_t const> left_;
};

}  // namespace fuzz
