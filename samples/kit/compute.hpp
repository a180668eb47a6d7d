// SPDX-License-Identifier: Apache-2.0
// Where a process of the sample computes.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/model/cuda_net_options.hpp"
#include "elastic/options.hpp"
#include "elastic/transport/staged.hpp"

namespace sample {

enum class DeviceName { cpu, cuda, thrust };

constexpr auto names(DeviceName) {
  return std::array{std::pair{std::string_view("cpu"), DeviceName::cpu},
                    std::pair{std::string_view("cuda"), DeviceName::cuda},
                    std::pair{std::string_view("thrust"), DeviceName::thrust}};
}

/// Where this process computes; the processes of a job may differ.
struct Compute {
  DeviceName device = DeviceName::cpu;
  int gpu = 0;
  int threads = 1;
  elastic::transport::Use center_on_device = elastic::transport::Use::never;
  std::size_t piece_bytes = elastic::transport::StagedOptions().piece_bytes;
  elastic::model::CudaNetOptions net{};

  static constexpr auto options = std::tuple{
      elastic::Option{"device", &Compute::device,
                      "cpu; cuda: a GPU; thrust: what would run on a GPU, on the CPU, slowly"},
      elastic::Option{"gpu", &Compute::gpu, "cuda: which GPU, from 0", 0.0},
      elastic::Option{"threads", &Compute::threads, "cpu: threads that the net computes on", 1, 1024},
      elastic::Option{"center_on_device", &Compute::center_on_device,
                      "shared_memory: the center in the server's GPU memory: never, auto (if a check "
                      "with data passes), always; then no process computes on the CPU"},
      elastic::Option{"piece_bytes", &Compute::piece_bytes,
                      "sync_easgd, bsp: sums leave the GPU in pieces of so many bytes; 0, whole, where other "
                      "processes of the job compute on the CPU",
                      0.0},
  };
};

}  // namespace sample
