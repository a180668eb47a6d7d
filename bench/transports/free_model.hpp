// SPDX-License-Identifier: Apache-2.0
// A model whose gradient costs nothing, or as much as is wanted, so that only exchanges are left.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/parameter_group.hpp"
#include "elastic/span.hpp"

namespace bench {

/// `work()` instead of a gradient, and a local step that moves nothing unless it `moves`. What work() writes are the
/// gradients.
template <elastic::Device Dev = elastic::device::Cpu>
class FreeModel {
 public:
  using scalar = float;
  using device_type = Dev;
  using batch = int;
  using View = elastic::Span<float, typename Dev::memory>;
  FreeModel(Dev& device, std::size_t n, std::function<void()> work = {}, bool moves = false)
      : device_(device),
        x_(device.template allocate<float>(n)),
        g_(device.template allocate<float>(n)),
        work_(std::move(work)),
        all_{0, n, elastic::ParameterKind::weight},
        moves_(moves) {}
  void work(std::function<void()> work) { work_ = std::move(work); }
  Dev& device() { return device_; }
  View parameters() { return x_.span(); }
  View gradients() { return g_.span(); }
  double gradient(int) {
    if (work_) work_();
    return 0;
  }
  std::span<elastic::ParameterGroup const> groups() const { return {&all_, moves_ ? std::size_t(1) : 0}; }

 private:
  Dev& device_;
  typename Dev::template Buffer<float> x_, g_;
  std::function<void()> work_;
  elastic::ParameterGroup all_;
  bool moves_;
};

struct NoData {
  int nothing = 0;
  int const& next() { return nothing; }
};

/// Some 20 ms of arithmetic, or as many rounds of some 50 ns as are asked for, the same on all ranks, in slices with
/// `between` after each.
class Work {
 public:
  explicit Work(int slices = 50, long rounds = 8000) : slices_(slices), rounds_(rounds) { values_.fill(1.5); }
  template <class F>
  void run(F between) {
    for (int slice = 0; slice < slices_; ++slice) {
      for (long round = 0; round < rounds_; ++round)
        for (double& v : values_) v = v * 0.999 + 0.001;
      asm volatile("" : : "r"(values_.data()) : "memory");
      between();
    }
  }

 private:
  int slices_;
  long rounds_;
  std::array<double, 512> values_{};
};

}  // namespace bench
