// SPDX-License-Identifier: Apache-2.0
// How a rank passes through a window: every stripe once, waiting as little as possible.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"

namespace elastic {

/// Calls f(values, first) for every stripe of `window` once, holding its lock; `first` is where the stripe's
/// values begin in the window. Begins at part `part` of `parts` equal ones, so that ranks that come at the same
/// time are in different stripes, and leaves those that somebody holds for the end.
template <class Window, class F>
void for_each_stripe(Window const& window, int part, int parts, F f) {
  std::size_t const count = window.stripes();
  std::size_t const begin = count * std::size_t(part) / std::size_t(parts);
  std::vector<std::size_t> held;
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t const k = (begin + i) % count;
    if (auto const stripe = window.try_lock(k))
      f(stripe->span(), window.first(k));
    else
      held.push_back(k);
  }
  for (std::size_t const k : held) {
    auto const stripe = window.lock(k);
    f(stripe.span(), window.first(k));
  }
}

/// The same for a device that goes on by itself: f only submits work on runs of neighboring stripes of about
/// `values` values; some runs are in flight at a time, each under the locks of its stripes until mark(), a
/// Ticket taken after it, is done. Waits for a lock only while it holds none.
template <class Window, class F, class Mark>
void for_each_run(Window const& window, int part, int parts, std::size_t values, F f, Mark mark) {
  constexpr std::size_t in_flight = 4;
  struct Run {
    std::vector<decltype(window.lock(0))> locks;
    decltype(mark()) ticket;
  };
  std::deque<Run> running;
  auto const finish = [&](std::size_t most) {
    for (; running.size() > most; running.pop_front()) running.front().ticket.wait();
  };
  std::size_t const count = window.stripes();
  std::vector<std::size_t> ahead, held;
  for (std::size_t i = 0; i < count; ++i)
    ahead.push_back((count * std::size_t(part) / std::size_t(parts) + i) % count);
  for (bool waits : {false, true}) {
    for (std::size_t i = 0; i < ahead.size();) {
      std::vector<decltype(window.lock(0))> locks;
      std::size_t const first = ahead[i];
      std::size_t length = 0;
      for (;
           i < ahead.size() && ahead[i] == first + locks.size() && length < std::max<std::size_t>(values, 1);
           ++i) {
        auto stripe = window.try_lock(ahead[i]);
        if (!stripe && waits && locks.empty()) {
          finish(0);
          stripe.emplace(window.lock(ahead[i]));
        }
        if (!stripe) break;
        length += stripe->span().size();
        locks.push_back(std::move(*stripe));
      }
      if (locks.empty()) {
        held.push_back(ahead[i++]);
        continue;
      }
      auto const begin = locks.front().span();
      f(decltype(begin){begin.data(), length}, window.first(first));
      running.push_back({std::move(locks), mark()});
      finish(in_flight - 1);
    }
    ahead = std::exchange(held, {});
  }
  finish(0);
}

}  // namespace elastic
