// SPDX-License-Identifier: Apache-2.0
// transport::Mpi, and the calls it makes made by hand, as bench/transports/run measures them; the blocking calls of
// the MPI library, run over shared memory or TCP, are its peers.
#include "elastic/transport/mpi.hpp"

#include "cases.hpp"
#include "mpi_calls.hpp"
#include "rank.hpp"
#include "training.hpp"

int main(int argc, char** argv) {
  std::string const group = bench::argument(argc, argv, "group");
  elastic::transport::Mpi net(argc, argv);
  MPI_Comm world = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &world);
  bench::Hand hand(world);
  bench::Blocking blocking(world);
  bench::Cases cases = bench::cases_of(net);
  bench::add_collective_rules(cases, net);
  bench::add_exchanges(cases, net);
  bench::add_overlap(cases, net);
  cases["all_reduce_by_hand"] = [&](std::size_t bytes) { return bench::all_reduce_case(hand, bytes); };
  cases["all_reduce_blocking"] = [&](std::size_t bytes) { return bench::all_reduce_case(blocking, bytes); };
  cases["exchange_by_hand"] = [&](std::size_t bytes) {
    return bench::exchange_case(hand, net.rank(), bytes);
  };
  bench::serve(group, net.rank(), net.size(), cases);
}
