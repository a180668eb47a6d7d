// SPDX-License-Identifier: Apache-2.0
// What happens while training. An observer is anything callable with at least one of these; events that
// nobody listens to cost nothing.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "elastic/lineage.hpp"
#include "elastic/span.hpp"

namespace elastic {

/// What a rank may be doing, one thing at a time; see Seconds (report.hpp).
enum class Doing { computing, exchanging, waiting, loading, observing };

constexpr std::string_view to_string(Doing what) {
  constexpr std::string_view names[] = {"computing", "exchanging", "waiting", "loading", "observing"};
  return names[static_cast<int>(what)];
}

struct Bookmark;
struct Report;

/// A vector of a rule, and the name that others find it by.
template <class T, class Memory = memory::Host>
struct NamedVector {
  std::string_view name;
  Span<T, Memory> values;
};

namespace event {

/// A worker has computed the gradient of its `step`-th batch (from 0) of `steps`.
struct Step {
  int rank;
  long step;
  long steps;
  double loss;  ///< mean over the batch
  double rate;  ///< learning rate of this step
  double error =
      std::numeric_limits<double>::quiet_NaN();  ///< share of the batch that the model got wrong, if it says
};

/// A worker is between two steps, before its first or behind its last: it waits for nobody, and `parameters`
/// and `states` are those after `steps` steps. Workers of a rule without a server are all at the same place
/// when they are told, and may use the transport's collectives there. All of it is valid until the observer
/// returns.
template <class T, class Memory = memory::Host>
struct Turn {
  int rank;
  long steps;  ///< completed, those of earlier runs included
  bool last;   ///< training ends here
  Span<T const, Memory> parameters;
  std::span<NamedVector<T const, Memory> const> states;  ///< the rule's: center, velocity; see States
  Bookmark const& bookmark;                              ///< Plan::from of a run that goes on from here
  Report const& report;                                  ///< so far
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
  std::uint64_t sequence = 0;   ///< of the worker's own exchanges, from 1
  std::uint64_t staleness = 0;  ///< deltas of others that were added after the worker had read the center
  double distance =
      std::numeric_limits<double>::quiet_NaN();  ///< || x - center ||, if Plan::distance_every asks for it
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

/// From `begin` to `end` a rank did one thing. Told at its end, out of a destructor: an observer of it must
/// not throw.
struct Interval {
  int rank;
  Doing what;
  std::chrono::steady_clock::time_point begin, end;
};

/// The center as it is now, to be saved: every `Plan::commit_every` seconds and at the end, on the server's
/// thread. The values are valid until the observer returns.
template <class T>
struct Center {
  Span<T const> values;
  Lineage const& lineage;
};

}  // namespace event

template <class O, class Event>
concept Takes = std::invocable<O&, Event const&>;

/// Does this observer take the center?
template <class O>
concept Saves = Takes<O, event::Center<float>> || Takes<O, event::Center<double>>;

/// Takes one of the events; of those with a scalar and a memory, the host's, or one of `More`.
template <class O, class... More>
concept Observer = Takes<O, event::Step> || Takes<O, event::Turn<float>> || Takes<O, event::Turn<double>> ||
    Takes<O, event::Exchange> || Takes<O, event::Applied> || Takes<O, event::Snapshot> ||
    Takes<O, event::Joined> || Takes<O, event::Lost> || Takes<O, event::Refused> ||
    Takes<O, event::Interval> || Saves<O> ||(Takes<O, More> || ...);

/// Calls every observer that takes this event.
template <class Event, class... Os>
void notify(Event const& e, Os&... observers) {
  (
      [&] {
        if constexpr (Takes<Os, Event>) observers(e);
      }(),
      ...);
}

}  // namespace elastic
