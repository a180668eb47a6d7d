// SPDX-License-Identifier: Apache-2.0
// Batch-norm statistics: those of one batch, and their sum over many, from which a net evaluates.
#pragma once

#include <cstddef>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"

namespace elastic::model {

/// What a pass through a net is for.
enum class Pass {
  train,      ///< dropout, batch-norm by the batch's own statistics, backward possible
  calibrate,  ///< batch-norm by the batch's own statistics, nothing dropped
  evaluate,   ///< batch-norm by given statistics, nothing dropped
};

/// Mean and biased variance of each channel.
struct Moments {
  std::vector<float> mean, variance;
};

/// Room for the moments of every BatchNorm of a net, in order.
inline std::vector<Moments> make_moments(Architecture const& architecture) {
  std::vector<Moments> all;
  for_each_layer(architecture.layers(), [&](PlacedLayer const& placed) {
    auto const channels = static_cast<std::size_t>(placed.in.channels);
    if (std::holds_alternative<BatchNorm>(placed.layer))
      all.push_back({std::vector<float>(channels), std::vector<float>(channels)});
  });
  return all;
}

/// Means and variances over several batches.
class RunningMoments {
 public:
  /// Adds `weight` samples that have these moments.
  void add(Moments const& batch, double weight) {
    if (mean_.empty()) mean_ = squares_ = std::vector<double>(batch.mean.size());
    count_ += weight;
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      double const off = static_cast<double>(batch.mean[i]) - mean_[i];
      squares_[i] +=
          weight * static_cast<double>(batch.variance[i]) + off * off * weight * (count_ - weight) / count_;
      mean_[i] += off * weight / count_;
    }
  }

  /// Samples so far.
  double count() const { return count_; }

  /// Mean and biased variance over all samples so far.
  void write(Moments& total) const {
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      total.mean[i] = static_cast<float>(mean_[i]);
      total.variance[i] = static_cast<float>(squares_[i] / count_);
    }
  }

 private:
  std::vector<double> mean_;
  std::vector<double> squares_;  // sums of squared distances from the mean
  double count_ = 0;
};

}  // namespace elastic::model
