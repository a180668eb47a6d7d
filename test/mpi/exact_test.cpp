// SPDX-License-Identifier: Apache-2.0
// The exact tests and the rows of the matrix of transport::Mpi, as `mpirun -np 4`; rank 0 reports for all.
// timeout: 300
#define CATCH_CONFIG_RUNNER
#define ELASTIC_TEST_SMALL  // four processes that poll, on as few cores as there may be
#include <cstdio>

#include "elastic/device/thrust.hpp"
#include "exact/conservation.hpp"
#include "exact/equivalence.hpp"
#include "exact/stability.hpp"
#include "exact/traffic.hpp"
#include "exact/transients.hpp"
#include "exact/variance.hpp"
#include "matrix.hpp"
#include "support/launch_mpi.hpp"

namespace {

using Net = elastic::transport::Mpi;
[[maybe_unused]] bool const added =
    exact::add_variance_cases<Net>() && exact::add_transient_cases<Net>() &&
    exact::add_stability_cases<Net>() && exact::add_equivalence_cases<Net>() &&
    exact::add_conservation_cases<Net>() && exact::add_traffic_cases<Net>() && matrix::add<Net>() &&
    matrix::add<Net>(elastic::Types<elastic::device::Thrust>{});

}  // namespace

int main(int argc, char** argv) {
  Net world(argc, argv);
  if (world.rank() != 0 && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
  return Catch::Session().run(argc, argv);
}
