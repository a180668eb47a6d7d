// SPDX-License-Identifier: Apache-2.0
// What happens while training. An observer is anything callable with at least one of these; events that
// nobody listens to cost nothing.
#pragma once

#include <concepts>
#include <cstdint>

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
};

/// A tester's model now holds the center as it was after `version` exchanges; `last` if training has ended.
struct Snapshot {
  std::uint64_t version;
  bool last;
};

}  // namespace event

template <class O>
concept Observer = std::invocable<O&, event::Step const&> || std::invocable<O&, event::Exchange const&> ||
    std::invocable<O&, event::Applied const&> || std::invocable<O&, event::Snapshot const&>;

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
