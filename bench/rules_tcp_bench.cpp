// SPDX-License-Identifier: Apache-2.0
// Collectives and rounds of every rule between processes over TCP.
#include "elastic/transport/tcp.hpp"

#include <stdexcept>

#include "rules/play.hpp"
#include "transports/fork_ranks.hpp"

int main(int argc, char** argv) {
  return bench::bench_main(argc, argv, [](bench::Options const& options) {
    auto const port = elastic::transport::free_port();
    std::string const job = "bench-" + std::to_string(::getpid());
    return bench::fork_ranks(options.ranks, [&](int rank) {
      elastic::transport::Tcp net({.port = port, .rank = rank, .size = options.ranks, .job = job});
      if (bench::play(net, options) != 0) throw std::runtime_error("a benchmark has failed");
    });
  });
}
