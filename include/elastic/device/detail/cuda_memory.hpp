// SPDX-License-Identifier: Apache-2.0
// The memory of a GPU with owners: its own, the host's that it reads in place, and what processes share.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/span.hpp"

namespace elastic::device::detail {

/// `n` values in the order of a stream, zero at first; `keeps` lives as long as they do.
template <class T>
class CudaBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using memory = elastic::memory::Cuda;
  CudaBuffer(int ordinal, cudaStream_t stream, std::shared_ptr<void const> keeps, std::size_t n)
      : data_(nullptr, Free{std::move(keeps), stream, ordinal}), size_(n) {
    OnDevice const here(ordinal);
    void* data = nullptr;
    std::size_t const bytes = std::max<std::size_t>(n, 1) * sizeof(T);
    check(cudaMallocAsync(&data, bytes, stream), "cudaMallocAsync");
    data_.reset(static_cast<T*>(data));
    check(cudaMemsetAsync(data, 0, bytes, stream), "cudaMemsetAsync");
  }
  Span<T, memory> span() const { return {data_.get(), size_}; }
  operator Span<T, memory>() const { return span(); }
  operator Span<T const, memory>() const { return span(); }

 private:
  struct Free {
    std::shared_ptr<void const> keeps;
    cudaStream_t stream;
    int ordinal;
    void operator()(T* data) const {
      int before = 0;
      cudaGetDevice(&before);
      cudaSetDevice(ordinal);
      cudaFreeAsync(data, stream);
      cudaSetDevice(before);
    }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_;
};

/// Host memory that the device reads and writes in place.
template <class T>
class CudaMapped {
 public:
  CudaMapped(int ordinal, Span<T> host) : size_(host.size()) {
    OnDevice const here(ordinal);
    memory_ = std::make_unique<MappedMemory>(host.data(), host.size() * sizeof(T));
  }
  Span<T, elastic::memory::Cuda> span() const { return {static_cast<T*>(memory_->device()), size_}; }

 private:
  std::unique_ptr<MappedMemory> memory_;
  std::size_t size_;
};

/// Where to find memory that a process shares.
struct CudaHandle {
  cudaIpcMemHandle_t memory;
  void* data;  // for ranks of the same process, which must not open what is theirs
  std::uint64_t process;
};

/// Memory of a device that other processes' devices open.
template <class T>
class CudaShared {
 public:
  /// `n` zeros, in blocks of their own: a smaller allocation would take its neighbors along.
  static CudaShared make(int ordinal, cudaStream_t stream, std::size_t n) {
    constexpr std::size_t block = std::size_t(2) << 20;
    std::size_t const bytes = std::max<std::size_t>(1, (n * sizeof(T) + block - 1) / block) * block;
    OnDevice const here(ordinal);
    void* data = nullptr;
    check(cudaMalloc(&data, bytes), "cudaMalloc");
    CudaShared shared(static_cast<T*>(data), n, made);
    check(cudaMemsetAsync(data, 0, bytes, stream), "cudaMemsetAsync");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    return shared;
  }
  static CudaShared open(int ordinal, CudaHandle const& handle, std::size_t n) {
    if (handle.process == this_process()) return CudaShared(static_cast<T*>(handle.data), n, known);
    OnDevice const here(ordinal);
    void* data = nullptr;
    check(cudaIpcOpenMemHandle(&data, handle.memory, cudaIpcMemLazyEnablePeerAccess), "cudaIpcOpenMemHandle");
    return CudaShared(static_cast<T*>(data), n, opened);
  }
  Span<T, elastic::memory::Cuda> span() const { return {data_.get(), size_}; }
  CudaHandle handle() const {
    CudaHandle handle{};
    check(cudaIpcGetMemHandle(&handle.memory, data_.get()), "cudaIpcGetMemHandle");
    handle.data = data_.get();
    handle.process = this_process();
    return handle;
  }

 private:
  enum Origin { made, opened, known };
  struct Drop {
    Origin origin;
    void operator()(T* data) const {
      if (origin == made) cudaFree(data);
      if (origin == opened) cudaIpcCloseMemHandle(data);
    }
  };
  CudaShared(T* data, std::size_t n, Origin origin) : data_(data, Drop{origin}), size_(n) {}
  std::unique_ptr<T[], Drop> data_;
  std::size_t size_;
};

}  // namespace elastic::device::detail
