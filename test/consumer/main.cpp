// SPDX-License-Identifier: Apache-2.0
// What a project outside the tree does first: a device, a transport, one elastic step.
#include <cstdio>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/version.hpp"

static_assert(elastic::Device<elastic::device::Cpu>);
static_assert(elastic::Transport<elastic::transport::Serial>);

int main() {
  std::vector<float> delta(2), x{5.0f, -3.0f}, center{1.0f, 1.0f};
  elastic::device::Cpu cpu;
  cpu.for_each(elastic::ops::Retract{0.5}, elastic::Span<float>(delta), elastic::Span<float>(x),
               elastic::Span<float>(center));
  std::printf("elastic %d.%d: delta %g %g, x %g %g\n", elastic::library_version.major,
              elastic::library_version.minor, double(delta[0]), double(delta[1]), double(x[0]), double(x[1]));
  return x[0] == 3.0f && x[1] == -1.0f && delta[0] == 2.0f ? 0 : 1;
}
