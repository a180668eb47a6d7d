// SPDX-License-Identifier: Apache-2.0
// A rule that needs a server, over a transport with no peers.
// expect: elastic: this SyncRule talks to a server, and this Transport has no point-to-point messages; use
// threads, shared_memory, tcp or mpi.
#include "elastic/device/cpu.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::Trainer trainer(net, elastic::rule::AsyncEasgd{}, cpu);
}
