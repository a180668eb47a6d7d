// SPDX-License-Identifier: Apache-2.0
// The loss of every net here: softmax cross-entropy of logits against labels, with its gradient.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "elastic/model/check_batch.hpp"

namespace elastic::model {

/// How well a model does on `count` samples.
struct Evaluation {
  double loss_sum = 0;  ///< cross-entropies, summed; divide by count for their mean
  long correct = 0;     ///< samples whose largest logit is that of the label
  long top5 = 0;        ///< samples whose label has one of the five largest logits
  long count = 0;

  double loss() const { return loss_sum / static_cast<double>(count); }
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(count); }
  double top5_accuracy() const { return static_cast<double>(top5) / static_cast<double>(count); }

  Evaluation& operator+=(Evaluation const& other) {
    loss_sum += other.loss_sum;
    correct += other.correct;
    top5 += other.top5;
    count += other.count;
    return *this;
  }
};

/// Replaces each row of `logits` by the gradient of the mean loss with respect to it, and writes the class of
/// its largest logit (the first of equals, for the five largest too) to `predictions`.
///
/// `logits` holds predictions.size() rows of `classes` values; as many labels are read. Throws DataError for
/// a label outside [0, classes).
inline Evaluation softmax_cross_entropy(std::span<float> logits, std::span<int const> labels, int classes,
                                        std::span<int> predictions) {
  auto const width = static_cast<std::size_t>(classes);
  std::size_t const rows = predictions.size();
  float const share = 1 / static_cast<float>(rows);
  Evaluation total{.count = static_cast<long>(rows)};
  for (std::size_t i = 0; i < rows; ++i) {
    check_label(i, labels[i], classes);
    auto const label = static_cast<std::size_t>(labels[i]);
    std::span<float> const row = logits.subspan(i * width, width);
    float const aim = row[label];
    std::size_t best = 0;
    int before = 0;  // logits that come before the label's; all, if that is not a number
    for (std::size_t k = 0; k < width; ++k) {
      if (row[k] > row[best]) best = k;
      before += !(aim > row[k] || (aim == row[k] && label <= k));
    }
    predictions[i] = static_cast<int>(best);
    total.correct += before == 0;
    total.top5 += before < 5;

    float const largest = row[best];
    float sum = 0;
    for (float& value : row) sum += value = std::exp(value - largest);
    total.loss_sum += std::log(static_cast<double>(sum)) + static_cast<double>(largest - aim);
    for (float& value : row) value *= share / sum;
    row[label] -= share;
  }
  return total;
}

}  // namespace elastic::model
