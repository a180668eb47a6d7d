// SPDX-License-Identifier: Apache-2.0
// Products of DeviceNet where there is no GPU: Eigen takes the arguments that cuBLAS would get, and rounds factors
// as its tensor cores would, so that what is asked of a GPU is tested without one.
#pragma once

#include <cstddef>

#include "elastic/model/architecture.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/model/detail/gemm.hpp"
#include "elastic/model/detail/product_core.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

/// The Kit of DeviceNet<device::Thrust, HostKit>; use_cudnn and graph mean nothing here.
class HostKit {
 public:
  using Options = CudaNetOptions;
  using Core = ProductCore<>;

  template <class Dev>
  HostKit(Dev&, Options const& options) : options_(options) {
    check_options(options);
  }

  template <class Kind>
  Core core(Kind const& kind, PlacedLayer const& placed, int most) const {
    return product_core<Core>(kind, placed, most, options_);
  }

  template <class T>
  void multiply(GemmCall<T> const& call) const {
    for (int i = 0; i < call.batch; ++i) {
      auto const a = factor(call.a + i * call.stride_a, call.lda, call.m, call.k, call.transpose_a);
      auto const b = factor(call.b + i * call.stride_b, call.ldb, call.k, call.n, call.transpose_b);
      Columns(call.c + i * call.stride_c, call.m, call.n, Eigen::OuterStride<>(call.ldc)).noalias() = a * b;
    }
  }

  /// Copies to memory that no unfinished work uses; the device's work from here on sees it.
  template <class Dev, class View>
  auto upload(Dev& device, Span<float const> from, View to) const {
    return device.start_upload(from, to);
  }

  /// Runs what may be recorded and replayed under `key`.
  template <class F>
  void step(bool, std::size_t, F f) const {
    f();
  }

 private:
  /// op(A), rows x columns, of a column-major A.
  template <class T>
  Eigen::MatrixXf factor(T const* data, int ld, int rows, int columns, bool transposed) const {
    Eigen::MatrixXf values(rows, columns);
    for (Index j = 0; j < columns; ++j)
      for (Index i = 0; i < rows; ++i) {
        auto const value = static_cast<float>(transposed ? data[i * ld + j] : data[j * ld + i]);
        values(i, j) = options_.precision == Precision::tf32 ? tf32(value) : value;
      }
    return values;
  }

  Options options_;
};

}  // namespace elastic::model::detail
