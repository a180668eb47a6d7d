// SPDX-License-Identifier: Apache-2.0
// Included by tests that need a GPU: where there is none the program says so and ends before its first test.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

namespace support {

[[maybe_unused]] inline bool const has_gpu = [] {
  int devices = 0;
  cudaError_t const status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return true;
  std::printf("skipped: no GPU: cudaGetDeviceCount: %s, %d devices\n", cudaGetErrorString(status), devices);
  std::fflush(stdout);
  std::_Exit(0);
}();

}  // namespace support
