// SPDX-License-Identifier: Apache-2.0
// The GPU's algorithms where there is no GPU: the same functors, run by Thrust on the host, in a memory that no
// transport reaches.
#pragma once

#include <thrust/execution_policy.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/logical.h>
#include <thrust/system/cpp/execution_policy.h>
#include <thrust/transform_reduce.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/ops.hpp"
#include "elastic/span.hpp"

namespace elastic::memory {
/// That of device::Thrust: host memory which everybody else treats as out of reach.
struct Thrust {};
}  // namespace elastic::memory

namespace elastic::device {

/// Stands in for device::Cuda in tests: models Device and OwnMemory, and runs the models written for GPUs. It works
/// in the calling thread, with Thrust's CPP back end, and is no faster than device::Cpu.
class Thrust {
 public:
  static constexpr std::string_view name = "thrust";
  using memory = elastic::memory::Thrust;

  /// `n` values, zero at first.
  template <class T>
  class Buffer {
    static_assert(std::is_trivially_copyable_v<T>);

   public:
    explicit Buffer(std::size_t n) : data_(std::make_unique<T[]>(n)), size_(n) {}
    Span<T, memory> span() const { return {data_.get(), size_}; }
    operator Span<T, memory>() const { return span(); }
    operator Span<T const, memory>() const { return span(); }

   private:
    std::unique_ptr<T[]> data_;
    std::size_t size_;
  };
  template <class T>
  Buffer<T> allocate(std::size_t n) {
    return Buffer<T>(n);
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
    std::copy_n(from.data(), from.size(), to.data());
  }
  template <class From, class T>
  void upload(Span<From> from, Span<T, memory> to) {
    std::copy_n(from.data(), from.size(), to.data());
  }

  /// f(y[i], x[i]...) for every i. All views have the size of the first.
  template <class F, class T, class... Ts>
  void for_each(F f, Span<T, memory> y, Span<Ts, memory>... x) {
    launch(y.size(), [=](std::size_t i) { f(y.data()[i], x.data()[i]...); });
  }

  /// Whether no value is beyond +-`limit` or not a number.
  template <class T>
  bool within(Span<T const, memory> x, double limit) {
    T const most = static_cast<T>(limit);
    return thrust::all_of(thrust::cpp::par, x.data(), x.data() + x.size(),
                          [most](T value) { return value <= most && value >= -most; });
  }

  /// One elastic exchange with a center that this device reaches; see Device (concepts.hpp).
  template <class Move, class Add, class T>
  void exchange(Move move, Add add, Span<T, memory> x, Span<T, memory> c, Span<T, memory> deltas,
                double limit) {
    std::size_t const blocks = (c.size() + exchange_block - 1) / exchange_block;
    refused_ += thrust::transform_reduce(
        thrust::cpp::par, index(0), index(blocks),
        [=, this](std::size_t block) -> std::uint32_t {
          std::size_t const first = block * exchange_block, n = std::min(exchange_block, c.size() - first);
          std::vector<T> d(n);
          for (std::size_t i = 0; i < n; ++i) move(d[i], x.data()[first + i], c.data()[first + i]);
          if (!deltas.empty()) std::copy(d.begin(), d.end(), deltas.data() + first);
          if (!within(Span<T const, memory>(d.data(), n), limit)) return 1;
          for (std::size_t i = 0; i < n; ++i) add(c.data()[first + i], d[i]);
          return 0;
        },
        std::uint32_t(0), thrust::plus<std::uint32_t>());
  }
  /// Blocks that exchange() has not added since this was asked last.
  std::uint32_t refused() { return std::exchange(refused_, 0); }

  void synchronize() {}

  // -- what models are made of

  /// f(i) for i in [0, n).
  template <class F>
  void launch(std::size_t n, F f) {
    thrust::for_each_n(thrust::cpp::par, index(0), n, f);
  }
  /// out(row, sum), where sum is that of term(row, j) over j in [0, columns).
  template <class Sum, class Term, class Out>
  void sum_rows(std::size_t rows, std::size_t columns, Term term, Out out) {
    launch(rows, [=](std::size_t row) {
      out(row, thrust::transform_reduce(
                   thrust::cpp::par, index(0), index(columns),
                   [=](std::size_t j) -> Sum { return term(row, j); }, Sum{}, thrust::plus<Sum>()));
    });
  }

  // -- OwnMemory
  /// Of work that is done when its call returns.
  struct Ticket {
    void wait() {}
    bool done() { return true; }
  };
  static std::vector<std::byte> allocate_host(std::size_t bytes) { return std::vector<std::byte>(bytes); }
  template <class From, class T>
  Ticket start_download(Span<From, memory> from, Span<T> to) {
    download(from, to);
    return {};
  }
  template <class From, class T>
  Ticket start_upload(Span<From> from, Span<T, memory> to) {
    upload(from, to);
    return {};
  }
  Ticket mark() { return {}; }
  template <class T>
  struct Mapped {
    Span<T> host;
    Span<T, memory> span() const { return {host.data(), host.size()}; }
  };
  template <class T>
  Mapped<T> map(Span<T> host) {
    return {host};
  }

  // -- SharesMemory: within this process
  struct Handle {
    void* data;
    ::pid_t process;
  };
  template <class T>
  class Shared {
   public:
    Shared(std::shared_ptr<T[]> data, std::size_t n) : data_(std::move(data)), size_(n) {}
    Span<T, memory> span() const { return {data_.get(), size_}; }
    Handle handle() const { return {data_.get(), ::getpid()}; }

   private:
    std::shared_ptr<T[]> data_;
    std::size_t size_;
  };
  template <class T>
  Shared<T> share(std::size_t n) {
    return {std::shared_ptr<T[]>(new T[n]()), n};
  }
  /// Throws DeviceError for memory of another process.
  template <class T>
  Shared<T> open(Handle const& handle, std::size_t n) {
    if (handle.process != ::getpid())
      throw DeviceError("thrust: memory of process " + std::to_string(handle.process) +
                        " cannot be opened in " + std::to_string(::getpid()));
    return {std::shared_ptr<T[]>(static_cast<T*>(handle.data), [](T*) {}), n};
  }

 private:
  static thrust::counting_iterator<std::size_t> index(std::size_t i) {
    return thrust::counting_iterator<std::size_t>(i);
  }

  std::uint32_t refused_ = 0;
};

}  // namespace elastic::device
