// SPDX-License-Identifier: Apache-2.0
// The center as it was at moments of a run, kept in memory and tested when training is over, so that testing takes no
// time from it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "elastic/data/pass.hpp"
#include "elastic/event.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/parameter_group.hpp"
#include "elastic/span.hpp"
#include "job.hpp"

namespace bench {

/// An observer. Where workers meet, the first one keeps the center (of BSP, the parameters) every so many steps; a
/// tester keeps those of its snapshots that are an equal number of samples apart, at least.
template <class Model>
class CenterCurve {
 public:
  /// About `points` moments over `steps` steps of all workers, `samples_per_step` each.
  CenterCurve(Model& model, int points, double samples_per_step, double samples_per_version, long steps)
      : model_(model),
        every_(points > 0 ? std::max(1L, steps / points) : 0),
        samples_per_step_(samples_per_step),
        samples_per_version_(samples_per_version) {}

  void start() { start_ = Clock::now(); }

  void operator()(elastic::event::Turn<float> const& turn) {
    if (every_ == 0 || turn.rank != 0 || turn.steps == 0 || (turn.steps % every_ != 0 && !turn.last)) return;
    auto values = turn.parameters;
    for (auto const& state : turn.states)
      if (state.name == "center") values = state.values;
    keep(double(turn.steps) * samples_per_step_, values);
  }
  void operator()(elastic::event::Snapshot const& snapshot) {
    double const samples = double(snapshot.version) * samples_per_version_;
    double const next = moments_.empty() ? 0 : moments_.back().samples + double(every_) * samples_per_step_;
    if (samples < next && !snapshot.last) return;
    keep(samples, elastic::read(model_.parameters()));
  }

  /// Test error and loss of each center that was kept; all but the last on `most` images (0: all).
  Json evaluate(Images const& images, int batch, long most) {
    Json curve = Json::array();
    auto const parameters = model_.parameters();
    for (Moment const& moment : moments_) {
      std::copy(moment.center.begin(), moment.center.end(), parameters.data());
      calibrate(images, batch);
      elastic::model::Evaluation total;
      auto const count = most > 0 && &moment != &moments_.back() ? std::size_t(most) : images.test.count;
      elastic::data::for_each_batch(
          images.test, images.normal,
          {.batch = batch, .crop = model_.architecture().input().height, .count = count},
          [&](elastic::model::Batch const& part) { total += model_.evaluate(part); });
      curve.push_back({{"samples", moment.samples},
                       {"seconds", moment.seconds},
                       {"test_error", 1 - total.accuracy()},
                       {"test_loss", total.loss()}});
    }
    return curve;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Moment {
    double samples, seconds;
    std::vector<float> center;
  };

  void keep(double samples, elastic::Span<float const> center) {
    double const seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    moments_.push_back({samples, seconds, std::vector<float>(center.begin(), center.end())});
  }

  /// A center has no batch-norm statistics of its own.
  void calibrate(Images const& images, int batch) {
    auto const groups = model_.groups();
    if (std::none_of(groups.begin(), groups.end(), [](elastic::ParameterGroup const& g) {
          return g.kind == elastic::ParameterKind::normalization;
        }))
      return;
    model_.reset_statistics();
    elastic::data::for_each_batch(
        images.train, images.normal,
        {.batch = batch, .crop = model_.architecture().input().height, .count = 2000},
        [&](elastic::model::Batch const& part) { model_.calibrate(part); });
  }

  Model& model_;
  long every_;
  double samples_per_step_, samples_per_version_;
  Clock::time_point start_{};
  std::vector<Moment> moments_;
};

}  // namespace bench
