// SPDX-License-Identifier: Apache-2.0
// What exchanges keep, and what they move, over transport::Tcp.
#include "exact/conservation.hpp"
#include "exact/traffic.hpp"
#include "support/launch_tcp.hpp"

namespace {

using Net = elastic::transport::Tcp;
[[maybe_unused]] bool const added = exact::add_conservation_cases<Net>() &&
                                    exact::add_delivery_cases<Net>() && exact::add_traffic_cases<Net>();

}  // namespace
