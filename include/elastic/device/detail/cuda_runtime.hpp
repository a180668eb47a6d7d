// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime's objects with owners, and its errors as exceptions. Any compiler compiles this file.
#pragma once

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/error.hpp"

namespace elastic::device::detail {

/// Where a call stands, from elastic/ on.
inline std::string place_of(std::string_view file, int line) {
  std::size_t const root = file.rfind("elastic/");
  if (root != std::string_view::npos) file.remove_prefix(root);
  return std::string(file) + ":" + std::to_string(line);
}

/// Throws DeviceError with the call, its place and the device unless it succeeded. (clang++ 14 lacks
/// std::source_location.)
inline void check(cudaError_t status, std::string_view call, char const* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call would report it, too
  int device = -1;
  std::string on = "no device";
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) == cudaSuccess && cudaGetDeviceProperties(&properties, device) == cudaSuccess)
    on = "device " + std::to_string(device) + " (" + properties.name + ")";
  cudaGetLastError();
  throw DeviceError(std::string(call) + " at " + place_of(file, line) + " on " + on + ": " +
                    cudaGetErrorString(status));
}

/// A number that no other process has, however process ids are handed out.
inline std::uint64_t this_process() {
  static std::uint64_t const drawn = std::uint64_t(std::random_device{}()) << 32;
  return drawn ^ static_cast<std::uint64_t>(::getpid());
}

/// Makes `device` the calling thread's while it lives, and then the one that was.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice");
  }
  OnDevice(OnDevice const&) = delete;
  ~OnDevice() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

/// What a stream has been asked to do up to a moment; a Ticket. The device outlives it.
class Event {
 public:
  Event() = default;
  explicit Event(cudaStream_t stream) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    event_.reset(event);
    check(cudaEventRecord(event, stream), "cudaEventRecord");
  }
  void wait() const {
    if (event_) check(cudaEventSynchronize(event_.get()), "cudaEventSynchronize");
  }
  bool done() const {
    if (!event_) return true;
    cudaError_t const status = cudaEventQuery(event_.get());
    if (status == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(status, "cudaEventQuery");
    return true;
  }
  /// Work given to `stream` from now on waits for it.
  void before(cudaStream_t stream) const {
    if (event_) check(cudaStreamWaitEvent(stream, event_.get(), 0), "cudaStreamWaitEvent");
  }

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

/// A non-blocking stream: it never waits for the default one.
class Stream {
 public:
  Stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
  }
  cudaStream_t get() const { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
};

/// Pinned memory of the host: copies to and from it run at the link's speed beside everything else.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) : size_(bytes) {
    void* data = nullptr;
    check(cudaHostAlloc(&data, bytes > 0 ? bytes : 1, cudaHostAllocPortable), "cudaHostAlloc");
    data_.reset(static_cast<std::byte*>(data));
  }
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* data) const { cudaFreeHost(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_;
};

/// Memory of the host that the device reads and writes in place, over the link; it must live longer.
class MappedMemory {
 public:
  MappedMemory(void* host, std::size_t bytes) {
    if (bytes == 0) return;
    cudaError_t const status =
        cudaHostRegister(host, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
    if (status == cudaErrorHostMemoryAlreadyRegistered) {  // by another rank of this process
      cudaGetLastError();
    } else {
      check(status, "cudaHostRegister");
      host_.reset(host);
    }
    check(cudaHostGetDevicePointer(&device_, host, 0), "cudaHostGetDevicePointer");
  }
  void* device() const { return device_; }

 private:
  struct Unregister {
    void operator()(void* host) const { cudaHostUnregister(host); }
  };
  std::unique_ptr<void, Unregister> host_;
  void* device_ = nullptr;
};

}  // namespace elastic::device::detail
