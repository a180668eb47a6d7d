// SPDX-License-Identifier: Apache-2.0
// The kernels of device::Cuda: one per shape of work, each at the speed of the memory it touches.
#pragma once

#ifndef __CUDACC__
#error \
    "elastic/device/cuda.cuh launches kernels: compile this file as CUDA (.cu), or include elastic/device/cpu.hpp"
#endif

#include <cstddef>
#include <cstdint>
#include <cuda/std/tuple>
#include <cuda/std/utility>
#include <type_traits>

#include "elastic/ops.hpp"

namespace elastic::device::detail {

inline constexpr unsigned threads_per_block = 256;
inline constexpr unsigned packs_in_flight = 4;  // loads of each operand that a thread has on their way

/// As many values as one 16-byte access moves.
template <class T>
struct alignas(16) Pack {
  static constexpr unsigned width = 16 / sizeof(T);
  T value[width];
};

/// Whether two arrays hold the same bits: what f only reads is not written back, and the compiler, which sees f,
/// takes the question out.
template <class T, unsigned n>
__device__ bool same(T const (&a)[n], T const (&b)[n]) {
  auto const* const x = reinterpret_cast<std::uint32_t const*>(a);
  auto const* const y = reinterpret_cast<std::uint32_t const*>(b);
  bool equal = true;
#pragma unroll
  for (unsigned i = 0; i < n * sizeof(T) / 4; ++i) equal = equal && x[i] == y[i];
  return equal;
}

/// One operand of an elementwise kernel, P values from `p` on. What f overwrites is not loaded.
template <class P, bool only_written>
struct Operand {
  using Value = std::remove_const_t<P>;
  static __device__ Pack<Value> load(P* p, std::size_t i) {
    if constexpr (only_written) return {};
    return reinterpret_cast<Pack<Value> const*>(p)[i];
  }
  static __device__ void store(P* p, std::size_t i, Pack<Value> const& now, Pack<Value> const& before) {
    if constexpr (!std::is_const_v<P>)
      if (only_written || !same(now.value, before.value)) reinterpret_cast<Pack<Value>*>(p)[i] = now;
  }
};

/// Whether f writes its operand I without reading it (ops.hpp).
template <class F, std::size_t I>
constexpr bool overwritten = [] {
  if constexpr (requires { F::overwrites; }) return F::overwrites && I == 0;
  return false;
}();

/// f(p[i]...) for n values: `packs` packs from value `head` on, where every p is aligned to 16 bytes, and single
/// values around them.
template <class T, class F, class... P>
__global__ void __launch_bounds__(threads_per_block)
    for_each(std::size_t n, std::size_t head, std::size_t packs, F f, P*... p) {
  constexpr std::size_t tile = threads_per_block * packs_in_flight;
  using Packs = cuda::std::tuple<Pack<std::remove_const_t<P>>...>;
  auto const load = [&]<std::size_t... I>(std::size_t i, cuda::std::index_sequence<I...>) {
    return Packs{Operand<P, overwritten<F, I>>::load(p + head, i)...};
  };
  auto const store = [&]<std::size_t... I>(std::size_t i, Packs const& now, Packs const& before,
                                           cuda::std::index_sequence<I...>) {
    (Operand<P, overwritten<F, I>>::store(p + head, i, cuda::std::get<I>(now), cuda::std::get<I>(before)),
     ...);
  };
  constexpr cuda::std::index_sequence_for<P...> all{};
  for (std::size_t first = blockIdx.x * tile + threadIdx.x; first < packs; first += gridDim.x * tile) {
    Packs before[packs_in_flight];
#pragma unroll
    for (unsigned k = 0; k < packs_in_flight; ++k) {
      std::size_t const i = first + k * threads_per_block;
      if (i < packs) before[k] = load(i, all);
    }
#pragma unroll
    for (unsigned k = 0; k < packs_in_flight; ++k) {
      std::size_t const i = first + k * threads_per_block;
      if (i >= packs) continue;
      auto now = before[k];
#pragma unroll
      for (unsigned lane = 0; lane < Pack<T>::width; ++lane)
        cuda::std::apply([&](auto&... pack) { f(pack.value[lane]...); }, now);
      store(i, now, before[k], all);
    }
  }
  std::size_t const begin = head, end = head + packs * Pack<T>::width;
  std::size_t const single = n - (end - begin);
  for (std::size_t k = blockIdx.x * std::size_t(threads_per_block) + threadIdx.x; k < single;
       k += gridDim.x * std::size_t(threads_per_block)) {
    std::size_t const i = k < begin ? k : end + (k - begin);
    f(p[i]...);
  }
}

/// The same for values of several kinds, one at a time.
template <class F, class... P>
__global__ void __launch_bounds__(threads_per_block) for_each_kind(std::size_t n, F f, P*... p) {
  for (std::size_t i = blockIdx.x * std::size_t(threads_per_block) + threadIdx.x; i < n;
       i += gridDim.x * std::size_t(threads_per_block))
    f(p[i]...);
}

/// One elastic exchange: a block of threads for each block of values, whose deltas stay in registers between the
/// check and the sum.
template <class T, class Move, class Add>
__global__ void __launch_bounds__(threads_per_block)
    exchange(std::size_t n, bool aligned, Move move, Add add, T* x, T* c, T* deltas, T limit,
             unsigned* refused) {
  constexpr unsigned each = exchange_block / threads_per_block;
  for (std::size_t block = blockIdx.x; block * exchange_block < n; block += gridDim.x) {
    std::size_t const first = block * exchange_block;
    T xs[each]{}, cs[each]{}, d[each], before[each];
    // Aligned threads hold neighbors, which one access moves; others hold every 256th value.
    bool const packed = aligned && first + exchange_block <= n;
    auto const at = [&](unsigned k) {
      return packed ? first + threadIdx.x * each + k : first + threadIdx.x + k * threads_per_block;
    };
    auto const move_values = [&](T* mine, T* memory, bool load) {
      if (packed) {
        constexpr unsigned width = Pack<T>::width;
#pragma unroll
        for (unsigned k = 0; k < each; k += width) {
          auto* const pack = reinterpret_cast<Pack<T>*>(memory + at(k));
          if (load) {
            Pack<T> const loaded = *pack;
#pragma unroll
            for (unsigned lane = 0; lane < width; ++lane) mine[k + lane] = loaded.value[lane];
          } else {
            Pack<T> stored;
#pragma unroll
            for (unsigned lane = 0; lane < width; ++lane) stored.value[lane] = mine[k + lane];
            *pack = stored;
          }
        }
      } else {
#pragma unroll
        for (unsigned k = 0; k < each; ++k) {
          if (at(k) >= n) continue;
          if (load)
            mine[k] = memory[at(k)];
          else
            memory[at(k)] = mine[k];
        }
      }
    };
    move_values(xs, x, true);
    move_values(cs, c, true);
    int good = 1;
#pragma unroll
    for (unsigned k = 0; k < each; ++k) {
      d[k] = T(0);
      before[k] = xs[k];
      if (at(k) >= n) continue;
      move(d[k], xs[k], cs[k]);
      good &= int(d[k] <= limit) & int(d[k] >= -limit);
    }
    bool const taken = __syncthreads_and(good) != 0;
    if (!same(xs, before)) move_values(xs, x, false);
    if (deltas != nullptr) move_values(d, deltas, false);
    if (taken) {
#pragma unroll
      for (unsigned k = 0; k < each; ++k)
        if (at(k) < n) add(cs[k], d[k]);
      move_values(cs, c, false);
    } else if (threadIdx.x == 0) {
      atomicAdd(refused, 1u);
    }
  }
}

/// Sets *beyond if a value is not within +-limit.
template <class T>
__global__ void __launch_bounds__(threads_per_block)
    within(std::size_t n, T const* x, T limit, unsigned* beyond) {
  int good = 1;
  for (std::size_t i = blockIdx.x * std::size_t(threads_per_block) + threadIdx.x; i < n;
       i += gridDim.x * std::size_t(threads_per_block))
    good &= int(x[i] <= limit) & int(x[i] >= -limit);
  if (__syncthreads_and(good) == 0 && threadIdx.x == 0) *beyond = 1;
}

/// f(i) for i in [0, n).
template <class F>
__global__ void __launch_bounds__(threads_per_block) launch(std::size_t n, F f) {
  for (std::size_t i = blockIdx.x * std::size_t(threads_per_block) + threadIdx.x; i < n;
       i += gridDim.x * std::size_t(threads_per_block))
    f(i);
}

/// out(row, sum over j < columns of term(row, j)), a block of threads a row.
template <class Sum, class Term, class Out>
__global__ void __launch_bounds__(threads_per_block)
    sum_rows(std::size_t rows, std::size_t columns, Term term, Out out) {
  __shared__ Sum partial[threads_per_block / 32];
  for (std::size_t row = blockIdx.x; row < rows; row += gridDim.x) {
    Sum sum{};
    for (std::size_t j = threadIdx.x; j < columns; j += threads_per_block) sum += term(row, j);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (unsigned w = 1; w < threads_per_block / 32; ++w) sum += partial[w];
      out(row, sum);
    }
    __syncthreads();
  }
}

}  // namespace elastic::device::detail
