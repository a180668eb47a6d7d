// SPDX-License-Identifier: Apache-2.0
// How a rank passes through a window: every stripe once, waiting as little as possible.
#pragma once

#include <cstddef>
#include <vector>

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

}  // namespace elastic
