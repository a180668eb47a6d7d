// SPDX-License-Identifier: Apache-2.0
// The options of CudaNet, apart from it: a program that reads them need not be compiled by nvcc.
#pragma once

#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/model/precision.hpp"
#include "elastic/options.hpp"

namespace elastic::model {

/// Whether a library is used.
enum class Use {
  automatic,  ///< where it was compiled in
  never,
};
constexpr auto names(Use) {
  using namespace std::string_view_literals;
  return std::array{std::pair{"auto"sv, Use::automatic}, std::pair{"never"sv, Use::never}};
}

/// How CudaNet computes; the defaults are the most exact.
struct CudaNetOptions {
  static constexpr std::string_view name = "cuda_net";

  Precision precision = Precision::float32;
  Use use_cudnn = Use::automatic;
  bool graph = false;
  int workspace = 256;

  static constexpr auto options = std::tuple{
      Option{"precision", &CudaNetOptions::precision,
             "how products and convolutions see their factors; sums and parameters stay float32"},
      Option{"use_cudnn", &CudaNetOptions::use_cudnn,
             "convolutions by cuDNN where it was compiled in, or always as products of patches by cuBLAS"},
      Option{"graph", &CudaNetOptions::graph,
             "record the training step of each batch size as a CUDA graph the second time it occurs, and "
             "replay it"},
      Option{"workspace", &CudaNetOptions::workspace,
             "MiB of device memory that convolutions may use besides their operands, and cuBLAS up to 32 of "
             "them; one "
             "image always fits",
             1.0, 65536.0}};
};

}  // namespace elastic::model
