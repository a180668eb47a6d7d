// SPDX-License-Identifier: Apache-2.0
// How far a worker is from its center. The deltas of an exchange know it: they are alpha (x - c).
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/wire.hpp"

namespace elastic {

/// Measures || x - c || from the deltas of an exchange, every `every` seconds (0: never) but for no more than
/// a hundredth of the time.
template <Device Dev, class T>
class DistanceMeter {
 public:
  DistanceMeter(Dev& device, double every) : device_(device), every_(every) {}

  /// What was measured last; not a number before the first time.
  double last() const { return last_; }

  /// An exchange begins; whether this one is measured.
  bool begin() {
    measures_ = every_ > 0 && Clock::now() >= due_;
    squares_ = cost_ = 0;
    return measures_;
  }

  /// Some of its deltas, as they travel.
  template <class Codec = codec::Plain<T>>
  void add(Span<typename Codec::Value const, typename Dev::memory> deltas) {
    if (!measures_) return;
    auto const start = Clock::now();
    if constexpr (std::is_same_v<typename Dev::memory, memory::Host>) {
      add_up<Codec>(deltas);
    } else {
      std::vector<typename Codec::Value> host(deltas.size());
      device_.download(deltas, Span<typename Codec::Value>(host));
      add_up<Codec>(Span<typename Codec::Value const>(host));
    }
    cost_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  /// All of them have been added.
  template <class Move>
  void end(Move const& move) {
    if (!measures_) return;
    if constexpr (requires { move.alpha; })
      if (move.alpha > 0) last_ = std::sqrt(squares_) / move.alpha;
    due_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(std::max(every_, 100 * cost_)));
  }

 private:
  using Clock = std::chrono::steady_clock;

  template <class Codec>
  void add_up(Span<typename Codec::Value const> deltas) {
    auto const square = [&](std::size_t i) {
      auto const d = double(Codec::decode(deltas[i]));
      return d * d;
    };
    constexpr std::size_t lanes = 8;  // sums that do not wait for each other
    double sums[lanes] = {};
    std::size_t const whole = deltas.size() / lanes * lanes;
    for (std::size_t i = 0; i < whole; i += lanes)
      for (std::size_t k = 0; k < lanes; ++k) sums[k] += square(i + k);
    for (std::size_t i = whole; i < deltas.size(); ++i) sums[0] += square(i);
    for (double const sum : sums) squares_ += sum;
  }

  Dev& device_;
  double every_;
  Clock::time_point due_{};
  bool measures_ = false;
  double squares_ = 0, cost_ = 0;
  double last_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace elastic
