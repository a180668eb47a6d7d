// SPDX-License-Identifier: Apache-2.0
// Every rule on a GPU, over every transport that tests can start by themselves. (MPI's cells: samples/cifar10 under mpirun.)
// timeout: 300
#include "elastic/device/cuda.cuh"
#include "matrix.hpp"
#include "support/gpu.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using Devices = elastic::Types<elastic::device::Cuda>;
[[maybe_unused]] bool const added = matrix::add<elastic::transport::Serial>(Devices{}) &&
                                    matrix::add<elastic::transport::Threads>(Devices{}) &&
                                    matrix::add<elastic::transport::SharedMemory>(Devices{}) &&
                                    matrix::add<elastic::transport::Tcp>(Devices{});

}  // namespace
