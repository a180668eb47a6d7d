// SPDX-License-Identifier: Apache-2.0
// transport::Threads keeps the promises of every transport.
#include "conformance/transport.hpp"
#include "support/launch_threads.hpp"

namespace {

using Net = elastic::transport::Threads;
static_assert(elastic::Transport<Net> && elastic::Collective<Net> && elastic::PointToPoint<Net>);

TEST_CASE("threads: messages") { conformance::messages<Net>(); }
TEST_CASE("threads: collectives") { conformance::collectives<Net>(); }
TEST_CASE("threads: traffic") { conformance::traffic<Net>(); }
TEST_CASE("threads: failures") { conformance::failures<Net>(); }

}  // namespace
