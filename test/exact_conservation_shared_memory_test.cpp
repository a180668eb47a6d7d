// SPDX-License-Identifier: Apache-2.0
// What exchanges keep, and what they move, over transport::SharedMemory.
#include "exact/conservation.hpp"
#include "exact/traffic.hpp"
#include "support/launch_shared_memory.hpp"

namespace {

using Net = elastic::transport::SharedMemory;
[[maybe_unused]] bool const added = exact::add_conservation_cases<Net>() &&
                                    exact::add_delivery_cases<Net>() && exact::add_traffic_cases<Net>();

}  // namespace
