// SPDX-License-Identifier: Apache-2.0
// The row of the matrix that belongs to transport::Threads.
#include "matrix.hpp"
#include "support/launch_threads.hpp"

namespace {

[[maybe_unused]] bool const added = matrix::add<elastic::transport::Threads>();

}  // namespace
