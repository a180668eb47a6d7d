// SPDX-License-Identifier: Apache-2.0
// transport::Tcp keeps the promises of every transport.
#include "conformance/transport.hpp"
#include "support/launch_tcp.hpp"

namespace {

using Net = elastic::transport::Tcp;
static_assert(elastic::Transport<Net> && elastic::Collective<Net> && elastic::PointToPoint<Net>);

TEST_CASE("tcp: messages") { conformance::messages<Net>(); }
TEST_CASE("tcp: collectives") { conformance::collectives<Net>(); }
TEST_CASE("tcp: traffic") { conformance::traffic<Net>(); }
TEST_CASE("tcp: failures") { conformance::failures<Net>(); }

using Processes = support::TcpProcesses;

TEST_CASE("tcp between processes: messages") { conformance::messages<Processes>(); }
TEST_CASE("tcp between processes: collectives") { conformance::collectives<Processes>(); }
TEST_CASE("tcp between processes: traffic") { conformance::traffic<Processes>(); }
TEST_CASE("tcp between processes: failures") { conformance::failures<Processes>(); }

}  // namespace
