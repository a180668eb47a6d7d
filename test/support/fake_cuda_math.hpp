// SPDX-License-Identifier: Apache-2.0
// Stands in for a GPU and for the functions of the CUDA runtime, cuBLAS and cuDNN that CudaNet's products call: plain
// loops by their documentation, work that is recorded while a stream is. Included by one source of a program.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/device/thrust.hpp"
#include "elastic/model/detail/bf16.hpp"

namespace fake {

using Calls = std::vector<std::function<void()>>;
inline Calls* recorded = nullptr;  // while a stream is being recorded
inline int replays = 0;
inline int cublas_fails_in = 0, cudnn_fails_in = 0;  // at the n-th product from now; 0: never
inline bool fails(int& in) { return in > 0 && --in == 0; }

template <class F>
void submit(F f) {
  recorded != nullptr ? recorded->push_back(f) : f();
}

/// device::Thrust, whose work can be recorded.
class Cuda : public elastic::device::Thrust {
 public:
  using Ticket = elastic::device::detail::Event;
  int ordinal() const { return 0; }
  cudaStream_t stream() const { return nullptr; }

  template <class F>
  void launch(std::size_t n, F f) {
    submit([=] { Thrust().launch(n, f); });
  }
  template <class F, class T, class... Ts>
  void for_each(F f, elastic::Span<T, memory> y, elastic::Span<Ts, memory>... x) {
    submit([=] { Thrust().for_each(f, y, x...); });
  }
  template <class Sum, class Term, class Out>
  void sum_rows(std::size_t rows, std::size_t columns, Term term, Out out) {
    submit([=] { Thrust().template sum_rows<Sum>(rows, columns, term, out); });
  }
  template <class From, class T>
  Ticket start_download(elastic::Span<From, memory> from, elastic::Span<T> to) {
    if (recorded != nullptr) throw std::logic_error("a copy to the host while a stream is recorded");
    download(from, to);
    return {};
  }
  Ticket mark() { return {}; }
};

/// A value as `type` that a tensor core sees in TF32 if `rounds`.
inline float load(void const* data, bool is_bf16, std::size_t i, bool rounds = false) {
  using namespace elastic::model::detail;
  if (is_bf16) return static_cast<float>(static_cast<Bf16 const*>(data)[i]);
  float const value = static_cast<float const*>(data)[i];
  return rounds ? tf32(value) : value;
}
inline void store(void* data, bool is_bf16, std::size_t i, double value) {
  using namespace elastic::model::detail;
  if (is_bf16)
    static_cast<Bf16*>(data)[i] = Bf16(static_cast<float>(value));
  else
    static_cast<float*>(data)[i] = static_cast<float>(value);
}

inline cublasStatus_t multiply(bool ta, bool tb, int m, int n, int k, void const* a, cudaDataType type,
                               int lda, long long stride_a, void const* b, int ldb, long long stride_b,
                               float* c, int ldc, long long stride_c, int batch, bool rounds) {
  if (fails(cublas_fails_in)) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (m < 1 || n < 1 || k < 1 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || batch < 1 ||
      (type != CUDA_R_32F && type != CUDA_R_16BF))
    return CUBLAS_STATUS_INVALID_VALUE;
  submit([=] {
    bool const is_bf16 = type == CUDA_R_16BF;
    for (long long i = 0; i < batch; ++i)
      for (long long column = 0; column < n; ++column)
        for (long long row = 0; row < m; ++row) {
          double sum = 0;
          for (long long j = 0; j < k; ++j) {
            auto const at_a = std::size_t(i * stride_a + (ta ? row * lda + j : j * lda + row));
            auto const at_b = std::size_t(i * stride_b + (tb ? j * ldb + column : column * ldb + j));
            sum += double(load(a, is_bf16, at_a, rounds)) * double(load(b, is_bf16, at_b, rounds));
          }
          c[i * stride_c + column * ldc + row] = static_cast<float>(sum);
        }
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace fake

struct CUgraph_st {
  fake::Calls calls;
};
struct CUgraphExec_st {
  fake::Calls calls;
};
struct CUstream_st {};
struct CUevent_st {};
struct cublasContext {
  bool has_workspace = false;
};
struct cudnnContext {};
struct cudnnTensorStruct {
  bool is_bf16;
  int n, c, h, w;
};
struct cudnnFilterStruct {
  bool is_bf16;
  int k, c, h, w;
};
struct cudnnConvolutionStruct {
  int pad, stride, groups;
  cudnnMathType_t math;
};

namespace fake {

inline constexpr std::size_t scratch_bytes = 1000;  // what the algorithm that is to be chosen works in

/// Three algorithms: the first has other bits each time, the second works in too much memory.
template <class Performance>
cudnnStatus_t advise(int asked, int* n, Performance* found, cudnnConvolutionDescriptor_t windows) {
  if (asked < 3) return CUDNN_STATUS_BAD_PARAM;
  *n = 3;
  for (int i = 0; i < 3; ++i) {
    found[i] = {};
    found[i].algo = static_cast<decltype(found[i].algo)>(i);
    found[i].status = CUDNN_STATUS_SUCCESS;
    found[i].memory = i == 1 ? std::size_t(1) << 60 : std::size_t(i) * scratch_bytes / 2;
    found[i].determinism = i == 0 ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC;
    found[i].mathType = windows->math;
  }
  return CUDNN_STATUS_SUCCESS;
}

/// f(x index, w index, y index) for every product of a convolution.
template <class F>
cudnnStatus_t convolve(cudnnTensorDescriptor_t xd, cudnnFilterDescriptor_t wd,
                       cudnnConvolutionDescriptor_t cd, cudnnTensorDescriptor_t yd, int algorithm,
                       void* scratch, std::size_t bytes, float const* alpha, float const* beta, void* out,
                       bool is_bf16, std::size_t values, F f) {
  if (fails(cudnn_fails_in)) return CUDNN_STATUS_EXECUTION_FAILED;
  auto const x = *xd, y = *yd;
  auto const w = *wd;
  auto const c = *cd;
  auto const side = [&](int in, int kernel) { return (in + 2 * c.pad - kernel) / c.stride + 1; };
  if (algorithm != 2 || bytes < scratch_bytes || *alpha != 1 || *beta != 0 || x.n != y.n || w.k != y.c ||
      w.c * c.groups != x.c || y.h != side(x.h, w.h) || y.w != side(x.w, w.w) || x.is_bf16 != y.is_bf16 ||
      x.is_bf16 != w.is_bf16)
    return CUDNN_STATUS_BAD_PARAM;
  submit([=] {
    std::memset(scratch, 0x7f, bytes);  // whoever keeps a value here will notice
    std::vector<double> sums(values);
    int const outputs = y.c / c.groups;
    for (int n = 0; n < y.n; ++n)
      for (int o = 0; o < y.c; ++o)
        for (int i = 0; i < w.c; ++i)
          for (int ky = 0; ky < w.h; ++ky)
            for (int kx = 0; kx < w.w; ++kx)
              for (int oy = 0; oy < y.h; ++oy)
                for (int ox = 0; ox < y.w; ++ox) {
                  int const row = oy * c.stride - c.pad + ky, column = ox * c.stride - c.pad + kx;
                  if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
                  int const channel = o / outputs * w.c + i;
                  f(sums, std::size_t(((n * x.c + channel) * x.h + row) * x.w + column),
                    std::size_t(((o * w.c + i) * w.h + ky) * w.w + kx),
                    std::size_t(((n * y.c + o) * y.h + oy) * y.w + ox));
                }
    for (std::size_t i = 0; i < values; ++i) store(out, is_bf16, i, sums[i]);
  });
  return CUDNN_STATUS_SUCCESS;
}

template <class T>
std::size_t size(T const* d) {
  if constexpr (std::is_same_v<T, cudnnFilterStruct>)
    return std::size_t(d->k) * std::size_t(d->c) * std::size_t(d->h) * std::size_t(d->w);
  else
    return std::size_t(d->n) * std::size_t(d->c) * std::size_t(d->h) * std::size_t(d->w);
}

/// The product of two factors, each rounded as the math type says.
struct Product {
  void const *a, *b;
  bool is_bf16, rounds;
  Product(void const* left, void const* right, bool short_floats, cudnnConvolutionDescriptor_t c)
      : a(left), b(right), is_bf16(short_floats), rounds(c->math != CUDNN_FMA_MATH) {}
  double operator()(std::size_t i, std::size_t j) const {
    return double(load(a, is_bf16, i, rounds)) * double(load(b, is_bf16, j, rounds));
  }
};

}  // namespace fake

extern "C" {

cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new CUstream_st, cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (fake::recorded != nullptr) return cudaErrorStreamCaptureUnsupported;
  return std::memcpy(to, from, bytes), cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return fake::recorded = new fake::Calls, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = new CUgraph_st{*fake::recorded};
  delete fake::recorded;
  return fake::recorded = nullptr, cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  return *ready = new CUgraphExec_st{graph->calls}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (auto const& call : graph->calls) call();
  return ++fake::replays, cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  return *handle = new cublasContext, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) { return delete handle, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t) {
  return handle->has_workspace = false, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void*, std::size_t) {
  return handle->has_workspace = true, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t) { return CUBLAS_STATUS_SUCCESS; }
char const* cublasGetStatusString(cublasStatus_t) { return "the status of a fake"; }
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                                          int m, int n, int k, void const* alpha, void const* a,
                                          cudaDataType a_type, int lda, long long stride_a, void const* b,
                                          cudaDataType b_type, int ldb, long long stride_b, void const* beta,
                                          void* c, cudaDataType c_type, int ldc, long long stride_c,
                                          int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (a_type != b_type || c_type != CUDA_R_32F || !handle->has_workspace ||
      *static_cast<float const*>(alpha) != 1 || *static_cast<float const*>(beta) != 0)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return fake::multiply(ta == CUBLAS_OP_T, tb == CUBLAS_OP_T, m, n, k, a, a_type, lda, stride_a, b, ldb,
                        stride_b, static_cast<float*>(c), ldc, stride_c, batch,
                        compute == CUBLAS_COMPUTE_32F_FAST_TF32);
}
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                            int k, void const* alpha, void const* a, cudaDataType a_type, int lda,
                            void const* b, cudaDataType b_type, int ldb, void const* beta, void* c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0,
                                    beta, c, c_type, ldc, 0, 1, compute, algorithm);
}

char const* cudnnGetErrorString(cudnnStatus_t) { return "the status of a fake"; }
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return *handle = new cudnnContext, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return delete handle, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) {
  return *d = new cudnnTensorStruct{}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) {
  return delete d, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NCHW) return CUDNN_STATUS_NOT_SUPPORTED;
  return *d = {type == CUDNN_DATA_BFLOAT16, n, c, h, w}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) {
  return *d = new cudnnFilterStruct{}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) {
  return delete d, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NCHW) return CUDNN_STATUS_NOT_SUPPORTED;
  return *d = {type == CUDNN_DATA_BFLOAT16, k, c, h, w}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) {
  return *d = new cudnnConvolutionStruct{0, 1, 1, CUDNN_DEFAULT_MATH}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) {
  return delete d, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int u,
                                              int v, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t type) {
  if (pad_h != pad_w || u != v || dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION ||
      type != CUDNN_DATA_FLOAT)
    return CUDNN_STATUS_NOT_SUPPORTED;
  return d->pad = pad_h, d->stride = u, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
  return d->groups = groups, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  return d->math = math, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t,
                                                     cudnnFilterDescriptor_t, cudnnConvolutionDescriptor_t c,
                                                     cudnnTensorDescriptor_t, int asked, int* n,
                                                     cudnnConvolutionFwdAlgoPerf_t* found) {
  return fake::advise(asked, n, found, c);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t,
                                                          cudnnTensorDescriptor_t,
                                                          cudnnConvolutionDescriptor_t c,
                                                          cudnnTensorDescriptor_t, int asked, int* n,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* found) {
  return fake::advise(asked, n, found, c);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t,
                                                            cudnnTensorDescriptor_t,
                                                            cudnnConvolutionDescriptor_t c,
                                                            cudnnFilterDescriptor_t, int asked, int* n,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* found) {
  return fake::advise(asked, n, found, c);
}
cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, void const* alpha, cudnnTensorDescriptor_t xd,
                                      void const* x, cudnnFilterDescriptor_t wd, void const* w,
                                      cudnnConvolutionDescriptor_t c, cudnnConvolutionFwdAlgo_t algorithm,
                                      void* scratch, std::size_t bytes, void const* beta,
                                      cudnnTensorDescriptor_t yd, void* y) {
  fake::Product const product(x, w, xd->is_bf16, c);
  return fake::convolve(
      xd, wd, c, yd, algorithm, scratch, bytes, static_cast<float const*>(alpha),
      static_cast<float const*>(beta), y, yd->is_bf16, fake::size(yd),
      [product](auto& sums, std::size_t i, std::size_t j, std::size_t o) { sums[o] += product(i, j); });
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, void const* alpha, cudnnFilterDescriptor_t wd,
                                           void const* w, cudnnTensorDescriptor_t yd, void const* dy,
                                           cudnnConvolutionDescriptor_t c,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* scratch,
                                           std::size_t bytes, void const* beta, cudnnTensorDescriptor_t xd,
                                           void* dx) {
  fake::Product const product(w, dy, xd->is_bf16, c);
  return fake::convolve(
      xd, wd, c, yd, algorithm, scratch, bytes, static_cast<float const*>(alpha),
      static_cast<float const*>(beta), dx, xd->is_bf16, fake::size(xd),
      [product](auto& sums, std::size_t i, std::size_t j, std::size_t o) { sums[i] += product(j, o); });
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, void const* alpha, cudnnTensorDescriptor_t xd,
                                             void const* x, cudnnTensorDescriptor_t yd, void const* dy,
                                             cudnnConvolutionDescriptor_t c,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* scratch,
                                             std::size_t bytes, void const* beta, cudnnFilterDescriptor_t wd,
                                             void* dw) {
  fake::Product const product(x, dy, xd->is_bf16, c);
  return fake::convolve(
      xd, wd, c, yd, algorithm, scratch, bytes, static_cast<float const*>(alpha),
      static_cast<float const*>(beta), dw, wd->is_bf16, fake::size(wd),
      [product](auto& sums, std::size_t i, std::size_t j, std::size_t o) { sums[j] += product(i, o); });
}

}  // extern "C"
