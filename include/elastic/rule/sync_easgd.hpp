// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "elastic/compose.hpp"
#include "elastic/ops.hpp"
#include "elastic/rule/elastic_force.hpp"

namespace elastic::rule {

/// Synchronous EASGD. Zhang, Choromanska, LeCun, NIPS 2015, equations 5 and 6:
///
///     x_i <- x_i - eta g_i(x_i) - alpha (x_i - c)
///     c   <- c   + alpha sum_i (x_i - c)
///
/// Every worker keeps its own copy of c; the copies stay equal because they add the same sum. What a wire of 16 bits
/// rounds off the sum goes back to the x it came from, so that c + sum_i x_i is conserved all the same.
struct SyncEasgd {
  static constexpr std::string_view name = "sync_easgd";
  static constexpr Needs needs = Needs::collective;

  std::optional<double> alpha{};
  std::optional<double> beta{};
  std::optional<double> server_alpha{};
  std::vector<double> alpha_epochs{};
  double alpha_change = 0;
  long period = 10;
  Order order = Order::jacobi;
  Wire wire = Wire::float32;
  static constexpr auto options = elastic_options<SyncEasgd>;

  void check(int workers) const {
    check_options(*this);
    check_stable(moving_rate(*this, workers), workers, name);
  }

  void worker(auto& w) const {
    auto const rate = moving_rate(*this, w.workers());
    auto x = w.parameters();
    auto center = w.state("center", x);
    auto delta = w.allocate(x.size());

    while (w.next_step()) {
      if (order == Order::jacobi && w.step() % period == 0) {
        w.for_each(ops::Stretch{rate.worker}, delta.span(), x, center);  // d = alpha (x - c), both of time t
        auto travelling = w.start_add_sum(center, rate.gain(w.epoch()), delta, wire, x);  // c += sum d
        w.compute_gradient();
        w.apply_gradient_and_subtract(delta);  // x -= eta g; x -= d
        travelling.wait();
      } else {
        w.compute_gradient();
        w.apply_gradient();
        if (order == Order::post_step && (w.step() + 1) % period == 0) {
          w.for_each(ops::Retract{rate.worker}, delta.span(), x, center);  // d = alpha (x - c); x -= d
          w.all_reduce(delta, wire, x);
          w.for_each(ops::AddScaled{rate.gain(w.epoch())}, center, delta.span());
        }
      }
      w.publish(center);
    }
  }
};

}  // namespace elastic::rule
