// SPDX-License-Identifier: Apache-2.0
// Convolutions of CudaNet by cuDNN: one choice of algorithms a batch size, every call checked. Longer than most headers:
// the choice and the three products that it serves stand together.
#pragma once

#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/model/detail/bf16.hpp"
#include "elastic/model/detail/cudnn_objects.hpp"
#include "elastic/model/detail/device_products.hpp"
#include "elastic/model/detail/scratch.hpp"

namespace elastic::model::detail {

/// One of a ProductCore's: what PatchConvolution computes. With bf16 its results are rounded, too.
class CudnnConvolution {
 public:
  CudnnConvolution(std::shared_ptr<Cudnn const> cudnn, PlacedLayer const& placed, Conv const& conv,
                   int max_batch, CudaNetOptions const& options)
      : cudnn_(std::move(cudnn)),
        conv_(conv),
        in_(placed.in),
        out_(placed.out),
        weights_(placed.weights.count),
        precision_(options.precision) {
    auto const most = static_cast<std::size_t>(max_batch);
    bytes_ = operands(most) + (static_cast<std::size_t>(options.workspace) << 20);
    Plan const& largest = plan(most);
    bytes_ = operands(most) +
             std::max({largest.forward.memory, largest.to_weights.memory, largest.to_input.memory});
  }

  std::size_t workspace() const { return bytes_; }

  template <class Run>
  void forward(Run& run, float const* x, float const* weights, float* y, std::size_t count) {
    if (precision_ == Precision::bf16)
      forward_as<Bf16>(run, x, weights, y, count);
    else
      forward_as<float>(run, x, weights, y, count);
  }
  template <class Run>
  void weight_gradient(Run& run, float const* x, float const* dy, float* dw, std::size_t count) {
    if (precision_ == Precision::bf16)
      weight_gradient_as<Bf16>(run, x, dy, dw, count);
    else
      weight_gradient_as<float>(run, x, dy, dw, count);
  }
  template <class Run>
  void input_gradient(Run& run, float const* dy, float const* weights, float* dx, std::size_t count) {
    if (precision_ == Precision::bf16)
      input_gradient_as<Bf16>(run, dy, weights, dx, count);
    else
      input_gradient_as<float>(run, dy, weights, dx, count);
  }

 private:
  /// How one of the three products is computed.
  template <class Algorithm>
  struct Choice {
    CudnnWindows windows;
    Algorithm algorithm{};
    std::size_t memory = 0;
  };
  struct Plan {
    CudnnTensor x, y;
    CudnnFilter w;
    Choice<cudnnConvolutionFwdAlgo_t> forward;
    Choice<cudnnConvolutionBwdFilterAlgo_t> to_weights;
    Choice<cudnnConvolutionBwdDataAlgo_t> to_input;
  };

  template <class T, class Run>
  void forward_as(Run& run, float const* x, float const* weights, float* y, std::size_t count) {
    elastic::device::detail::OnDevice const here(cudnn_->device());
    Plan const& p = plan(count);
    Scratch scratch(run.workspace);
    T const* const from = factors<T>(run, scratch, x, count * in_.size());
    T const* const w = factors<T>(run, scratch, weights, weights_);
    T* const to = result<T>(scratch, y, count * out_.size());
    check(cudnnConvolutionForward(cudnn_->get(), &one, p.x.get(), from, p.w.get(), w, p.forward.windows.get(),
                                  p.forward.algorithm, scratch.take<std::byte>(p.forward.memory),
                                  p.forward.memory, &zero, p.y.get(), to),
          "cudnnConvolutionForward");
    widen(run, to, y, count * out_.size());
  }
  template <class T, class Run>
  void weight_gradient_as(Run& run, float const* x, float const* dy, float* dw, std::size_t count) {
    elastic::device::detail::OnDevice const here(cudnn_->device());
    Plan const& p = plan(count);
    Scratch scratch(run.workspace);
    T const* const from = factors<T>(run, scratch, x, count * in_.size());
    T const* const slopes = factors<T>(run, scratch, dy, count * out_.size());
    T* const to = result<T>(scratch, dw, weights_);
    check(cudnnConvolutionBackwardFilter(cudnn_->get(), &one, p.x.get(), from, p.y.get(), slopes,
                                         p.to_weights.windows.get(), p.to_weights.algorithm,
                                         scratch.take<std::byte>(p.to_weights.memory), p.to_weights.memory,
                                         &zero, p.w.get(), to),
          "cudnnConvolutionBackwardFilter");
    widen(run, to, dw, weights_);
  }
  template <class T, class Run>
  void input_gradient_as(Run& run, float const* dy, float const* weights, float* dx, std::size_t count) {
    elastic::device::detail::OnDevice const here(cudnn_->device());
    Plan const& p = plan(count);
    Scratch scratch(run.workspace);
    T const* const slopes = factors<T>(run, scratch, dy, count * out_.size());
    T const* const w = factors<T>(run, scratch, weights, weights_);
    T* const to = result<T>(scratch, dx, count * in_.size());
    check(cudnnConvolutionBackwardData(cudnn_->get(), &one, p.w.get(), w, p.y.get(), slopes,
                                       p.to_input.windows.get(), p.to_input.algorithm,
                                       scratch.take<std::byte>(p.to_input.memory), p.to_input.memory, &zero,
                                       p.x.get(), to),
          "cudnnConvolutionBackwardData");
    widen(run, to, dx, count * in_.size());
  }

  /// Where cuDNN writes `n` values that end up in `values`.
  template <class T>
  static T* result(Scratch& scratch, float* values, std::size_t n) {
    if constexpr (std::is_same_v<T, float>)
      return values;
    else
      return scratch.take<T>(n);
  }
  template <class T, class Run>
  static void widen(Run& run, T const* from, float* to, std::size_t n) {
    if constexpr (!std::is_same_v<T, float>) run.device.launch(n, Widen{from, to});
  }

  /// Bytes of all rounded operands of one product at most.
  std::size_t operands(std::size_t count) const {
    if (precision_ != Precision::bf16) return 0;
    return Scratch::room<Bf16>(count * in_.size()) + Scratch::room<Bf16>(count * out_.size()) +
           Scratch::room<Bf16>(weights_);
  }

  Plan const& plan(std::size_t count) {
    auto const found = plans_.find(count);
    return found != plans_.end() ? found->second : plans_.emplace(count, make_plan(count)).first->second;
  }

  Plan make_plan(std::size_t count) const {
    elastic::device::detail::OnDevice const here(cudnn_->device());
    cudnnHandle_t const handle = cudnn_->get();
    std::size_t const most = bytes_ - operands(count);
    CudnnTensor x = tensor(in_, count), y = tensor(out_, count);
    CudnnFilter w(cudnnCreateFilterDescriptor, cudnn_->device(), "cudnnCreateFilterDescriptor");
    check(cudnnSetFilter4dDescriptor(w.get(), type(), CUDNN_TENSOR_NCHW, conv_.channels,
                                     in_.channels / conv_.groups, conv_.kernel, conv_.kernel),
          "cudnnSetFilter4dDescriptor");
    auto forward =
        choose<cudnnConvolutionFwdAlgoPerf_t>(most, [&](auto windows, int asked, int* n, auto* found) {
          check(cudnnGetConvolutionForwardAlgorithm_v7(handle, x.get(), w.get(), windows, y.get(), asked, n,
                                                       found),
                "cudnnGetConvolutionForwardAlgorithm_v7");
        });
    auto to_weights =
        choose<cudnnConvolutionBwdFilterAlgoPerf_t>(most, [&](auto windows, int asked, int* n, auto* found) {
          check(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, x.get(), y.get(), windows, w.get(),
                                                              asked, n, found),
                "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
        });
    auto to_input =
        choose<cudnnConvolutionBwdDataAlgoPerf_t>(most, [&](auto windows, int asked, int* n, auto* found) {
          check(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, w.get(), y.get(), windows, x.get(), asked,
                                                            n, found),
                "cudnnGetConvolutionBackwardDataAlgorithm_v7");
        });
    return {std::move(x),       std::move(y),          std::move(w),
            std::move(forward), std::move(to_weights), std::move(to_input)};
  }

  /// The fastest algorithm, by cuDNN's own estimate, that yields the same bits each time and works in `most` bytes;
  /// without such a one, the fastest that works in them.
  template <class Performance, class Ask>
  Choice<decltype(Performance::algo)> choose(std::size_t most, Ask ask) const {
    Choice<decltype(Performance::algo)> choice{windows()};
    std::array<Performance, 16> found{};
    int n = 0;
    ask(choice.windows.get(), static_cast<int>(found.size()), &n, found.data());
    for (bool const deterministic : {true, false}) {
      for (int i = 0; i < n; ++i) {
        Performance const& each = found[static_cast<std::size_t>(i)];
        if (each.status != CUDNN_STATUS_SUCCESS || each.memory > most) continue;
        if (deterministic && each.determinism != CUDNN_DETERMINISTIC) continue;
        choice.algorithm = each.algo;
        choice.memory = each.memory;
        if (precision_ != Precision::float32)
          check(cudnnSetConvolutionMathType(choice.windows.get(), each.mathType),
                "cudnnSetConvolutionMathType");
        return choice;
      }
    }
    throw ConfigError("cuDNN has no algorithm for a convolution of " + to_string(in_) + " to " +
                      to_string(out_) + " that works in " + std::to_string(most >> 20) +
                      " MiB; set workspace higher, or use_cudnn to never");
  }

  CudnnWindows windows() const {
    CudnnWindows descriptor(cudnnCreateConvolutionDescriptor, cudnn_->device(),
                            "cudnnCreateConvolutionDescriptor");
    check(cudnnSetConvolution2dDescriptor(descriptor.get(), conv_.pad, conv_.pad, conv_.stride, conv_.stride,
                                          1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
          "cudnnSetConvolution2dDescriptor");
    check(cudnnSetConvolutionGroupCount(descriptor.get(), conv_.groups), "cudnnSetConvolutionGroupCount");
    check(cudnnSetConvolutionMathType(descriptor.get(), math()), "cudnnSetConvolutionMathType");
    return descriptor;
  }

  CudnnTensor tensor(Shape shape, std::size_t count) const {
    CudnnTensor descriptor(cudnnCreateTensorDescriptor, cudnn_->device(), "cudnnCreateTensorDescriptor");
    check(cudnnSetTensor4dDescriptor(descriptor.get(), CUDNN_TENSOR_NCHW, type(), static_cast<int>(count),
                                     shape.channels, shape.height, shape.width),
          "cudnnSetTensor4dDescriptor");
    return descriptor;
  }

  /// Which arithmetic cuDNN may choose from: its default for floats is TF32.
  cudnnMathType_t math() const {
    if (precision_ == Precision::bf16) return CUDNN_TENSOR_OP_MATH;
    return precision_ == Precision::tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
  }
  cudnnDataType_t type() const {
    return precision_ == Precision::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  }
  void check(cudnnStatus_t status, std::string_view call, char const* file = __builtin_FILE(),
             int line = __builtin_LINE()) const {
    check_cudnn(status, cudnn_->device(), call, file, line);
  }

  static constexpr float one = 1, zero = 0;

  std::shared_ptr<Cudnn const> cudnn_;
  Conv conv_;
  Shape in_, out_;
  std::size_t weights_;
  Precision precision_;
  std::size_t bytes_ = 0;
  std::map<std::size_t, Plan> plans_;  // by batch size
};

}  // namespace elastic::model::detail
