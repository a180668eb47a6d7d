// SPDX-License-Identifier: Apache-2.0
// transport::Mpi keeps the promises of every transport; and what is its own: long messages in blocks. Run it
// as `mpirun -np 4`; rank 0 reports for all.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "conformance/transport.hpp"
#include "support/launch_mpi.hpp"

namespace {

using Net = elastic::transport::Mpi;
using elastic::Span;
using support::random_values;
static_assert(elastic::Transport<Net> && elastic::Collective<Net> && elastic::PointToPoint<Net>);

TEST_CASE("mpi: messages") { conformance::messages<Net>(); }
TEST_CASE("mpi: collectives") { conformance::collectives<Net>(); }
TEST_CASE("mpi: traffic") { conformance::traffic<Net>(); }
TEST_CASE("mpi: failures") { conformance::failures<Net>(); }

TEST_CASE("mpi: what is longer than a block travels in several, as one message") {
  auto const answers =
      support::Launch<Net>::run_with({.block_bytes = 1000}, 3, [](Net& net) -> std::vector<double> {
        auto const sent = random_values<float>(12345, unsigned(net.rank()));
        std::vector<float> got(sent.size());
        int const previous = (net.rank() + 2) % 3;
        {
          auto s = net.start_send(Span<float const>(sent), (net.rank() + 1) % 3, 1);
          auto const envelope = net.wait_message();
          if (envelope.bytes != sent.size() * sizeof(float)) return {-1};
          net.receive(Span<float>(got), previous, 1);
          s.wait();
        }
        double wrong = got != random_values<float>(12345, unsigned(previous));
        net.all_reduce(Span<float>(got));
        auto sum = random_values<float>(12345, 0);
        for (unsigned r : {1u, 2u}) {
          auto const term = random_values<float>(12345, r);
          for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += term[i];
        }
        for (std::size_t i = 0; i < sum.size(); ++i) wrong += std::abs(got[i] - sum[i]) > 1e-5f;
        net.broadcast(Span<float>(got), 2);
        auto x = random_values<double>(1000, 100 + unsigned(net.rank()));
        net.broadcast(Span<double>(x), 1);
        wrong += x != random_values<double>(1000, 101);
        return {wrong};
      });
  CHECK(conformance::all_answers_are(answers, {0}));
}

TEST_CASE("mpi: options that cannot work say what is expected") {
  auto const refuses = [](elastic::transport::MpiOptions const& o) {
    try {
      Net(boost::mpi::communicator(), o);
    } catch (elastic::ConfigError const&) {
      return true;
    }
    return false;
  };
  CHECK(refuses({.timeout = std::chrono::seconds(0)}));
  CHECK(refuses({.block_bytes = 7}));
  CHECK(refuses({.block_bytes = std::size_t(1) << 31}));
}

}  // namespace

int main(int argc, char** argv) {
  Net world(argc, argv);
  if (world.rank() != 0 && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
  return Catch::Session().run(argc, argv);
}
