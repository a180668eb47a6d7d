// SPDX-License-Identifier: Apache-2.0
// transport::SharedMemory keeps the promises of every transport.
#include "conformance/transport.hpp"
#include "support/launch_shared_memory.hpp"

namespace {

using Net = elastic::transport::SharedMemory;
static_assert(elastic::Transport<Net> && elastic::Collective<Net> && elastic::PointToPoint<Net>);

TEST_CASE("shared_memory: messages") { conformance::messages<Net>(); }
TEST_CASE("shared_memory: collectives") { conformance::collectives<Net>(); }
TEST_CASE("shared_memory: traffic") { conformance::traffic<Net>(); }
TEST_CASE("shared_memory: failures") { conformance::failures<Net>(); }

using Processes = support::Forked<Net>;

TEST_CASE("shared_memory between processes: messages") { conformance::messages<Processes>(); }
TEST_CASE("shared_memory between processes: collectives") { conformance::collectives<Processes>(); }
TEST_CASE("shared_memory between processes: traffic") { conformance::traffic<Processes>(); }
TEST_CASE("shared_memory between processes: failures") { conformance::failures<Processes>(); }

}  // namespace
