// SPDX-License-Identifier: Apache-2.0
// What must survive a server beside its center, so that no delta is added twice and none is lost unnoticed.
#pragma once

#include <cstdint>
#include <vector>

namespace elastic {

/// How far one worker's deltas have come: each is added once, also when connections break.
struct Progress {
  std::uint64_t incarnation = 0;  ///< of the worker's process
  std::uint64_t sequence = 0;     ///< its last exchange that has begun
  std::uint32_t taken = 0;        ///< deltas of that exchange that are in the center
};

/// What a server that is started again goes on from, beside its center.
struct Lineage {
  std::uint64_t generation = 0;   ///< how many servers held this center before
  std::uint64_t version = 0;      ///< exchanges the center has seen
  std::vector<Progress> workers;  ///< index = rank
};

}  // namespace elastic
