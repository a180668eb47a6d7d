// SPDX-License-Identifier: Apache-2.0
// Who does what: how many ranks play each role is a run-time matter, what a role may say is a type of its own
// (worker.hpp, server.hpp, tester.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "elastic/error.hpp"
#include "elastic/span.hpp"

namespace elastic {

enum class Role { worker, server, tester };

constexpr std::string_view to_string(Role role) {
  return role == Role::worker ? "worker" : role == Role::server ? "server" : "tester";
}

/// Rank 0 is the server of a rule that has one; the testers are the last ranks; everybody else is a worker.
struct Layout {
  int size;
  int servers;  ///< 0 or 1
  int testers;

  int workers() const { return size - servers - testers; }
  int first_worker() const { return servers; }
  int first_tester() const { return size - testers; }
  /// Who answers for the center: the server, or the first of the workers that each have a copy of it.
  int holder() const { return 0; }
  Role role_of(int rank) const {
    return rank < servers ? Role::server : rank >= first_tester() ? Role::tester : Role::worker;
  }

  /// Throws ConfigError unless there is at least one worker.
  void check() const {
    if (workers() < 1)
      throw ConfigError(std::to_string(size) + " rank(s) with " + std::to_string(servers) +
                        " server(s) and " + std::to_string(testers) +
                        " tester(s) leave no worker; start more ranks or fewer testers");
  }
};

/// The messages between roles.
namespace tag {
inline constexpr int agree = 1;   ///< the text of what all ranks must have in common, and the answer to it
inline constexpr int start = 2;   ///< rank 0's parameters
inline constexpr int pull = 3;    ///< Request: may I have the center?
inline constexpr int status = 4;  ///< Status, followed by
inline constexpr int center = 5;  ///< the center
inline constexpr int push = 6;    ///< the delta that belongs to the sender's last pull
inline constexpr int leave = 7;   ///< Request: I am done
inline constexpr int ended = 8;   ///< to a tester: training is over, pull the last center
}  // namespace tag

/// What a worker says with a pull or a leave.
struct Request {
  std::uint64_t sequence;  ///< number of the delta that will follow, from 1
  std::int64_t step;
  double loss;
};

/// What a request asks a server for.
enum class Wants { center, add_delta };

/// What comes before a center.
struct Status {
  std::uint64_t version;  ///< exchanges the center has seen
  std::uint64_t stop;     ///< 1: end after this exchange
};

/// A message of fixed size as a transport carries it.
template <class Message>
Span<char> as_bytes(Message& message) {
  return {reinterpret_cast<char*>(&message), sizeof message};
}

}  // namespace elastic
