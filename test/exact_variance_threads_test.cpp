// SPDX-License-Identifier: Apache-2.0
// Closed forms of EASGD's mean, variance and bounds of stability, over ranks that are threads.
// timeout: 300
#include "exact/stability.hpp"
#include "exact/transients.hpp"
#include "exact/variance.hpp"
#include "support/launch_serial.hpp"
#include "support/launch_threads.hpp"

namespace {

using Net = elastic::transport::Threads;
[[maybe_unused]] bool const added = exact::add_variance_cases<Net>() &&
                                    exact::add_asynchronous_variance_cases<Net>() &&
                                    exact::add_transient_cases<Net>() && exact::add_stability_cases<Net>() &&
                                    exact::add_asynchronous_stability_cases<Net>() &&
                                    exact::add_stability_cases<elastic::transport::Serial>();

TEST_CASE("the moments of random arrivals average to the golden values") {
  exact::moments_of_random_arrivals();
}
TEST_CASE("without curvature every bound is 2 / (p + 1)") { exact::bound_without_curvature(); }

}  // namespace
