// SPDX-License-Identifier: Apache-2.0
// Products of row-major matrices as a BLAS is asked for them, who knows only column-major ones: whoever runs a
// GemmCall, a GPU's BLAS or the host, gets the same arguments.
#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "elastic/error.hpp"

namespace elastic::model::detail {

/// Row-major matrices of one shape: rows are `row` values apart, the matrices `next` values.
template <class T>
struct Matrices {
  T* data;
  std::size_t row;
  std::size_t next = 0;
  bool transposed = false;  // stored with rows for columns
};

/// C = op(A) op(B) for `batch` column-major products, as in cublasGemmStridedBatchedEx with alpha = 1, beta = 0:
/// op(A) is m x k, op(B) k x n, C m x n; columns are ld values apart, matrices stride values.
template <class T>
struct GemmCall {
  bool transpose_a, transpose_b;
  int m, n, k;
  T const* a;
  int lda;
  long long stride_a;
  T const* b;
  int ldb;
  long long stride_b;
  float* c;
  int ldc;
  long long stride_c;
  int batch;
};

inline int blas_int(std::size_t value) {
  if (value > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw ConfigError("a matrix product has a side of " + std::to_string(value) +
                      "; BLAS takes up to 2147483647: use smaller batches");
  return static_cast<int>(value);
}

/// c = a b, row-major: a is m x k, b is k x n, c is m x n. A row-major matrix is its transpose column-major, and
/// c' = b' a'.
template <class T>
GemmCall<T> column_major(std::size_t batch, std::size_t m, std::size_t n, std::size_t k, Matrices<T const> a,
                         Matrices<T const> b, Matrices<float> c) {
  return {.transpose_a = b.transposed,
          .transpose_b = a.transposed,
          .m = blas_int(n),
          .n = blas_int(m),
          .k = blas_int(k),
          .a = b.data,
          .lda = blas_int(b.row),
          .stride_a = static_cast<long long>(b.next),
          .b = a.data,
          .ldb = blas_int(a.row),
          .stride_b = static_cast<long long>(a.next),
          .c = c.data,
          .ldc = blas_int(c.row),
          .stride_c = static_cast<long long>(c.next),
          .batch = blas_int(batch)};
}

}  // namespace elastic::model::detail
