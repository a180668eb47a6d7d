// SPDX-License-Identifier: Apache-2.0
// What a training run is asked to do, apart from its three policies.
#pragma once

#include <atomic>
#include <cstdint>

#include "elastic/bookmark.hpp"
#include "elastic/lineage.hpp"
#include "elastic/optimizer/sgd.hpp"

namespace elastic {

struct Plan {
  long steps = 100;            ///< local steps of each worker
  optimizer::Sgd sgd{};        ///< the local step
  double steps_per_epoch = 1;  ///< how many of a worker's steps make an epoch, for schedules in epochs
  int testers = 0;             ///< how many of the ranks, from the last, are testers
  double test_every = 10;      ///< seconds from one snapshot of a tester to its next; 0: without a pause
  double commit_every = 0;     ///< seconds from one event::Center of a server to the next; 0: only at the end
  double distance_every =
      0;              ///< seconds from one measurement of a worker's || x - c || for its server to the next;
                      ///< 0: none
  Lineage lineage{};  ///< a server that is started again: what its last commit says
  Bookmark from{};    ///< a worker that is started again: where it stood; then `steps` counts from
                      ///< the first run's start, and its own parameters are what it starts from
  std::uint64_t incarnation = 0;  ///< tells this process from its successor in the same place; 0: random
  bool same_start = true;         ///< all workers start from rank 0's parameters; false: each from its own
  std::atomic<bool> const* stop =
      nullptr;  ///< when true, every role ends after its current exchange (signal handlers)
};

}  // namespace elastic
