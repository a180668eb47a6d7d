// SPDX-License-Identifier: Apache-2.0
// The benches' device: a GPU where nvcc compiles them, and on the CPU, for stand_in/, the device that stands in for one,
// with less of everything; there only the results mean anything.
#pragma once

#include <cstddef>
#include <memory>

#ifdef __CUDACC__
#include "elastic/device/cuda.cuh"
#else
#include "elastic/device/thrust.hpp"
#endif

namespace bench {

#ifdef __CUDACC__
using Gpu = elastic::device::Cuda;
inline constexpr bool stand_in = false;

inline bool has_device() { return Gpu::count() > 0; }
inline std::size_t free_memory() {
  std::size_t free = 0, total = 0;
  elastic::device::detail::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

/// Seconds on the device between two places of its stream.
class DeviceClock {
 public:
  explicit DeviceClock(Gpu const& device) : device_(device) {
    elastic::device::detail::OnDevice const here(device_.ordinal());
    for (auto* event : {&begin_, &end_}) {
      cudaEvent_t made = nullptr;
      elastic::device::detail::check(cudaEventCreate(&made), "cudaEventCreate");
      event->reset(made);
    }
  }
  /// Seconds that `repeats` calls of work() keep the device's stream busy, per call.
  template <class Work>
  double time(int repeats, Work work) const {
    using elastic::device::detail::check;
    elastic::device::detail::OnDevice const here(device_.ordinal());
    check(cudaEventRecord(begin_.get(), device_.stream()), "cudaEventRecord");
    for (int i = 0; i < repeats; ++i) work();
    check(cudaEventRecord(end_.get(), device_.stream()), "cudaEventRecord");
    check(cudaEventSynchronize(end_.get()), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()), "cudaEventElapsedTime");
    return double(milliseconds) / 1e3 / repeats;
  }

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  Gpu device_;
  std::unique_ptr<CUevent_st, Destroy> begin_, end_;
};
#else
using Gpu = elastic::device::Thrust;
inline constexpr bool stand_in = true;

inline bool has_device() { return true; }
inline std::size_t free_memory() { return std::size_t(1) << 30; }

struct DeviceClock {
  explicit DeviceClock(Gpu const&) {}
  template <class Work>
  double time(int repeats, Work work) const {
    for (int i = 0; i < repeats; ++i) work();
    return 1;
  }
};
#endif

using Memory = Gpu::memory;

/// As many as on a GPU, or fewer where a CPU stands in.
template <class Number>
constexpr Number scaled(Number on_a_gpu, Number stands_in) {
  return stand_in ? stands_in : on_a_gpu;
}

}  // namespace bench
