// SPDX-License-Identifier: Apache-2.0
// The row of the matrix that belongs to transport::SharedMemory.
#include "matrix.hpp"
#include "support/launch_shared_memory.hpp"

namespace {

[[maybe_unused]] bool const added = matrix::add<elastic::transport::SharedMemory>();

}  // namespace
