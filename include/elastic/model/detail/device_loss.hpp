// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy of DeviceNet: loss, hits and predictions in one array that is downloaded once a step.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/device_sums.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

inline constexpr std::uint32_t lanes = 32;  // that look for the largest logit of a row together

struct BestOfLane {
  std::uint32_t classes;
  float const* logits;
  std::uint32_t* best;
  ELASTIC_FN void operator()(std::size_t i) const {
    auto const lane = static_cast<std::uint32_t>(i) % lanes;
    float const* const row = logits + i / lanes * classes;
    std::uint32_t mine = lane < classes ? lane : 0;
    for (std::uint32_t k = mine + lanes; lane < classes && k < classes; k += lanes)
      if (row[k] > row[mine]) mine = k;
    best[i] = mine;
  }
};
/// The first of the row's largest logits: its class and its value.
struct BestOfRow {
  std::uint32_t classes;
  float const* logits;
  std::uint32_t const* best;
  double* predictions;
  float* largest;
  ELASTIC_FN void operator()(std::size_t row) const {
    float const* const values = logits + row * classes;
    std::uint32_t first = best[row * lanes];
    for (std::uint32_t lane = 1; lane < lanes; ++lane) {
      std::uint32_t const other = best[row * lanes + lane];
      if (values[other] > values[first] || (values[other] == values[first] && other < first)) first = other;
    }
    predictions[row] = double(first);
    largest[row] = values[first];
  }
};
struct Exponential {
  std::uint32_t classes;
  float const *logits, *largest;
  ELASTIC_FN float operator()(std::size_t row, std::size_t k) const {
    return std::exp(logits[row * classes + k] - largest[row]);
  }
};
struct StoreSum {
  float* to;
  ELASTIC_FN void operator()(std::size_t row, float sum) const { to[row] = sum; }
};
/// Row 0 sums the losses of the images, row 1 the hits, row 2 the labels among the five largest logits.
struct LossOrHit {
  std::uint32_t classes;
  float const *logits, *largest, *sums, *labels;
  double const* predictions;
  ELASTIC_FN double operator()(std::size_t row, std::size_t image) const {
    double const label = double(labels[image]);
    if (row == 1) return predictions[image] == label ? 1.0 : 0.0;
    float const* const values = logits + image * classes;
    auto const aimed = static_cast<std::uint32_t>(label);
    float const aim = values[aimed];
    if (row == 2) {
      std::uint32_t before = 0;
      for (std::uint32_t k = 0; k < classes; ++k)
        before += aim > values[k] || (aim == values[k] && aimed <= k) ? 0u : 1u;
      return before < 5 ? 1.0 : 0.0;
    }
    return std::log(double(sums[image])) + double(largest[image] - aim);
  }
};
/// Logits become the gradient of the mean loss with respect to them.
struct LossSlope {
  Exponential exponential;
  float share;
  float const *sums, *labels;
  float* logits;
  ELASTIC_FN void operator()(std::size_t i) const {
    std::size_t const row = static_cast<std::uint32_t>(i) / exponential.classes,
                      k = i - row * exponential.classes;
    bool const aimed = k == static_cast<std::size_t>(labels[row]);
    logits[i] = share * (exponential(row, k) / sums[row] - (aimed ? 1.0f : 0.0f));
  }
};

template <class Dev>
class DeviceLoss {
 public:
  DeviceLoss(Dev& device, int classes, std::size_t most)
      : classes_(static_cast<std::uint32_t>(classes)),
        best_(device.template allocate<std::uint32_t>(most * lanes)),
        largest_(device.template allocate<float>(most)),
        sums_(device.template allocate<float>(most)),
        results_(device.template allocate<double>(head + most)) {}

  static constexpr std::size_t head = 4;  ///< results in front of the predictions

  /// Of `rows` logits; with `differentiates`, these become the gradient of `weight` times the mean loss, and nobody
  /// asks for the five largest.
  void run(Dev& device, float* logits, float const* labels, std::size_t rows, bool differentiates,
           double weight = 1) {
    double* const predictions = results_.span().data() + head;
    float *const largest = largest_.span().data(), *const sums = sums_.span().data();
    Exponential const exponential{classes_, logits, largest};
    device.launch(rows * lanes, BestOfLane{classes_, logits, best_.span().data()});
    device.launch(rows, BestOfRow{classes_, logits, best_.span().data(), predictions, largest});
    device.template sum_rows<float>(rows, classes_, exponential, StoreSum{sums});
    device.template sum_rows<double>(differentiates ? 2 : 3, rows,
                                     LossOrHit{classes_, logits, largest, sums, labels, predictions},
                                     StoreDouble{results_.span().data()});
    if (differentiates)
      device.launch(rows * classes_,
                    LossSlope{exponential, static_cast<float>(weight) / static_cast<float>(rows), sums,
                              labels, logits});
  }

  /// What Auxiliaries add to the sum of losses, if there are any; theirs to write.
  double* auxiliary_loss() const { return results_.span().data() + 3; }

  /// Loss and hits of all rows, labels among the five largest, auxiliary_loss(), then each row's prediction.
  auto results(std::size_t rows) const { return read(results_.span().part(0, head + rows)); }

 private:
  std::uint32_t classes_;
  typename Dev::template Buffer<std::uint32_t> best_;
  typename Dev::template Buffer<float> largest_, sums_;
  typename Dev::template Buffer<double> results_;
};

}  // namespace elastic::model::detail
