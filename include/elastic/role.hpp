// SPDX-License-Identifier: Apache-2.0
// Who does what: how many ranks play each role is a run-time matter, what a role may say is a type of its own
// (worker.hpp, server.hpp, tester.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "elastic/error.hpp"
#include "elastic/lineage.hpp"
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
inline constexpr int agree = 1;     ///< the text of what all ranks must have in common, and the answer to it
inline constexpr int pull = 3;      ///< Request: may I have the whole center? (testers)
inline constexpr int status = 4;    ///< Status, before a center or the first shard of an exchange
inline constexpr int center = 5;    ///< the whole center, or the parameters to start from
inline constexpr int leave = 6;     ///< Request: I am done
inline constexpr int ended = 7;     ///< to a tester: training is over, pull the last center
inline constexpr int ask = 8;       ///< Ask: which shards of the center a worker wants
inline constexpr int shard = 9;     ///< a shard of the center
inline constexpr int delta = 10;    ///< what shall be added to a shard: the worker's next one
inline constexpr int join = 11;     ///< Join, followed by its terms
inline constexpr int welcome = 12;  ///< Welcome
inline constexpr int part = 13;     ///< of a vector, for the rank that sums it
inline constexpr int sum = 14;      ///< of the parts, to all ranks
}  // namespace tag

/// What a worker says when it leaves, and a tester when it wants the center.
struct Request {
  std::uint64_t sequence;
  std::int64_t step;
  double loss;
};

/// What comes before a center.
struct Status {
  std::uint64_t version;  ///< exchanges the center has seen
  std::uint64_t stop;     ///< 1: end after this exchange
};

/// A step of an exchange, from a worker to its server.
struct Ask {
  std::uint64_t sequence;  ///< of the exchange, counted by this worker from 1
  std::uint32_t first;     ///< it wants the shards [first, last)
  std::uint32_t last;
  std::uint32_t sent;    ///< after the deltas of its shards [0, sent) have been added
  std::uint32_t resume;  ///< 1: its next delta is that of shard `sent`, whatever the server has; see Welcome
  std::int64_t step;
  double loss;
  double distance;  ///< || x - center || when it was last measured; not a number: never
};

/// A worker that wants to take part, or to take part again; followed by `terms` bytes of text.
struct Join {
  std::uint64_t incarnation;
  std::uint64_t done;   ///< exchanges whose deltas it cannot send again
  std::uint32_t first;  ///< 1: it has not taken part yet
  std::uint32_t terms;
};

/// The answer to it.
struct Welcome {
  std::array<char, 512> refusal;  ///< why not; empty: welcome
  std::uint64_t generation;       ///< of the server
  std::uint64_t sequence;         ///< Progress of this worker as the server knows it
  std::uint32_t taken;
  std::uint32_t starts;               ///< 1: a Status and the center to start from follow
  std::array<std::byte, 192> window;  ///< where the center is, if it is in memory that all ranks see
};

/// A message of fixed size as a transport carries it.
template <class Message>
Span<char> as_bytes(Message& message) {
  return {reinterpret_cast<char*>(&message), sizeof message};
}

}  // namespace elastic
