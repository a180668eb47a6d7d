// SPDX-License-Identifier: Apache-2.0
// The transports without MPI, as bench/transports/run measures them.
#include <memory>
#include <string>

#include "cases.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/tcp.hpp"
#include "elastic/transport/threads.hpp"
#include "rank.hpp"
#include "training.hpp"

int main(int argc, char** argv) {
  using namespace elastic;
  std::string const group = bench::argument(argc, argv, "group");
  std::string const transport = bench::argument(argc, argv, "transport");
  int const ranks = std::stoi(bench::argument(argc, argv, "ranks", "2"));
  auto const port = transport == "tcp" ? transport::free_port() : std::uint16_t(0);
  std::string const job = "bench-" + std::to_string(::getpid());

  auto const measure = [&](auto& net) {
    bench::Cases cases = bench::cases_of(net);
    bench::add_collective_rules(cases, net);
    bench::add_exchanges(cases, net);
    bench::add_overlap(cases, net);
    bench::serve(group, net.rank(), ranks, cases);
  };
  if (transport == "threads") {
    transport::Threads::run(ranks, measure);
    return 0;
  }
  return bench::fork_ranks(ranks, [&](int rank) {
    if (transport == "tcp") {
      transport::Tcp net({.port = port, .rank = rank, .size = ranks, .job = job});
      measure(net);
    } else if (transport == "serial") {
      transport::Serial net;
      bench::Cases cases;
      bench::add_collective_rules(cases, net);
      bench::serve(group, rank, ranks, cases);
    } else {
      transport::SharedMemory net({.job = job, .rank = rank, .size = ranks});
      measure(net);
    }
  });
}
