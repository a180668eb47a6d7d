// SPDX-License-Identifier: Apache-2.0
// How CudaNet computes products: by cuBLAS, convolutions by cuDNN where it was found, steps as CUDA graphs on request.
// Any compiler compiles this file.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/model/detail/cublas.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/detail/product_core.hpp"
#include "elastic/span.hpp"
#if defined(ELASTIC_HAS_CUDNN) && __has_include(<cudnn.h>)
#include "elastic/model/detail/cudnn.hpp"
#define ELASTIC_CUDA_NET_CUDNN 1
#else
#define ELASTIC_CUDA_NET_CUDNN 0
#endif

namespace elastic::model::detail {

/// The Kit of CudaNet. Dev is device::Cuda, or what stands in for it in tests.
template <class Dev>
class CudaKit {
 public:
  using Options = CudaNetOptions;
  static constexpr bool has_cudnn = ELASTIC_CUDA_NET_CUDNN;
#if ELASTIC_CUDA_NET_CUDNN
  using Core = ProductCore<CudnnConvolution>;
#else
  using Core = ProductCore<>;
#endif

  CudaKit(Dev const& device, Options const& options)
      : options_((check_options(options), options)),
        device_(device),
        uploads_(stream_on(device_.ordinal())),
        memory_(device_.template allocate<std::byte>(blas_bytes(options_))),
        blas_(device_.ordinal(), device_.stream(), options_.precision, memory_.span()) {
#if ELASTIC_CUDA_NET_CUDNN
    if (options_.use_cudnn != Use::never)
      cudnn_ = std::make_shared<Cudnn const>(device_.ordinal(), device_.stream());
#endif
  }

  Core core(Conv const& conv, PlacedLayer const& placed, int most) const {
#if ELASTIC_CUDA_NET_CUDNN
    if (cudnn_) return Core(std::in_place_type<CudnnConvolution>, cudnn_, placed, conv, most, options_);
#endif
    return product_core<Core>(conv, placed, most, options_);
  }
  Core core(Linear const& linear, PlacedLayer const& placed, int most) const {
    return product_core<Core>(linear, placed, most, options_);
  }

  template <class T>
  void multiply(GemmCall<T> const& call) const {
    blas_.multiply(call);
  }

  /// Copies to memory that no unfinished work uses, beside all such work; the device's work from here on sees it.
  elastic::device::detail::Event upload(Dev&, Span<float const> from, Span<float, typename Dev::memory> to) {
    elastic::device::detail::OnDevice const here(device_.ordinal());
    elastic::device::detail::check(cudaMemcpyAsync(to.data(), from.data(), from.size() * sizeof(float),
                                                   cudaMemcpyHostToDevice, uploads_.get()),
                                   "cudaMemcpyAsync");
    elastic::device::detail::Event copied(uploads_.get());
    copied.before(device_.stream());
    return copied;
  }

  /// Runs f(), which submits the same work to the same memory whenever `key` is the same. With the option graph: once
  /// as it is, so that libraries load what they need, once recorded, and from then on as that record.
  template <class F>
  void step(bool repeats, std::size_t key, F f) {
    if (!options_.graph || !repeats) return f();
    try {
      Recorded& recorded = records_[key];
      if (!recorded.graph && std::exchange(recorded.seen, true))
        recorded.graph = record(f);
      else if (!recorded.graph)
        return f();
      elastic::device::detail::OnDevice const here(device_.ordinal());
      elastic::device::detail::check(cudaGraphLaunch(recorded.graph.get(), device_.stream()),
                                     "cudaGraphLaunch");
    } catch (...) {
      records_.clear();  // the halves of a step are recorded together or not at all
      throw;
    }
  }

 private:
  struct Destroy {
    void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  };
  struct Finish {
    cudaStream_t stream;  // on which it may be running
    void operator()(cudaGraphExec_t graph) const {
      cudaStreamSynchronize(stream);
      cudaGraphExecDestroy(graph);
    }
  };
  using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy>;
  using ReadyGraph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Finish>;
  struct Recorded {
    bool seen = false;
    ReadyGraph graph = ReadyGraph(nullptr, Finish{});
  };

  static std::size_t blas_bytes(Options const& options) {
    return std::min<std::size_t>(32, static_cast<std::size_t>(options.workspace))
           << 20;  // NVIDIA advises 32 for Hopper
  }

  static elastic::device::detail::Stream stream_on(int ordinal) {
    elastic::device::detail::OnDevice const here(ordinal);
    return elastic::device::detail::Stream();
  }

  template <class F>
  ReadyGraph record(F& f) {
    elastic::device::detail::OnDevice const here(device_.ordinal());
    elastic::device::detail::check(cudaStreamBeginCapture(device_.stream(), cudaStreamCaptureModeThreadLocal),
                                   "cudaStreamBeginCapture");
    cudaGraph_t recorded = nullptr;
    try {
      f();
    } catch (...) {
      cudaStreamEndCapture(device_.stream(), &recorded);
      Graph const dropped(recorded);
      cudaGetLastError();
      throw;
    }
    elastic::device::detail::check(cudaStreamEndCapture(device_.stream(), &recorded), "cudaStreamEndCapture");
    Graph const graph(recorded);
    cudaGraphExec_t ready = nullptr;
    elastic::device::detail::check(cudaGraphInstantiate(&ready, graph.get(), 0), "cudaGraphInstantiate");
    return ReadyGraph(ready, Finish{device_.stream()});
  }

  Options options_;
  Dev device_;
  elastic::device::detail::Stream uploads_;
  typename Dev::template Buffer<std::byte> memory_;
  Cublas blas_;
#if ELASTIC_CUDA_NET_CUDNN
  std::shared_ptr<Cudnn const> cudnn_;
#endif
  std::map<std::size_t, Recorded> records_;
};

}  // namespace elastic::model::detail
