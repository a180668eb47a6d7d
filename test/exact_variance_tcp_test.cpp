// SPDX-License-Identifier: Apache-2.0
// Closed forms of EASGD's mean, variance and bounds of stability, over transport::Tcp.
// timeout: 300
#include "exact/stability.hpp"
#include "exact/transients.hpp"
#include "exact/variance.hpp"
#include "support/launch_tcp.hpp"

namespace {

using Net = elastic::transport::Tcp;
[[maybe_unused]] bool const added = exact::add_variance_cases<Net>() &&
                                    exact::add_asynchronous_variance_cases<Net>() &&
                                    exact::add_transient_cases<Net>() && exact::add_stability_cases<Net>() &&
                                    exact::add_asynchronous_stability_cases<Net>();

}  // namespace
