// SPDX-License-Identifier: Apache-2.0
// Learning rate against time: both ancestor systems' policies, the EASGD paper's, and warm-up.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/options.hpp"

namespace elastic::optimizer {

enum class Decay { constant, step, plateau, polynomial, inverse_time };

constexpr auto names(Decay) {
  return std::array{std::pair{std::string_view("constant"), Decay::constant},
                    std::pair{std::string_view("step"), Decay::step},
                    std::pair{std::string_view("plateau"), Decay::plateau},
                    std::pair{std::string_view("polynomial"), Decay::polynomial},
                    std::pair{std::string_view("inverse_time"), Decay::inverse_time}};
}

/// What the learning rate is multiplied with at step t, in epoch e = t / steps_per_epoch:
///
///     constant      1
///     step          factor^k, k = how many of `decay_epochs` are <= e
///     plateau       factor^k, k = how often the loss of an epoch was, for `patience` epochs in a row, not
///                   `threshold` better (as a share) than the best before it
///     polynomial    (1 - e / end_epoch)^power, 0 after end_epoch
///     inverse_time  1 / (1 + gamma t)^power             (the EASGD paper: gamma 1e-4, power 0.5)
///
/// times W with `scale_by_workers` (W workers; Goyal et al. 2017), and over the first `warmup_epochs` times a
/// ramp from 1/W (without scaling: from 0) to 1.
struct Schedule {
  Decay decay = Decay::constant;
  std::vector<double> decay_epochs{};
  double factor = 0.1;
  double threshold = 0.01;
  long patience = 2;
  double power = 0.5;
  double end_epoch = 0;
  double gamma = 1e-4;
  double warmup_epochs = 0;
  bool scale_by_workers = false;

  static constexpr auto options = std::tuple{
      Option{"decay", &Schedule::decay, "how the learning rate falls"},
      Option{"decay_epochs", &Schedule::decay_epochs,
             "step: epochs at which the rate is multiplied by factor", 0.0},
      Option{"factor", &Schedule::factor, "step, plateau: what the rate is multiplied with", 0.0, 1.0},
      Option{"threshold", &Schedule::threshold, "plateau: share by which an epoch's loss must improve", 0.0,
             1.0},
      Option{"patience", &Schedule::patience, "plateau: epochs without improvement before the rate falls",
             1.0},
      Option{"power", &Schedule::power, "polynomial, inverse_time: exponent", 0.0},
      Option{"end_epoch", &Schedule::end_epoch, "polynomial: epoch at which the rate reaches 0", 0.0},
      Option{"gamma", &Schedule::gamma, "inverse_time: decay per step", 0.0},
      Option{"warmup_epochs", &Schedule::warmup_epochs, "epochs over which the rate rises to its full value",
             0.0},
      Option{"scale_by_workers", &Schedule::scale_by_workers, "multiply the rate by the number of workers"},
  };

  /// Throws ConfigError for values out of range, or a polynomial without an end.
  void check() const {
    check_options(*this);
    if (decay == Decay::polynomial && end_epoch <= 0)
      throw ConfigError("decay: polynomial needs end_epoch > 0, the epoch at which the rate reaches 0");
  }

  /// The factor for step `t` (from 0) after `plateaus` plateaus.
  double at(long t, double steps_per_epoch, int workers, int plateaus = 0) const {
    double const epoch = double(t) / std::max(steps_per_epoch, 1.0);
    double const full = scale_by_workers ? workers : 1;
    return full * warmup(t, steps_per_epoch, workers) * decayed(t, epoch, plateaus);
  }

 private:
  double decayed(long t, double epoch, int plateaus) const {
    switch (decay) {
      case Decay::constant: return 1;
      case Decay::step:
        return std::pow(factor, std::ranges::count_if(decay_epochs, [=](double at) { return at <= epoch; }));
      case Decay::plateau: return std::pow(factor, plateaus);
      case Decay::polynomial: return epoch >= end_epoch ? 0 : std::pow(1 - epoch / end_epoch, power);
      case Decay::inverse_time: return std::pow(1 + gamma * double(t), -power);
    }
    return 1;
  }

  double warmup(long t, double steps_per_epoch, int workers) const {
    double const rise = warmup_epochs * std::max(steps_per_epoch, 1.0);
    if (double(t + 1) >= rise) return 1;
    double const start = scale_by_workers ? 1.0 / workers : 0;
    return start + (1 - start) * double(t + 1) / rise;
  }
};

/// Counts the plateaus of a schedule from the losses of its epochs.
struct PlateauCounter {
  double best = std::numeric_limits<double>::infinity();
  long waited = 0;  ///< epochs since then, or since the last plateau
  int plateaus = 0;

  /// Takes the mean loss of the epoch that just ended; returns the plateaus so far.
  int report(double loss, double threshold, long patience) {
    if (loss < best * (1 - threshold)) {
      best = loss;
      waited = 0;
    } else if (++waited >= patience) {
      ++plateaus;
      waited = 0;
    }
    return plateaus;
  }
};

}  // namespace elastic::optimizer
