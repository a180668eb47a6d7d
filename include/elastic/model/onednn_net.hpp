// SPDX-License-Identifier: Apache-2.0
// Nets on oneDNN: its own blocked layouts from layer to layer, reorders only for weights and at the ends.
#pragma once

#include <cstddef>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/net.hpp"
#include "elastic/model/onednn_layers.hpp"
#include "elastic/model/onednn_program.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// The Engine of OnednnNet, on `threads` threads whatever OMP_NUM_THREADS says.
///
/// Each batch size that occurs costs one compilation (milliseconds) and memory of its own, kept for the next
/// batch of that size; training and evaluation count separately. Throws Error where oneDNN refuses.
class OnednnEngine {
 public:
  OnednnEngine(Architecture const& architecture, int max_batch, Span<float const> parameters,
               Span<float> gradients, int threads)
      : threads_(threads),
        layers_(architecture.layers()),
        input_(architecture.input()),
        parameters_(parameters),
        gradients_(gradients),
        moments_(make_moments(architecture)) {
    program(max_batch, true);  // the first step is as fast as the others, and what cannot be fails here
  }

  std::span<float> forward(Pass pass, Batch const& batch, Generator& random) {
    current_ = &program(batch.count, pass != Pass::evaluate);
    return on_threads([&] { return current_->forward(pass, batch, random); });
  }

  void backward() {
    on_threads([this] { current_->backward(); });
  }

  double auxiliary_loss() const { return current_->auxiliary_loss(); }
  std::span<Moments> moments() { return moments_; }

 private:
  detail::OnednnProgram& program(int count, bool trains) {
    auto const found = programs_.find({count, trains});
    if (found != programs_.end()) return found->second;
    return on_threads([&]() -> detail::OnednnProgram& {
      return programs_
          .try_emplace({count, trains}, layers_, input_, count, trains, parameters_, gradients_, moments(),
                       engine_)
          .first->second;
    });
  }

  template <class F>
  std::invoke_result_t<F> on_threads(F f) {
    detail::OpenMpThreads const guard(threads_);
    try {
      return f();
    } catch (dnnl::error const& error) {
      throw Error(std::string("oneDNN: ") + error.what());
    }
  }

  int threads_;
  std::vector<PlacedLayer> layers_;
  Shape input_;
  Span<float const> parameters_;
  Span<float> gradients_;
  std::vector<Moments> moments_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::map<std::pair<int, bool>, detail::OnednnProgram> programs_;
  detail::OnednnProgram* current_ = nullptr;
};

/// A net on oneDNN: OnednnNet(architecture, max_batch, seed).
///
/// No signal handler may run on the stack of a thread that computes with it: oneDNN 2.6's generated code keeps values
/// below the stack pointer that a handler overwrites. Block the signals there and wait for them in a thread of their
/// own (samples/kit/program.cpp), or give the handler a stack of its own (sigaltstack).
using OnednnNet = Net<OnednnEngine>;

}  // namespace elastic::model
