// SPDX-License-Identifier: Apache-2.0
// One GPU: memory and elementwise work on a stream of its own, copies on two others beside it. A little long: the
// contract of a device on one page; kernels and memories are in detail/.
#pragma once

#ifndef __CUDACC__
#error \
    "elastic/device/cuda.cuh launches kernels: compile this file as CUDA (.cu), or include elastic/device/cpu.hpp"
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "elastic/device/detail/cuda_kernels.cuh"
#include "elastic/device/detail/cuda_memory.hpp"
#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/span.hpp"

namespace elastic::device {

/// A GPU of this process, numbered as the CUDA runtime does (CUDA_VISIBLE_DEVICES renumbers).
///
/// Copies of a Cuda are the same device with the same streams; several devices, or several Cudas of one device,
/// live side by side. Work is submitted and runs in that order; download() and synchronize() wait for it. Functors
/// must be callable in device code (ELASTIC_FN). Any call may throw DeviceError, also for work submitted earlier.
/// One thread at a time.
class Cuda {
 public:
  static constexpr std::string_view name = "cuda";
  using memory = elastic::memory::Cuda;

  /// How many there are; 0 where there is no driver.
  static int count() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
    cudaGetLastError();
    return 0;
  }

  explicit Cuda(int ordinal = 0) {
    if (ordinal < 0 || ordinal >= count())
      throw ConfigError("there is no CUDA device " + std::to_string(ordinal) + "; this process sees " +
                        std::to_string(count()) + " (nvidia-smi and CUDA_VISIBLE_DEVICES say which)");
    state_ = std::make_shared<State>(ordinal);
  }

  int ordinal() const { return state_->ordinal; }
  /// For calls of other libraries: what they enqueue here runs in order with the device's own work.
  cudaStream_t stream() const { return state_->work->get(); }

  /// `n` values, zero at first.
  template <class T>
  using Buffer = detail::CudaBuffer<T>;
  template <class T>
  Buffer<T> allocate(std::size_t n) {
    return {ordinal(), stream(), state_, n};
  }

  template <class T>
  void copy(Span<T const, memory> from, Span<T, memory> to) {
    transfer(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyDeviceToDevice, stream());
  }
  template <class T>
  void copy(Span<T, memory> from, Span<T, memory> to) {
    copy(read(from), to);
  }
  template <class From, class T>
  void download(Span<From, memory> from, Span<T> to) {
    transfer(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyDeviceToHost, stream());
    synchronize();
  }
  template <class From, class T>
  void upload(Span<From> from, Span<T, memory> to) {
    transfer(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, stream());
    synchronize();
  }

  /// f(y[i], x[i]...) for every i, one kernel, which moves packs of values where all views are of one kind. All views
  /// have the size of the first, and overlap nowhere unless they are the same.
  template <class F, class T, class... Ts>
  void for_each(F f, Span<T, memory> y, Span<Ts, memory>... x) {
    if (y.empty()) return;
    using Value = std::remove_const_t<T>;
    constexpr bool one_kind = (std::is_same_v<Value, std::remove_const_t<Ts>> && ...);
    std::uintptr_t const address = reinterpret_cast<std::uintptr_t>(y.data());
    bool const aligned =
        one_kind && ((reinterpret_cast<std::uintptr_t>(x.data()) % 16 == address % 16) && ... && true);
    std::size_t const n = y.size();
    std::size_t head = n, packs = 0;
    if (aligned) {
      head = std::min(n, (16 - address % 16) % 16 / sizeof(Value));
      packs = (n - head) / detail::Pack<Value>::width;
    }
    std::size_t const tile = detail::threads_per_block * (packs > 0 ? detail::packs_in_flight : 1);
    detail::OnDevice const here(ordinal());
    if constexpr (one_kind)
      detail::for_each<Value>
          <<<blocks(packs > 0 ? packs : n, tile), detail::threads_per_block, 0, stream()>>>(
              n, head, packs, f, y.data(), x.data()...);
    else
      detail::for_each_kind<<<blocks(n, detail::threads_per_block * detail::packs_in_flight),
                              detail::threads_per_block, 0, stream()>>>(n, f, y.data(), x.data()...);
    detail::check(cudaGetLastError(), "for_each");
  }

  /// Whether no value is beyond +-`limit` or not a number; waits for it.
  template <class T>
  bool within(Span<T const, memory> x, double limit) {
    if (x.empty()) return true;
    detail::OnDevice const here(ordinal());
    detail::
        within<<<blocks(x.size(), detail::threads_per_block * 16), detail::threads_per_block, 0, stream()>>>(
            x.size(), x.data(), static_cast<T>(limit), state_->word(State::beyond));
    detail::check(cudaGetLastError(), "within");
    return take(State::beyond) == 0;
  }

  /// One elastic exchange with a center that this device reaches; see Device (concepts.hpp).
  template <class Move, class Add, class T>
  void exchange(Move move, Add add, Span<T, memory> x, Span<T, memory> c, Span<T, memory> deltas,
                double limit) {
    if (c.empty()) return;
    auto const aligned = [](T const* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
    detail::OnDevice const here(ordinal());
    detail::exchange<T><<<blocks(c.size(), exchange_block), detail::threads_per_block, 0, stream()>>>(
        c.size(), aligned(x.data()) && aligned(c.data()) && aligned(deltas.data()), move, add, x.data(),
        c.data(), deltas.data(), static_cast<T>(limit), state_->word(State::refused));
    detail::check(cudaGetLastError(), "exchange");
  }
  /// Blocks that exchange() has not added since this was asked last; waits for it.
  std::uint32_t refused() { return take(State::refused); }

  void synchronize() {
    detail::OnDevice const here(ordinal());
    detail::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  }

  // -- what models are made of

  /// f(i) for i in [0, n).
  template <class F>
  void launch(std::size_t n, F f) {
    if (n == 0) return;
    detail::OnDevice const here(ordinal());
    detail::launch<<<blocks(n, detail::threads_per_block), detail::threads_per_block, 0, stream()>>>(n, f);
    detail::check(cudaGetLastError(), "launch");
  }
  /// out(row, sum), where sum is that of term(row, j) over j in [0, columns), in an order that never changes.
  template <class Sum, class Term, class Out>
  void sum_rows(std::size_t rows, std::size_t columns, Term term, Out out) {
    if (rows == 0) return;
    detail::OnDevice const here(ordinal());
    detail::sum_rows<Sum>
        <<<blocks(rows, 1), detail::threads_per_block, 0, stream()>>>(rows, columns, term, out);
    detail::check(cudaGetLastError(), "sum_rows");
  }

  // -- OwnMemory: copies beside the work
  using Ticket = detail::Event;
  static detail::PinnedMemory allocate_host(std::size_t bytes) { return detail::PinnedMemory(bytes); }

  template <class From, class T>
  Ticket start_download(Span<From, memory> from, Span<T> to) {
    return beside(*state_->down, to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyDeviceToHost);
  }
  template <class From, class T>
  Ticket start_upload(Span<From> from, Span<T, memory> to) {
    Ticket ticket =
        beside(*state_->up, to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice);
    ticket.before(stream());
    return ticket;
  }
  Ticket mark() {
    detail::OnDevice const here(ordinal());
    return Ticket(stream());
  }

  /// Host memory that the device reads and writes in place; pinned until the result is dropped.
  template <class T>
  detail::CudaMapped<T> map(Span<T> host) {
    return {ordinal(), host};
  }

  // -- SharesMemory: memory that other processes' devices open
  using Handle = detail::CudaHandle;
  /// `n` zeros.
  template <class T>
  detail::CudaShared<T> share(std::size_t n) {
    return detail::CudaShared<T>::make(ordinal(), stream(), n);
  }
  /// The `n` values that another rank shared under this handle, and keeps while they are open here.
  template <class T>
  detail::CudaShared<T> open(Handle const& handle, std::size_t n) {
    return detail::CudaShared<T>::open(ordinal(), handle, n);
  }

 private:
  /// What the copies of one Cuda share.
  struct State {
    enum Word { beyond, refused, words };

    explicit State(int device) : ordinal(device) {
      detail::OnDevice const here(device);
      work = std::make_unique<detail::Stream>();
      down = std::make_unique<detail::Stream>();
      up = std::make_unique<detail::Stream>();
      void* memory = nullptr;
      detail::check(cudaMalloc(&memory, words * sizeof(unsigned)), "cudaMalloc");
      counters.reset(static_cast<unsigned*>(memory));
      detail::check(cudaMemsetAsync(memory, 0, words * sizeof(unsigned), work->get()), "cudaMemsetAsync");
      answer = std::make_unique<detail::PinnedMemory>(sizeof(unsigned));
    }
    ~State() {
      int before = 0;
      cudaGetDevice(&before);
      cudaSetDevice(ordinal);
      cudaStreamSynchronize(work->get());
      work.reset(), down.reset(), up.reset(), counters.reset(), answer.reset();
      cudaSetDevice(before);
    }
    unsigned* word(Word which) const { return counters.get() + which; }

    struct Free {
      void operator()(unsigned* memory) const { cudaFree(memory); }
    };
    int ordinal;
    std::unique_ptr<detail::Stream> work, down, up;
    std::unique_ptr<unsigned, Free> counters;
    std::unique_ptr<detail::PinnedMemory> answer;
  };

  static unsigned blocks(std::size_t values, std::size_t each) {
    return static_cast<unsigned>(std::min<std::size_t>((values + each - 1) / each, 1u << 30));
  }

  void transfer(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t on) {
    detail::OnDevice const here(ordinal());
    detail::check(cudaMemcpyAsync(to, from, bytes, kind, on), "cudaMemcpyAsync");
  }
  /// After all work so far, on a stream of its own.
  Ticket beside(detail::Stream const& copies, void* to, void const* from, std::size_t bytes,
                cudaMemcpyKind kind) {
    detail::OnDevice const here(ordinal());
    Ticket(stream()).before(copies.get());
    transfer(to, from, bytes, kind, copies.get());
    return Ticket(copies.get());
  }
  /// The value of a counter, which starts again from 0.
  unsigned take(State::Word which) {
    transfer(state_->answer->data(), state_->word(which), sizeof(unsigned), cudaMemcpyDeviceToHost, stream());
    detail::OnDevice const here(ordinal());
    detail::check(cudaMemsetAsync(state_->word(which), 0, sizeof(unsigned), stream()), "cudaMemsetAsync");
    synchronize();
    unsigned value = 0;
    std::memcpy(&value, state_->answer->data(), sizeof value);
    return value;
  }

  std::shared_ptr<State> state_;
};

}  // namespace elastic::device
