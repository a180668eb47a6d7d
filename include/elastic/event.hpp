// SPDX-License-Identifier: Apache-2.0
// What happens while training. An observer is anything callable with at least one of these; events that
// nobody listens to cost nothing.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include "elastic/lineage.hpp"
#include "elastic/span.hpp"

namespace elastic {

namespace event {

/// A worker has computed the gradient of its `step`-th batch (from 0) of `steps`.
struct Step {
  int rank;
  long step;
  long steps;
  double loss;  ///< mean over the batch
  double rate;  ///< learning rate of this step
};

/// A worker has finished an exchange with its peers or its server, after waiting for it for `waited` seconds.
struct Exchange {
  int rank;
  long step;
  double waited;
};

/// A server has added the delta of `worker` to the center; `version` counts all of them.
struct Applied {
  int worker;
  long step;
  double loss;
  std::uint64_t version;
  std::uint64_t sequence = 0;  ///< of the worker's own exchanges, from 1
};

/// A tester's model now holds the center as it was after `version` exchanges; `last` if training has ended.
struct Snapshot {
  std::uint64_t version;
  bool last;
};

/// A worker has taken its place at the server; `lost` of its exchanges were forgotten with an earlier server.
struct Joined {
  int worker;
  std::uint64_t incarnation;  ///< of its process
  std::uint64_t version;
  std::uint64_t lost;
};

/// A server goes on without this worker, whose last, unfinished exchange is forgotten.
struct Lost {
  int worker;
  std::string_view why;
};

/// A server has refused `pieces` pieces of a delta of this worker: they held a value that was not finite, or
/// beyond the rule's limit.
struct Refused {
  int worker;
  long step;
  std::uint32_t pieces;
};

/// The center as it is now, to be saved: every `Plan::commit_every` seconds and at the end, on the server's
/// thread. The values are valid until the observer returns.
template <class T>
struct Center {
  Span<T const> values;
  Lineage const& lineage;
};

}  // namespace event

/// Does this observer take the center?
template <class O>
concept Saves = std::invocable < O&,
        event::Center<float>
const& > || std::invocable<O&, event::Center<double> const&>;

template <class O>
concept Observer = std::invocable<O&, event::Step const&> || std::invocable<O&, event::Exchange const&> ||
    std::invocable<O&, event::Applied const&> || std::invocable<O&, event::Snapshot const&> ||
    std::invocable<O&, event::Joined const&> || std::invocable<O&, event::Lost const&> ||
    std::invocable<O&, event::Refused const&> || Saves<O>;

/// Calls every observer that takes this event.
template <class Event, class... Os>
void notify(Event const& e, Os&... observers) {
  (
      [&] {
        if constexpr (std::invocable<Os&, Event const&>) observers(e);
      }(),
      ...);
}

}  // namespace elastic
