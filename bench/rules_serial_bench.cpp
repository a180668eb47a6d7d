// SPDX-License-Identifier: Apache-2.0
// The rules on one rank, and what is refused there: the cost of a rule that has nobody to talk to.
#include "elastic/transport/serial.hpp"

#include "rules/play.hpp"

int main(int argc, char** argv) {
  return bench::bench_main(argc, argv, [](bench::Options const& options) {
    elastic::transport::Serial net;
    return bench::play(net, options);
  });
}
