// SPDX-License-Identifier: Apache-2.0
// Where a rank's time goes: the roles say what they do from here to the end of a scope, and each moment
// counts once.
#pragma once

#include <chrono>
#include <optional>
#include <tuple>

#include "elastic/event.hpp"
#include "elastic/report.hpp"

namespace elastic {

/// Adds up Seconds and tells observers of every Interval. A scope within another interrupts it.
template <class... Os>
class Timeline {
 public:
  explicit Timeline(int rank, Os&... observers) : rank_(rank), observers_(observers...) {}

  /// Seconds of what has ended.
  Seconds const& seconds() const { return seconds_; }

  class Scope {
   public:
    Scope(Timeline& line, Doing what) : line_(line), before_(line.now_) { line_.turn_to(what); }
    Scope(Scope const&) = delete;
    ~Scope() { line_.turn_to(before_); }

   private:
    Timeline& line_;
    std::optional<Doing> before_;
  };

  /// The rank does this until what is returned goes out of scope.
  [[nodiscard]] Scope during(Doing what) { return Scope(*this, what); }

 private:
  using Clock = std::chrono::steady_clock;

  void turn_to(std::optional<Doing> next) {
    if (next == now_) return;
    auto const now = Clock::now();
    if (now_) {
      seconds_.of(*now_) += std::chrono::duration<double>(now - since_).count();
      std::apply([&](Os&... os) { notify(event::Interval{rank_, *now_, since_, now}, os...); }, observers_);
    }
    now_ = next;
    since_ = now;
  }

  int rank_;
  std::tuple<Os&...> observers_;
  Seconds seconds_;
  std::optional<Doing> now_;
  Clock::time_point since_{};
};

}  // namespace elastic
