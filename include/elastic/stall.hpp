// SPDX-License-Identifier: Apache-2.0
// What a rank says while it waits for long, before its deadline ends the wait with an error.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace elastic {

/// A wait that takes long: who is missing, in which operation, since when.
struct Stall {
  int rank = -1;               ///< who waits
  std::string_view operation;  ///< in what
  int peer = -1;               ///< for whom; -1: nobody in particular
  std::chrono::duration<double> waited{};
  std::chrono::duration<double> left{};  ///< until the deadline
};

inline std::string to_text(Stall const& s) {
  char times[96];
  std::snprintf(times, sizeof times, " for %.0f s, gives up in %.0f s", s.waited.count(), s.left.count());
  return "elastic: rank " + std::to_string(s.rank) + " has waited in " + std::string(s.operation) +
         (s.peer < 0 ? std::string() : " for rank " + std::to_string(s.peer)) + times;
}

namespace detail {
struct StallHandler {
  std::mutex mutex;
  std::function<void(Stall const&)> call;
  static StallHandler& get() {
    static StallHandler handler;
    return handler;
  }
};
}  // namespace detail

/// Who hears of stalls in this process instead of stderr, from whichever thread waits; an empty function
/// brings stderr back.
inline void on_stall(std::function<void(Stall const&)> call) {
  auto& handler = detail::StallHandler::get();
  std::lock_guard const lock(handler.mutex);
  handler.call = std::move(call);
}

/// Tells of one wait when a quarter of its timeout has passed, 2 s at least, and again whenever that time has
/// doubled.
class StallWatch {
 public:
  StallWatch(int rank, std::string_view operation, std::chrono::duration<double> timeout)
      : rank_(rank),
        operation_(operation),
        timeout_(timeout),
        next_(std::max<std::chrono::duration<double>>(timeout / 4, std::chrono::seconds(2))) {}

  /// To be called now and then while waiting; `missing()` names the rank that is waited for, or -1.
  template <class Missing>
  void look(std::chrono::duration<double> waited, Missing missing) {
    if (waited < next_) return;
    next_ *= 2;
    Stall const stall{rank_, operation_, missing(), waited, timeout_ - waited};
    auto& handler = detail::StallHandler::get();
    std::lock_guard const lock(handler.mutex);
    if (handler.call)
      handler.call(stall);
    else
      std::fprintf(stderr, "%s\n", to_text(stall).c_str());
  }

 private:
  int rank_;
  std::string_view operation_;
  std::chrono::duration<double> timeout_;
  std::chrono::duration<double> next_;
};

}  // namespace elastic
