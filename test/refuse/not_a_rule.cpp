// SPDX-License-Identifier: Apache-2.0
// An options struct where an algorithm is expected.
// expect: elastic: the second policy does not model elastic::SyncRule (compose.hpp).
#include "elastic/device/cpu.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::Trainer trainer(net, elastic::optimizer::Sgd{}, cpu);
}
