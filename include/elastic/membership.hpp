// SPDX-License-Identifier: Apache-2.0
// How a process comes to take part in a job that has a server, at its start or while it runs.
#pragma once

#include <concepts>
#include <cstdint>
#include <random>
#include <string>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"

namespace elastic {

/// A transport whose connection to rank 0 can be made again after a PeerLost.
template <class Net>
concept Rejoins = PointToPoint<Net> && requires(Net& net, Net const& view) {
  { view.elastic() } -> std::same_as<bool>;  // ranks come, go and come back while the job runs
  net.rejoin();
};

/// Whether ranks may come and go while this job runs.
template <class Net>
bool comes_and_goes(Net const& net) {
  if constexpr (requires { net.elastic(); }) return net.elastic();
  return false;
}

/// Asks the server to let this process take part; throws Disagreement if it is refused.
template <PointToPoint Net>
Welcome join(Net& net, int server, Join me, std::string const& terms) {
  me.terms = static_cast<std::uint32_t>(terms.size());
  Welcome welcome{};
  net.send(read(as_bytes(me)), server, tag::join);
  net.send(Span<char const>(terms), server, tag::join);
  net.receive(as_bytes(welcome), server, tag::welcome);
  welcome.refusal.back() = 0;
  if (welcome.refusal[0] != 0) throw Disagreement(welcome.refusal.data());
  return welcome;
}

/// What a process says to be told from its successor in the same place.
inline std::uint64_t new_incarnation() {
  std::random_device random;
  return (std::uint64_t(random()) << 32 | random()) | 1;
}

/// How this process came to take part.
struct Entry {
  std::uint64_t incarnation = 0;
  std::string terms;
  Welcome welcome{};
};

}  // namespace elastic
