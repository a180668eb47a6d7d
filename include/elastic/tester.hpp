// SPDX-License-Identifier: Apache-2.0
// What a tester does: it takes snapshots of the center when it wants to and never makes anybody wait.
#pragma once

#include <chrono>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/event.hpp"
#include "elastic/membership.hpp"
#include "elastic/plan.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "elastic/timeline.hpp"

namespace elastic {

template <PointToPoint Net, Device Dev, class T, class... Os>
class Tester {
 public:
  using View = Span<T, typename Dev::memory>;
  Tester(Net& net, Layout layout, Plan const& plan, Entry entry, Os&... os)
      : net_(net),
        layout_(layout),
        plan_(plan),
        entry_(std::move(entry)),
        observers_(os...),
        timeline_(net.rank(), os...) {}

  /// Waits for its own schedule, then fetches the center into `center`; none after the last one, which comes
  /// once training has ended.
  std::optional<event::Snapshot> next_snapshot(View center) {
    for (;;) try {
        return fetch(center);
      } catch (PeerLost const& lost) {
        if (lost.peer() == layout_.holder() && !come_back()) throw;  // the loss of others is not its matter
      }
  }

  /// Shows the observers what came.
  void tell(event::Snapshot const& snapshot) {
    auto const observing = timeline_.during(Doing::observing);
    std::apply([&](Os&... os) { notify(snapshot, os...); }, observers_);
  }

  Report finish() {
    report_.seconds = timeline_.seconds();
    report_.role = Role::tester;
    report_.stopped = plan_.stop && plan_.stop->load();
    return report_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::optional<event::Snapshot> fetch(View center) {
    if (last_) return std::nullopt;
    await_schedule();
    auto const fetching = timeline_.during(Doing::exchanging);
    Request request{report_.exchanges + 1, 0, 0};
    Status status{};
    net_.send(read(as_bytes(request)), layout_.holder(), tag::pull);
    net_.receive(as_bytes(status), layout_.holder(), tag::status);
    net_.receive(center, layout_.holder(), tag::center);
    ++report_.exchanges;
    last_ = status.stop != 0;
    if (last_ && !ended_) net_.receive(Span<char>(), layout_.holder(), tag::ended);
    return event::Snapshot{status.version, last_};
  }

  /// To a server that was started again, or over a connection that broke.
  bool come_back() {
    if constexpr (Rejoins<Net>) {
      if (!net_.elastic()) return false;
      net_.rejoin();
      join(net_, layout_.holder(), {entry_.incarnation, 0, 0, 0}, entry_.terms);
      ++report_.rejoined;
      return true;
    } else {
      return false;
    }
  }

  /// Until the next test is due or training has ended, whichever comes first.
  void await_schedule() {
    auto const idle = timeline_.during(Doing::waiting);
    for (;;) {
      if (!ended_ && net_.probe()) {  // nothing but `ended` comes unasked
        net_.receive(Span<char>(), layout_.holder(), tag::ended);
        ended_ = true;
      }
      bool const asked_to_stop = plan_.stop && plan_.stop->load();
      if (ended_ || (!asked_to_stop && Clock::now() >= due_)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    due_ = Clock::now() +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(plan_.test_every));
  }

  Net& net_;
  Layout layout_;
  Plan const& plan_;
  Entry entry_;
  std::tuple<Os&...> observers_;
  Timeline<Os...> timeline_;
  Report report_;
  Clock::time_point due_ = Clock::now();
  bool ended_ = false;
  bool last_ = false;
};

}  // namespace elastic
