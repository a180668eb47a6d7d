// SPDX-License-Identifier: Apache-2.0
// device::Cuda does what the contract of a device says.
#include "conformance/device.hpp"
#include "elastic/device/cuda.cuh"
#include "support/gpu.hpp"

namespace {

using elastic::device::Cuda;
static_assert(elastic::Device<Cuda> && elastic::OwnMemory<Cuda>);

TEST_CASE("cuda: the contract of a device") { conformance::device<Cuda>(); }

TEST_CASE("cuda: a device that does not exist is refused by number") {
  CHECK_THROWS_WITH(Cuda(Cuda::count()), Catch::Matchers::ContainsSubstring(std::to_string(Cuda::count())));
}

}  // namespace
