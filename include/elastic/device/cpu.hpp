// SPDX-License-Identifier: Apache-2.0
// Host memory and loops the compiler vectorizes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string_view>
#include <type_traits>
#include <utility>

#include "elastic/ops.hpp"
#include "elastic/span.hpp"

namespace elastic::device {

/// The CPU. Its buffers come from `resource`, which must outlive them: `Cpu(net.resident())` puts them where a
/// transport through shared memory reaches them in place. Nets that can compute on `threads` threads (at least 1);
/// all else runs on the calling one.
class Cpu {
 public:
  static constexpr std::string_view name = "cpu";
  using memory = elastic::memory::Host;

  explicit Cpu(std::pmr::memory_resource& resource = *std::pmr::new_delete_resource(), int threads = 1)
      : resource_(&resource), threads_(threads) {}

  int threads() const { return threads_; }

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

  /// One elastic exchange with a center that this device reaches; see Device (concepts.hpp). Values of one block
  /// stay in L1 between the check and the sum.
  template <class Move, class Add, class T>
  void exchange(Move move, Add add, Span<T, memory> x, Span<T, memory> c, Span<T, memory> deltas,
                double limit) {
    std::array<T, exchange_block> d;
    for (std::size_t first = 0; first < c.size(); first += d.size()) {
      std::size_t const n = std::min(d.size(), c.size() - first);
      T* const xs = x.data() + first;
      T* const cs = c.data() + first;
      for (std::size_t i = 0; i < n; ++i) move(d[i], xs[i], cs[i]);
      if (!within(Span<T const, memory>(d.data(), n), limit)) {
        ++refused_;
      } else {
        for (std::size_t i = 0; i < n; ++i) add(cs[i], d[i]);
      }
      if (!deltas.empty()) std::copy_n(d.data(), n, deltas.data() + first);
    }
  }
  /// Blocks that exchange() has not added since this was asked last.
  std::uint32_t refused() { return std::exchange(refused_, 0); }

  void synchronize() {}

 private:
  std::pmr::memory_resource* resource_;
  int threads_;
  std::uint32_t refused_ = 0;
};

}  // namespace elastic::device
