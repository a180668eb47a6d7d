// SPDX-License-Identifier: Apache-2.0
// Nets on a GPU: products by cuBLAS, convolutions by cuDNN where it was found, everything else by kernels of our own.
#pragma once

#ifndef __CUDACC__
#error \
    "elastic/model/cuda_net.cuh launches kernels: compile this file as CUDA (.cu), or include elastic/model/convnet.hpp"
#endif

#include "elastic/device/cuda.cuh"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/model/detail/cuda_kit.hpp"
#include "elastic/model/device_net.hpp"

namespace elastic::model {

/// A net on a GPU: CudaNet(architecture, max_batch, seed, device, options). Its parameters start as those of the nets
/// on the CPU; docs/gpu-models.md says how far its results may differ from theirs.
using CudaNet = DeviceNet<device::Cuda, detail::CudaKit<device::Cuda>>;

}  // namespace elastic::model
