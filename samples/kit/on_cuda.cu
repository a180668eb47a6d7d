// SPDX-License-Identifier: Apache-2.0
// Parts that are played on a GPU.
#include "elastic/device/cuda.cuh"
#include "elastic/model/cuda_net.cuh"
#include "play.hpp"

namespace sample {

struct OnCuda {
  template <class Net>
  static elastic::device::Cuda device(Net&, Part const& part) {
    return elastic::device::Cuda(part.compute.gpu);
  }
  static elastic::model::CudaNet model(elastic::model::Architecture architecture, int max_batch,
                                       elastic::device::Cuda device, Part const& part) {
    return {std::move(architecture), max_batch, std::uint64_t(part.job.seed), device, part.compute.net};
  }
};

template <class Net, class Rule>
bool play_on_cuda(Net& net, Rule const& rule, Part const& part) {
  return play<OnCuda>(net, rule, part);
}
SAMPLE_PLAY_BETWEEN_PROCESSES(play_on_cuda)

}  // namespace sample
