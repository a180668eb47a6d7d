// SPDX-License-Identifier: Apache-2.0
// Host memory and loops the compiler vectorizes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <string_view>
#include <type_traits>

#include "elastic/span.hpp"

namespace elastic::device {

/// The calling thread's CPU. Its buffers come from `resource`, which must outlive them: `Cpu(net.resident())`
/// puts them where a transport through shared memory reaches them in place.
class Cpu {
 public:
  static constexpr std::string_view name = "cpu";
  using memory = elastic::memory::Host;

  explicit Cpu(std::pmr::memory_resource& resource = *std::pmr::new_delete_resource())
      : resource_(&resource) {}

  /// `n` values, zero at first, on a cache line of their own.
  template <class T>
  class Buffer {
    static_assert(std::is_trivially_copyable_v<T>);

   public:
    explicit Buffer(std::size_t n, std::pmr::memory_resource& resource = *std::pmr::new_delete_resource())
        : data_(static_cast<T*>(resource.allocate(n * sizeof(T), line)), Free{&resource, n}), size_(n) {
      std::uninitialized_value_construct_n(data_.get(), n);
    }
    Span<T, memory> span() const { return {data_.get(), size_}; }
    operator Span<T, memory>() const { return span(); }
    operator Span<T const, memory>() const { return span(); }

   private:
    static constexpr std::size_t line = 64;
    struct Free {
      std::pmr::memory_resource* resource;
      std::size_t n;
      void operator()(T* p) const { resource->deallocate(p, n * sizeof(T), line); }
    };
    std::unique_ptr<T[], Free> data_;
    std::size_t size_;
  };

  template <class T>
  Buffer<T> allocate(std::size_t n) {
    return Buffer<T>(n, *resource_);
  }

  template <class T>
  void copy(Span<T const, memory> from, Span<T, memory> to) {
    std::copy_n(from.data(), from.size(), to.data());
  }
  template <class T>
  void copy(Span<T, memory> from, Span<T, memory> to) {
    copy(read(from), to);
  }
  template <class From, class T>
  void download(Span<From, memory> from, Span<T> to) {
    copy(from, to);
  }
  template <class From, class T>
  void upload(Span<From> from, Span<T, memory> to) {
    copy(from, to);
  }

  /// f(y[i], x[i]...) for every i. All views have the size of the first.
  template <class F, class T, class... Ts>
  void for_each(F f, Span<T, memory> y, Span<Ts, memory>... x) {
    T* const out = y.data();
    std::size_t const n = y.size();
    for (std::size_t i = 0; i < n; ++i) f(out[i], x.data()[i]...);
  }

  /// Whether no value is beyond +-`limit` or not a number.
  template <class T>
  bool within(Span<T const, memory> x, double limit) {
    T const most = static_cast<T>(limit);
    int good = 1;  // no early return: this way it vectorizes
    for (T const value : x) good &= int(value <= most) & int(value >= -most);
    return good != 0;
  }

  void synchronize() {}

 private:
  std::pmr::memory_resource* resource_;
};

}  // namespace elastic::device
