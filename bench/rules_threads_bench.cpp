// SPDX-License-Identifier: Apache-2.0
// Collectives and rounds of every rule between threads.
#include "elastic/transport/threads.hpp"

#include "rules/play.hpp"

int main(int argc, char** argv) {
  return bench::bench_main(argc, argv, [](bench::Options const& options) {
    int status = 0;
    elastic::transport::Threads::run(options.ranks, [&](auto& net) {
      if (int const mine = bench::play(net, options); net.rank() == 0) status = mine;
    });
    return status;
  });
}
