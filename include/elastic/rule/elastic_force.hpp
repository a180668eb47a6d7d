// SPDX-License-Identifier: Apache-2.0
// What the two EASGD rules have in common: the moving rate, the order of operations, and the bounds of
// stability.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/options.hpp"
#include "elastic/wire.hpp"

namespace elastic::rule {

/// When the elastic force reads the parameters.
///
/// `jacobi` (the paper): gradient and force both read x of time t, once every `period` steps, before the
/// first of them; so the exchange can travel while the gradient is computed, without any staleness.
/// `post_step` (Theano-MPI, torch-distlearn): `period` local steps first, then the force at the point they
/// reached.
enum class Order { jacobi, post_step };

constexpr auto names(Order) {
  return std::array{std::pair{std::string_view("jacobi"), Order::jacobi},
                    std::pair{std::string_view("post_step"), Order::post_step}};
}

/// The moving rates that a rule's options ask for.
struct MovingRate {
  double worker;  ///< alpha: the share of its distance to the center that a worker gives up in an exchange
  double server;  ///< what the center moves by instead of alpha; equal to it unless asked otherwise
  std::vector<double> epochs{};  ///< from each of which on the center moves by `change` more
  double change = 0;

  bool conserves() const { return worker == server && (change == 0 || epochs.empty()); }
  double server_at(double epoch) const {
    return server + change * double(std::count_if(epochs.begin(), epochs.end(),
                                                  [epoch](double from) { return from <= epoch; }));
  }
  /// What the center adds for each delta of a worker: 1 conserves center + workers.
  double gain(double epoch) const { return conserves() ? 1 : server_at(epoch) / worker; }
};

/// `beta = p alpha` (the paper's symmetric choice) or alpha itself; beta = 0.9, the paper's value, if neither
/// is set. Throws ConfigError if both are.
template <class Rule>
MovingRate moving_rate(Rule const& rule, int workers) {
  if (rule.alpha && rule.beta) throw ConfigError("alpha and beta = p alpha are both set; set one of them");
  double const alpha = rule.alpha ? *rule.alpha : rule.beta.value_or(0.9) / workers;
  if (alpha == 0 && (rule.server_alpha.value_or(0) != 0 || rule.alpha_change != 0))
    throw ConfigError(
        "server_alpha: with alpha = 0 the workers send nothing the center could move by; set alpha > 0");
  return {alpha, rule.server_alpha.value_or(alpha), rule.alpha_epochs, rule.alpha_change};
}

template <class Rule>
constexpr auto elastic_options = std::tuple{
    Option{"alpha", &Rule::alpha,
           "moving rate: share of its distance to the center a worker gives up per exchange", 0.0},
    Option{"beta", &Rule::beta, "sets alpha = beta / workers; the default is 0.9 (the paper)", 0.0},
    Option{"server_alpha", &Rule::server_alpha,
           "moving rate of the center if it shall differ from alpha: center + workers is then NOT conserved",
           0.0},
    Option{"alpha_epochs", &Rule::alpha_epochs,
           "epochs from each of which on server_alpha is alpha_change more", 0.0},
    Option{"alpha_change", &Rule::alpha_change, "what is added to server_alpha at each of alpha_epochs"},
    Option{"period", &Rule::period, "steps from one exchange to the next", 1.0},
    Option{"order", &Rule::order, "force at time t, hidden behind the gradient, or after the local steps"},
    Option{"wire", &Rule::wire, "how deltas and center travel: as they are, or in 16 bits"},
};

/// Synchronous EASGD is stable for alpha below this, on a direction of curvature h with eta h = `eta_h`:
///
///     jacobi     2 (1 + r) / (p (1 + r) + 2 s^(period-1))        s = 1 - eta h,  r = s^period
///     post_step  2 (1 + r) / (p (1 + r) + 2 r)
///
/// Both fall to 2 / (p + 1) as eta h falls to 0.
inline double critical_alpha(Order order, int workers, double eta_h, long period = 1) {
  double const s = 1 - eta_h, r = std::pow(s, double(period));
  double const lag = order == Order::jacobi ? std::pow(s, double(period - 1)) : r;
  return 2 * (1 + r) / (workers * (1 + r) + 2 * lag);
}

/// Throws ConfigError, with the bound, for rates that no learning rate can make stable: on directions of
/// little curvature an exchange multiplies the distance between the center and the mean of the `together`
/// workers that read it at the same time by 1 - alpha - together * server_alpha.
inline void check_stable(MovingRate const& rate, int together, std::string_view rule) {
  double const last = rate.server + rate.change * double(rate.epochs.size()),
               server = std::max(rate.server, last);
  if (last < 0)
    throw ConfigError(std::string(rule) + ": alpha_change = " + to_text(rate.change) + " at " +
                      std::to_string(rate.epochs.size()) + " epochs takes server_alpha from " +
                      to_text(rate.server) + " below 0");
  if (rate.worker + together * server <= 2) return;
  double const bound = 2.0 / (together + 1);
  throw ConfigError(
      std::string(rule) + ": alpha = " + to_text(rate.worker) +
      (rate.conserves() ? "" : " with server_alpha = " + to_text(server)) + " cannot be stable: " +
      (rate.conserves()
           ? "alpha must be at most 2 / (" + std::to_string(together) + " + 1) = " + to_text(bound)
           : "alpha + " + std::to_string(together) + " server_alpha must be at most 2") +
      (together > 1 ? " with " + std::to_string(together) + " workers; the paper's choice is alpha = 0.9 / " +
                          std::to_string(together) + " = " + to_text(0.9 / together)
                    : "; the paper's choice is alpha = 0.9 / workers"));
}

}  // namespace elastic::rule
