// SPDX-License-Identifier: Apache-2.0
// The devices that need no GPU do what the contract of a device says.
#include "conformance/device.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/device/thrust.hpp"

namespace {

using elastic::device::Cpu;
using elastic::device::Thrust;
static_assert(elastic::Device<Cpu> && !elastic::OwnMemory<Cpu>);
static_assert(elastic::Device<Thrust> && elastic::OwnMemory<Thrust>);

TEST_CASE("cpu: the contract of a device") { conformance::device<Cpu>(); }
TEST_CASE("thrust: the contract of a device") { conformance::device<Thrust>(); }

}  // namespace
