// SPDX-License-Identifier: Apache-2.0
// The kernels of the rules' operations, for cmake/check_kernels.cmake to look at what the compiler makes of them. A line
// that ends in `// <loads> <stores>` says how many 16-byte loads of global memory its kernel has, all of them before the
// first of its 16-byte stores. An operand that is only read has no store, also where its view is mutable.
#include "elastic/device/detail/cuda_kernels.cuh"
#include "elastic/optimizer/sgd.hpp"

namespace elastic::device::detail {

namespace rule = elastic::ops;
namespace step = elastic::optimizer::ops;

#define ELEMENTWISE(F, T, ...) \
  template __global__ void for_each<T>(std::size_t, std::size_t, std::size_t, F, __VA_ARGS__);
#define EXCHANGE(Move, Add, T) \
  template __global__ void exchange<T>(std::size_t, bool, Move, Add, T*, T*, T*, T, unsigned*);

// packs_in_flight = 4 loads of each operand, but none of what is overwritten
// clang-format off
ELEMENTWISE(rule::Fill, float, float*)  // 0 4
ELEMENTWISE(rule::Scale, float, float*)  // 4 4
ELEMENTWISE(rule::Add, float, float*, float const*)  // 8 4
ELEMENTWISE(rule::Add, float, float*, float*)  // 8 4
ELEMENTWISE(rule::Add, double, double*, double const*)  // 8 4
ELEMENTWISE(rule::Subtract, float, float*, float const*)  // 8 4
ELEMENTWISE(rule::AddScaled, float, float*, float const*)  // 8 4
ELEMENTWISE(rule::Stretch, float, float*, float const*, float const*)  // 8 4
ELEMENTWISE(rule::Stretch, float, float*, float*, float*)  // 8 4
ELEMENTWISE(rule::Retract, float, float*, float*, float const*)  // 8 8
ELEMENTWISE(rule::Retract, float, float*, float*, float*)  // 8 8
ELEMENTWISE(rule::Retract, double, double*, double*, double const*)  // 8 8
ELEMENTWISE(step::Descend, float, float*, float const*)  // 8 4
ELEMENTWISE(step::Accumulate, float, float*, float const*, float const*)  // 12 4
ELEMENTWISE(step::HeavyBall, float, float*, float*, float const*)  // 12 8
ELEMENTWISE(step::LookAhead, float, float*, float*)  // 8 8
ELEMENTWISE(step::Correct, float, float*, float*, float const*)  // 12 8
EXCHANGE(rule::Retract, rule::Add, float)  // 2 3
EXCHANGE(rule::Retract, rule::AddScaled, float)  // 2 3
EXCHANGE(rule::Stretch, rule::Add, float)  // 2 2
EXCHANGE(rule::Retract, rule::Add, double)  // 4 6
// clang-format on

}  // namespace elastic::device::detail
