// SPDX-License-Identifier: Apache-2.0
// An MPI library's own calls, without anything of ours: bench/transports/run compiles this for MPICH, too.
#include "mpi_calls.hpp"

#include "cases.hpp"
#include "rank.hpp"

int main(int argc, char** argv) {
  std::string const group = bench::argument(argc, argv, "group");
  MPI_Init(&argc, &argv);
  {
    bench::Hand hand(MPI_COMM_WORLD);
    bench::Blocking blocking(MPI_COMM_WORLD);
    bench::Cases cases;
    cases["all_reduce_blocking"] = [&](std::size_t bytes) { return bench::all_reduce_case(blocking, bytes); };
    cases["exchange_by_hand"] = [&](std::size_t bytes) {
      return bench::exchange_case(hand, hand.rank(), bytes);
    };
    bench::serve(group, hand.rank(), hand.size(), cases);
  }
  MPI_Finalize();
}
