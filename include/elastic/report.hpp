// SPDX-License-Identifier: Apache-2.0
// What one rank did, and where its time went.
#pragma once

#include <cstdint>

#include "elastic/event.hpp"
#include "elastic/role.hpp"
#include "elastic/traffic.hpp"

namespace elastic {

/// Seconds of one rank, by what it was doing: each moment counts once. A worker's add up to its time in the
/// loop, but for the rule's own few instructions.
struct Seconds {
  double computing = 0;   ///< gradients and local steps
  double exchanging = 0;  ///< arithmetic of the exchange, and starting messages
  double waiting =
      0;  ///< blocked until peers have arrived and their bytes are here; a server: until somebody asks
  double loading = 0;    ///< blocked until the next batch is ready
  double observing = 0;  ///< what observers take: a tester's tests, a worker's validation, saving, logs

  double& of(Doing what) {
    switch (what) {
      case Doing::computing: return computing;
      case Doing::exchanging: return exchanging;
      case Doing::waiting: return waiting;
      case Doing::loading: return loading;
      case Doing::observing: break;
    }
    return observing;
  }
  double total() const { return computing + exchanging + waiting + loading + observing; }
};

/// The outcome of Trainer::run on this rank.
struct Report {
  Role role = Role::worker;
  long steps = 0;   ///< a worker's own steps
  double loss = 0;  ///< a worker's last loss
  std::uint64_t exchanges =
      0;  ///< a worker's own; a server's: deltas added to the center; a tester's: snapshots
  std::uint64_t refused =
      0;  ///< pieces of deltas that were not finite or beyond the rule's limit, and so left out
  std::uint64_t lost =
      0;  ///< a server's: workers it went on without; a worker's: deltas that a restarted server forgot
  std::uint64_t rejoined = 0;  ///< connections that were made again
  bool stopped = false;        ///< ended before `Plan::steps` because somebody asked for it
  Seconds seconds;
  Traffic traffic;  ///< of this rank's transport during the run
};

}  // namespace elastic
