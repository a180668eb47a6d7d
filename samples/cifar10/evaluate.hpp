// SPDX-License-Identifier: Apache-2.0
// How good a center is: error on the test and training images, and which classes are taken for which.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <vector>

#include "elastic/data/batches.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/parameter_group.hpp"
#include "job.hpp"

namespace sample {

inline constexpr int evaluation_batch = 250;

struct Scores {
  double error = 0;  ///< share of images with another class on top
  double loss = 0;
  std::vector<std::vector<long>> confusion{};  ///< [true class][predicted class]
};

/// Evaluates the first `count` images of `set`; gives up early, with what it has, once `stop` is set.
template <class Model>
Scores score(Model& model, elastic::data::ImageSet const& set, Sets const& sets, std::size_t count,
             std::atomic<bool> const& stop) {
  Scores scores;
  auto const classes = std::size_t(set.classes);
  scores.confusion.assign(classes, std::vector<long>(classes));
  elastic::model::Evaluation total;
  elastic::data::for_each_batch(
      set, sets.normal, {.batch = evaluation_batch, .crop = sets.crop, .count = count},
      [&](elastic::model::Batch const& batch) {
        if (stop) return;
        total += model.evaluate(batch);
        auto const predicted = model.predictions();
        for (std::size_t i = 0; i < std::size_t(batch.count); ++i)
          ++scores.confusion[std::size_t(batch.labels[i])][std::size_t(predicted[i])];
      });
  scores.error = total.count == 0 ? 0 : 1 - total.accuracy();
  scores.loss = total.count == 0 ? 0 : total.loss();
  return scores;
}

/// The center's own batch-norm statistics, from training images: no worker's running averages fit it.
template <class Model>
void measure_statistics(Model& model, Sets const& sets) {
  auto const is_normalization = [](elastic::ParameterGroup const& g) {
    return g.kind == elastic::ParameterKind::normalization;
  };
  if (std::ranges::none_of(model.groups(), is_normalization)) return;
  model.reset_statistics();
  elastic::data::for_each_batch(sets.train, sets.normal,
                                {.batch = evaluation_batch, .crop = sets.crop, .count = 2000},
                                [&](elastic::model::Batch const& batch) { model.calibrate(batch); });
}

inline void print_confusion(Scores const& scores, std::vector<std::string> const& class_names) {
  std::printf("confusion matrix on the test images (rows: true class, columns: predicted)\n");
  for (std::size_t i = 0; i < scores.confusion.size(); ++i) {
    std::printf("%12.12s", i < class_names.size() ? class_names[i].c_str() : std::to_string(i).c_str());
    for (long n : scores.confusion[i]) std::printf(" %5ld", n);
    std::printf("\n");
  }
}

}  // namespace sample
