// SPDX-License-Identifier: Apache-2.0
// The row of the matrix that belongs to transport::Tcp.
#include "matrix.hpp"
#include "support/launch_tcp.hpp"

namespace {

[[maybe_unused]] bool const added = matrix::add<elastic::transport::Tcp>();

}  // namespace
