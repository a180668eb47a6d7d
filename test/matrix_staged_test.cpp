// SPDX-License-Identifier: Apache-2.0
// Every rule on a device with a memory of its own, over every transport between threads and processes: the cells
// that a GPU fills, on the device that stands in for one.
#include "elastic/device/thrust.hpp"
#include "matrix.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using Devices = elastic::Types<elastic::device::Thrust>;
[[maybe_unused]] bool const added = matrix::add<elastic::transport::Serial>(Devices{}) &&
                                    matrix::add<elastic::transport::Threads>(Devices{}) &&
                                    matrix::add<elastic::transport::SharedMemory>(Devices{}) &&
                                    matrix::add<elastic::transport::Tcp>(Devices{});

}  // namespace
