// SPDX-License-Identifier: Apache-2.0
// Rules that are the same algorithm under some condition, over transport::Tcp.
#include "exact/equivalence.hpp"
#include "support/launch_tcp.hpp"

namespace {

[[maybe_unused]] bool const added = exact::add_equivalence_cases<elastic::transport::Tcp>();

}  // namespace
