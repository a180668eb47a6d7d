// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

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
/// arrival, however old the c that a worker has read, and however a wire of 16 bits has rounded them.
struct AsyncEasgd {
  static constexpr std::string_view name = "async_easgd";
  static constexpr Needs needs = Needs::point_to_point;

  std::optional<double> alpha{};
  std::optional<double> beta{};
  std::optional<double> server_alpha{};
  std::vector<double> alpha_epochs{};
  double alpha_change = 0;
  long period = 10;
  Order order = Order::jacobi;
  Wire wire = Wire::float32;
  double limit = 1e4;
  static constexpr auto options = std::tuple_cat(
      elastic_options<AsyncEasgd>,
      std::tuple{
          Option{"limit", &AsyncEasgd::limit,
                 "largest element of a delta that the center takes: a worker that has diverged does not "
                 "take the others along",
                 0.0}});

  /// Exchanges one at a time are stable up to alpha = 1, for any number of workers and any period; if k
  /// workers read the same center before any of them has pushed, up to 2 / (k + 1).
  void check(int workers) const {
    check_options(*this);
    check_stable(moving_rate(*this, workers), 1, name);
    if (wire == Wire::fp16 && limit > codec::Fp16::largest)
      throw ConfigError("limit = " + to_text(limit) +
                        ": larger deltas become 65504 in fp16, so that none would be "
                        "refused; set a limit of at most 65504, or wire = bf16");
  }

  void worker(auto& w) const {
    auto const rate = moving_rate(*this, w.workers());
    auto const add = [&rate](double epoch) { return ops::AddScaled{rate.gain(epoch)}; };
    auto x = w.parameters();

    while (w.next_step()) {
      if (order == Order::jacobi && w.step() % period == 0) {
        auto exchange = w.start_exchange(ops::Stretch{rate.worker}, add(w.epoch()), x, limit,
                                         wire);  // d = alpha (x - c) of time t
        w.compute_gradient();
        w.apply_gradient_and_subtract(exchange.deltas());  // x -= eta g; x -= d
      } else {
        w.compute_gradient();
        w.apply_gradient();
        if (order == Order::post_step && (w.step() + 1) % period == 0)
          w.exchange(ops::Retract{rate.worker}, add(w.epoch()), x, limit, wire);  // d = alpha (x - c); x -= d
      }
    }
  }

  void server(auto& s) const {
    auto const rate = moving_rate(*this, s.workers());
    auto const add = [&rate](double epoch) { return ops::AddScaled{rate.gain(epoch)}; };
    s.serve(s.state("center", s.parameters()), add, limit, wire);
  }
};

}  // namespace elastic::rule
