// SPDX-License-Identifier: Apache-2.0
// Collectives and rounds of every rule between processes that share memory.
#include "elastic/transport/shared_memory.hpp"

#include <stdexcept>

#include "rules/play.hpp"
#include "transports/fork_ranks.hpp"

int main(int argc, char** argv) {
  return bench::bench_main(argc, argv, [](bench::Options const& options) {
    std::string const job = "bench-" + std::to_string(::getpid());
    return bench::fork_ranks(options.ranks, [&](int rank) {
      elastic::transport::SharedMemory net({.job = job, .rank = rank, .size = options.ranks});
      if (bench::play(net, options) != 0) throw std::runtime_error("a benchmark has failed");
    });
  });
}
