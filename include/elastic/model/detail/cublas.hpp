// SPDX-License-Identifier: Apache-2.0
// cuBLAS as the products of CudaNet use it: one handle a net, on its device's stream, every call checked.
#pragma once

#include <cublas_v2.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"
#include "elastic/model/detail/bf16.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/precision.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

inline void check_cublas(cublasStatus_t status, int device, std::string_view call,
                         char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string(call) + " at " + elastic::device::detail::place_of(file, line) +
                    " on device " + std::to_string(device) + ": " + cublasGetStatusString(status));
}

/// A handle. `memory`, which outlives it, is what cuBLAS works in: without it, it would allocate some of its own when
/// a stream is recorded, and sum in another order when several handles share a stream.
class Cublas {
 public:
  template <class Memory>
  Cublas(int device, cudaStream_t stream, Precision precision, Span<std::byte, Memory> memory)
      : device_(device), precision_(precision) {
    elastic::device::detail::OnDevice const here(device_);
    cublasHandle_t handle = nullptr;
    check_cublas(cublasCreate(&handle), device_, "cublasCreate");
    handle_.reset(handle);
    check_cublas(cublasSetStream(handle, stream), device_,
                 "cublasSetStream");  // forgets the workspace: comes first
    check_cublas(cublasSetWorkspace(handle, memory.data(), memory.size()), device_, "cublasSetWorkspace");
    check_cublas(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST), device_, "cublasSetPointerMode");
  }

  template <class T>
  void multiply(GemmCall<T> const& call) const {
    elastic::device::detail::OnDevice const here(device_);
    constexpr cudaDataType type = std::is_same_v<T, Bf16> ? CUDA_R_16BF : CUDA_R_32F;
    bool const tensor = std::is_same_v<T, float> && precision_ == Precision::tf32;
    cublasComputeType_t const compute = tensor ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasOperation_t const op_a = call.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t const op_b = call.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    float const one = 1, zero = 0;
    if (call.batch == 1) {
      check_cublas(cublasGemmEx(handle_.get(), op_a, op_b, call.m, call.n, call.k, &one, call.a, type,
                                call.lda, call.b, type, call.ldb, &zero, call.c, CUDA_R_32F, call.ldc,
                                compute, CUBLAS_GEMM_DEFAULT),
                   device_, "cublasGemmEx");
    } else {
      check_cublas(cublasGemmStridedBatchedEx(handle_.get(), op_a, op_b, call.m, call.n, call.k, &one, call.a,
                                              type, call.lda, call.stride_a, call.b, type, call.ldb,
                                              call.stride_b, &zero, call.c, CUDA_R_32F, call.ldc,
                                              call.stride_c, call.batch, compute, CUBLAS_GEMM_DEFAULT),
                   device_, "cublasGemmStridedBatchedEx");
    }
  }

 private:
  struct Destroy {
    void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
  };
  int device_;
  Precision precision_;
  std::unique_ptr<std::remove_pointer_t<cublasHandle_t>, Destroy> handle_;
};

}  // namespace elastic::model::detail
