// SPDX-License-Identifier: Apache-2.0
// What OnednnNet needs of oneDNN beyond its C++ interface: primitives bound to their memory once, so that a
// step allocates no tensor (oneDNN still makes small objects of its own), and a promise of how many
// threads run them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "elastic/device/cpu.hpp"

#if __has_include(<omp.h>)
#include <omp.h>
#else
extern "C" {
int omp_get_max_threads() noexcept;
void omp_set_num_threads(int) noexcept;
}
#endif
// oneDNN brings the OpenMP runtime it was built with, if any; weak, so that no program has to link it by
// name.
#pragma weak omp_get_max_threads
#pragma weak omp_set_num_threads

namespace elastic::model::detail {

/// While it lives, OpenMP regions that this thread starts have so many threads. oneDNN would else start one a core
/// for every model, and slow a process that shares its cores with others by a factor of ten and more.
class OpenMpThreads {
 public:
  explicit OpenMpThreads(int threads) : before_(omp_get_max_threads == nullptr ? 1 : omp_get_max_threads()) {
    set(threads);
  }
  ~OpenMpThreads() { set(before_); }
  OpenMpThreads(OpenMpThreads const&) = delete;
  OpenMpThreads& operator=(OpenMpThreads const&) = delete;

 private:
  static void set(int threads) {
    if (omp_set_num_threads != nullptr) omp_set_num_threads(threads);
  }

  int before_;
};

using OnednnArguments = std::unordered_map<int, dnnl::memory>;

/// A primitive and the memory it works on.
class OnednnCall {
 public:
  OnednnCall(dnnl::primitive primitive, OnednnArguments const& arguments) : primitive_(std::move(primitive)) {
    for (auto const& [role, memory] : arguments) {
      memories_.push_back(memory);
      arguments_.push_back({role, memory.get()});
    }
  }

  void run(dnnl::stream const& stream) const {
    dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive_.get(), stream.get(),
                                                   static_cast<int>(arguments_.size()), arguments_.data()),
                            "a primitive failed");
  }

 private:
  dnnl::primitive primitive_;
  std::vector<dnnl::memory> memories_;  // keeps what arguments_ points to
  std::vector<dnnl_exec_arg_t> arguments_;
};

/// Makes calls and their memory. Primitives that need room to work in share one scratchpad: they run one
/// after the other.
class OnednnWorkshop {
 public:
  explicit OnednnWorkshop(dnnl::engine engine) : engine_(std::move(engine)) {}

  /// Attributes to change: copies of a primitive_attr are the same object.
  static dnnl::primitive_attr make_attributes() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
  }

  dnnl::engine const& engine() const { return engine_; }
  dnnl::primitive_attr const& attributes() const { return attributes_; }

  /// Memory of its own.
  dnnl::memory room(dnnl::memory::desc const& shape) const { return {shape, engine_}; }

  /// A view of dense values that others own; oneDNN has no const, so it is on the call not to write to
  /// inputs.
  dnnl::memory view(float const* values, dnnl::memory::dims const& dims, dnnl::memory::format_tag tag) const {
    return {{dims, dnnl::memory::data_type::f32, tag}, engine_, const_cast<float*>(values)};
  }

  template <class Descriptor>
  OnednnCall call(Descriptor const& descriptor, dnnl::primitive const& primitive, OnednnArguments arguments) {
    dnnl::memory::desc const scratch = descriptor.scratchpad_desc();
    if (scratch.get_size() > 0) {
      scratches_.emplace_back(scratch, engine_, nullptr);
      scratch_bytes_ = std::max(scratch_bytes_, scratch.get_size());
      arguments[DNNL_ARG_SCRATCHPAD] = scratches_.back();
    }
    return {primitive, arguments};
  }

  OnednnCall reorder(dnnl::memory const& from, dnnl::memory const& to) {
    dnnl::reorder::primitive_desc const descriptor(engine_, from.get_desc(), engine_, to.get_desc(),
                                                   attributes_);
    return call(descriptor, dnnl::reorder(descriptor), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  }

  /// Call it once, when all calls are made.
  void share_scratchpad() {
    scratchpad_ = device::Cpu::Buffer<char>(scratch_bytes_);
    for (dnnl::memory& scratch : scratches_) scratch.set_data_handle(scratchpad_.span().data());
  }

 private:
  dnnl::engine engine_;
  dnnl::primitive_attr attributes_ = make_attributes();
  std::vector<dnnl::memory> scratches_;
  std::size_t scratch_bytes_ = 0;
  device::Cpu::Buffer<char> scratchpad_{0};
};

}  // namespace elastic::model::detail
