// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "elastic/compose.hpp"
#include "elastic/ops.hpp"
#include "elastic/role.hpp"
#include "elastic/rule/elastic_force.hpp"

namespace elastic::rule {

/// Asynchronous EASGD. Zhang, Choromanska, LeCun, NIPS 2015, Algorithm 1: each worker exchanges with the
/// server on its own clock, first come, first served.
///
///     worker   d <- alpha (x - c);  x <- x - eta g(x) - d
///     server   c <- c + d
///
/// Both ends apply the same d, so center + workers + deltas in flight is conserved whatever the order of
/// arrival and however old the c that a worker has read.
struct AsyncEasgd {
  static constexpr std::string_view name = "async_easgd";
  static constexpr Needs needs = Needs::point_to_point;

  std::optional<double> alpha{};
  std::optional<double> beta{};
  std::optional<double> server_alpha{};
  long period = 10;
  Order order = Order::jacobi;
  static constexpr auto options = elastic_options<AsyncEasgd>;

  /// Exchanges one at a time are stable up to alpha = 1, for any number of workers and any period; if k
  /// workers read the same center before any of them has pushed, up to 2 / (k + 1).
  void check(int workers) const {
    check_options(*this);
    check_stable(moving_rate(*this, workers), 1, name);
  }

  void worker(auto& w) const {
    auto const rate = moving_rate(*this, w.workers());
    auto x = w.parameters();
    auto before = w.allocate(x.size()), center = w.allocate(x.size()), delta = w.allocate(x.size());

    while (w.next_step()) {
      if (order == Order::jacobi && w.step() % period == 0) {
        w.copy(x, before);
        auto arriving = w.start_pull(center);
        w.compute_gradient();
        w.apply_gradient();
        arriving.wait();
        w.for_each(ops::Stretch{rate.worker}, delta.span(), before.span(),
                   center.span());  // d = alpha (x - c) of time t
        w.push(delta);
        w.for_each(ops::Subtract{}, x, delta.span());
      } else {
        w.compute_gradient();
        w.apply_gradient();
        if (order == Order::post_step && (w.step() + 1) % period == 0) {
          w.start_pull(center).wait();
          w.for_each(ops::Retract{rate.worker}, delta.span(), x, center.span());  // d = alpha (x - c); x -= d
          w.push(delta);
        }
      }
    }
  }

  void server(auto& s) const {
    auto const rate = moving_rate(*this, s.workers());
    auto center = s.state("center", s.parameters());
    auto delta = s.allocate(center.size());

    while (auto const wants = s.next()) {
      if (*wants == Wants::center) {
        s.reply(center);
      } else {
        s.receive(delta);
        s.for_each(ops::AddScaled{rate.gain()}, center, delta.span());
      }
    }
  }
};

}  // namespace elastic::rule
