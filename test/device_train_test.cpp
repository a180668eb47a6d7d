// SPDX-License-Identifier: Apache-2.0
// A rule trains a net that lives on a device; apart from what the net computes, since a Trainer has threads.
#include "elastic/device/thrust.hpp"
#include "elastic/model/detail/host_kit.hpp"
#include "elastic/model/device_net.hpp"
#include "support/catch.hpp"
#include "support/train_checks.hpp"

TEST_CASE("device net: a rule trains it", "[model]") {
  using namespace elastic;
  using Net = model::DeviceNet<device::Thrust, model::detail::HostKit>;
  for (auto const precision : {model::Precision::float32, model::Precision::bf16})
    test::check_trains<Net>(device::Thrust(), {.precision = precision});
}
