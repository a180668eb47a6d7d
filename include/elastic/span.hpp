// SPDX-License-Identifier: Apache-2.0
// A view whose type says which memory it points into, so that a transport that cannot reach it does not
// compile.
#pragma once

#include <concepts>
#include <cstddef>
#include <ranges>
#include <type_traits>

namespace elastic {

namespace memory {
struct Host {};
struct Cuda {};
}  // namespace memory

/// A non-owning view of `size()` contiguous values in `Memory`.
template <class T, class Memory = memory::Host>
class Span {
 public:
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using memory = Memory;

  constexpr Span() = default;
  constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}

  /// A mutable view is also a read-only one.
  template <class U>
  requires std::same_as<T, U const>
  constexpr Span(Span<U, Memory> view) : data_(view.data()), size_(view.size()) {}

  /// Any contiguous host range (std::vector, std::array, std::span) is a host view.
  template <class Range>
  requires std::same_as<Memory, elastic::memory::Host> && std::ranges::contiguous_range<Range> &&
      std::ranges::sized_range<Range> &&
      std::convertible_to < std::remove_reference_t<std::ranges::range_reference_t<Range>>(*)
  [],
      T (*)[] > constexpr Span(Range& range)
      : data_(std::ranges::data(range)),
  size_(std::ranges::size(range)) {}

  constexpr T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }

  /// `count` values from `first`; the caller keeps `first + count <= size()`.
  constexpr Span part(std::size_t first, std::size_t count) const { return {data_ + first, count}; }

  constexpr T* begin() const requires std::same_as<Memory, elastic::memory::Host> { return data_; }
  constexpr T* end() const requires std::same_as<Memory, elastic::memory::Host> { return data_ + size_; }
  constexpr T& operator[](std::size_t i) const requires std::same_as<Memory, elastic::memory::Host> {
    return data_[i];
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The values of type V that a view of bytes holds, as many as `count`; the caller keeps their alignment.
template <class V, class Memory>
Span<V, Memory> values_in(Span<std::byte, Memory> bytes, std::size_t count) {
  return {reinterpret_cast<V*>(bytes.data()), count};
}

/// The same view, read-only; spells the conversion where deduction would not find it.
template <class T, class Memory>
constexpr Span<T const, Memory> read(Span<T, Memory> view) {
  return {view.data(), view.size()};
}

}  // namespace elastic
