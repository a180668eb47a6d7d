// SPDX-License-Identifier: Apache-2.0
// Collectives and rounds of every rule between processes of MPI; run it under mpirun.
#include "elastic/transport/mpi.hpp"

#include <array>

#include "rules/play.hpp"

int main(int argc, char** argv) {
  return bench::bench_main(argc, argv, [&](bench::Options const& options) {
    elastic::transport::Mpi net(argc, argv);
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> version{};
    int length = 0;
    MPI_Get_library_version(version.data(), &length);
    return bench::play(net, options, {{"mpi", std::string(version.data())}});
  });
}
