// SPDX-License-Identifier: Apache-2.0
// How good a center is: error on the test and training images, and which classes are taken for which.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "elastic/model/batch.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/parameter_group.hpp"
#include "task.hpp"

namespace sample {

struct Scores {
  double error = 0;                    ///< share of images with another class on top
  double top5_error = 0;               ///< share of images without the class among the five on top
  double loss = 0;                     ///< mean cross-entropy
  std::vector<std::int32_t> labels{};  ///< of each image
  std::vector<std::int32_t> predicted{};
};

/// Evaluates the images of a pass; gives up early, with what it has, once `stop` is set.
template <class Model>
elastic::model::Evaluation evaluate(Model& model, Task const& task, PassOptions const& pass,
                                    std::atomic<bool> const& stop, Scores* scores = nullptr) {
  elastic::model::Evaluation total;
  task.pass(pass, [&](elastic::model::Batch const& batch) {
    if (stop) return;
    total += model.evaluate(batch);
    if (!scores) return;
    auto const predicted = model.predictions();
    scores->labels.insert(scores->labels.end(), batch.labels.begin(), batch.labels.begin() + batch.count);
    scores->predicted.insert(scores->predicted.end(), predicted.begin(), predicted.end());
  });
  return total;
}

template <class Model>
Scores score(Model& model, Task const& task, PassOptions const& pass, std::atomic<bool> const& stop) {
  Scores scores;
  elastic::model::Evaluation const total = evaluate(model, task, pass, stop, &scores);
  if (total.count == 0) return scores;
  scores.error = 1 - total.accuracy();
  scores.top5_error = 1 - total.top5_accuracy();
  scores.loss = total.loss();
  return scores;
}

/// The center's own batch-norm statistics, from training images: no worker's running averages fit it.
template <class Model>
void measure_statistics(Model& model, Task const& task, int batch) {
  auto const is_normalization = [](elastic::ParameterGroup const& g) {
    return g.kind == elastic::ParameterKind::normalization;
  };
  if (std::ranges::none_of(model.groups(), is_normalization)) return;
  model.reset_statistics();
  task.pass({.split = elastic::data::Split::train, .batch = batch, .count = 2000},
            [&](elastic::model::Batch const& images) { model.calibrate(images); });
}

/// [true class][predicted class]
inline std::vector<std::vector<long>> confusion(Scores const& scores, std::size_t classes) {
  std::vector<std::vector<long>> matrix(classes, std::vector<long>(classes));
  for (std::size_t i = 0; i < scores.labels.size(); ++i)
    ++matrix[std::size_t(scores.labels[i])][std::size_t(scores.predicted[i])];
  return matrix;
}

inline void print_confusion(std::vector<std::vector<long>> const& matrix,
                            std::vector<std::string> const& names) {
  std::printf("confusion matrix on the test images (rows: true class, columns: predicted)\n");
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    std::printf("%12.12s", i < names.size() ? names[i].c_str() : std::to_string(i).c_str());
    for (long n : matrix[i]) std::printf(" %5ld", n);
    std::printf("\n");
  }
}

}  // namespace sample
