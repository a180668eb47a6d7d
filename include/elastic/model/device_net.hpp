// SPDX-License-Identifier: Apache-2.0
// A classifier that lives on a device: what Net is on the CPU, with parameters, gradients and activations in the
// device's memory, and one small download a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/check_batch.hpp"
#include "elastic/model/detail/device_engine.hpp"
#include "elastic/model/detail/device_feed.hpp"
#include "elastic/model/detail/device_loss.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/initialize.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// A Trainable net on a device with a memory of its own. Deterministic: the same seed, stream and batches yield the
/// same bits on one kind of device with the same options, and with Kit's float32 nearly those of the nets on the CPU.
///
/// Kit says how products of matrices are computed there: it has Options, Core (the ways to compute a product layer),
/// core(), multiply(), upload(), step(); see detail/host_kit.hpp for the smallest.
template <class Dev, class Kit>
class DeviceNet {
 public:
  using scalar = float;
  using device_type = Dev;
  using batch = Batch;
  using Options = typename Kit::Options;
  using memory = typename Dev::memory;
  using Loaded = detail::LoadedBatch<Dev>;

  /// Batches may hold 1 to `max_batch` images. `seed` decides the first parameters, the same as those of the nets on
  /// the CPU, and dropout until reseed(). Throws ConfigError for a max_batch below 1, options out of range, and
  /// activations beyond 2^32 values, and what the device throws.
  DeviceNet(Architecture architecture, int max_batch, std::uint64_t seed, Dev device = Dev(),
            Options options = {})
      : device_(std::move(device)),
        architecture_(std::move(architecture)),
        max_batch_(checked_max_batch(max_batch)),
        parameters_(device_.template allocate<float>(architecture_.parameter_count())),
        gradients_(device_.template allocate<float>(architecture_.parameter_count())),
        generator_(make_generator(seed, 0)),
        kit_(device_, options),
        engine_(device_, kit_, architecture_, most(), parameters_.span().data(), gradients_.span().data()),
        feed_(device_, architecture_.input().size(), engine_.dropouts(), most()),
        loss_(device_, architecture_.classes(), most()),
        moments_(make_moments(architecture_)),
        running_(moments_.size()),
        batch_moments_(device_.template allocate<float>(moment_values())),
        statistics_(device_.template allocate<float>(moment_values())),
        results_(device_.allocate_host((loss_.head + most()) * sizeof(double))),
        predictions_(most()) {
    std::vector<float> first(architecture_.parameter_count());
    initialize(architecture_, seed, first);
    device_.upload(read(Span<float>(first)), parameters_.span());
  }

  Dev& device() { return device_; }
  Architecture const& architecture() const { return architecture_; }
  std::vector<ParameterGroup> groups() const { return architecture_.groups(); }
  Span<float, memory> parameters() { return parameters_.span(); }
  Span<float, memory> gradients() { return gradients_.span(); }

  /// Starts dropout's random stream anew; give each rank a stream of its own.
  void reseed(std::uint64_t seed, std::uint64_t stream) { generator_ = make_generator(seed, stream); }

  /// Dropout's random stream, for checkpoints: it can be written to and read from a std::iostream.
  Generator& generator() { return generator_; }

  /// One pass forward and backward in training mode; overwrites gradients() and returns the loss that they are the
  /// gradient of, as Net does, while the device may still be on its way back. Throws DataError for a batch that does
  /// not fit.
  double gradient(Batch const& samples) {
    double const loss = run(Pass::train, samples).loss();
    return loss + auxiliary_loss_;
  }

  /// The same for a batch that load() of a net of the same device has put there already.
  double gradient(Loaded const& samples) {
    auto const count = static_cast<std::size_t>(samples.count());
    if (count > most() || samples.values().size() != count * (architecture_.input().size() + 1))
      throw DataError("a batch of " + std::to_string(count) +
                      " images was loaded for another net than this one of " +
                      to_string(architecture_.input()) + " images, 1 to " + std::to_string(max_batch_));
    auto const fed = feed_.put(device_, kit_, Pass::train, samples, generator_);
    double const loss = run(Pass::train, count, fed).loss();
    return loss + auxiliary_loss_;
  }

  /// The share of the last gradient's batch that was classified wrongly, 0 ... 1.
  double training_error() const { return training_error_; }

  /// Copies a batch to the device, to be used any number of times. Throws DataError for one that does not fit.
  Loaded load(Batch const& samples) {
    check_batch(samples, architecture_.input(), max_batch_);
    return Loaded(device_, samples, architecture_.classes());
  }

  /// Loss and hits without dropout and Auxiliaries, batch normalization with the statistics of recompute_statistics().
  /// Leaves gradients() alone. Throws DataError for a batch that does not fit and ConfigError where the net
  /// normalizes and has no statistics yet.
  Evaluation evaluate(Batch const& samples) {
    for (std::size_t i = 0; i < running_.size(); ++i) {
      if (running_[i].count() == 0)
        throw ConfigError(
            "a net with batch normalization evaluates before it has statistics; call recompute_statistics() "
            "with training batches first");
      running_[i].write(moments_[i]);
    }
    if (statistics_changed_) upload_statistics();
    return run(Pass::evaluate, samples);
  }

  /// The class predicted for each image of the last batch, in training or evaluation.
  std::span<int const> predictions() const { return {predictions_.data(), predicted_}; }

  /// Forgets the batch-norm statistics: they belong to parameters, and a center moves.
  void reset_statistics() {
    for (RunningMoments& running : running_) running = {};
  }

  /// Adds one batch to the batch-norm statistics: each normalization's mean and variance over all images and
  /// positions so far, every layer seeing what the batch's own statistics made of the layers before.
  void calibrate(Batch const& samples) {
    run(Pass::calibrate, samples);
    std::vector<float> values(moment_values());
    device_.download(read(batch_moments_.span()), Span<float>(values));
    auto from = values.begin();
    for (std::size_t i = 0; i < running_.size(); ++i) {
      for (std::vector<float>* const each : {&moments_[i].mean, &moments_[i].variance}) {
        std::copy_n(from, each->size(), each->begin());
        from += std::ptrdiff_t(each->size());
      }
      running_[i].add(moments_[i], static_cast<double>(samples.count));
    }
    statistics_changed_ = true;
  }

  /// Replaces the batch-norm statistics by those of the given range of batches.
  template <class Batches>
  void recompute_statistics(Batches const& batches) {
    reset_statistics();
    for (Batch const& samples : batches) calibrate(samples);
  }

 private:
  std::size_t most() const { return static_cast<std::size_t>(max_batch_); }

  std::size_t moment_values() const {
    std::size_t values = 0;
    for (Moments const& each : moments_) values += 2 * each.mean.size();
    return values;
  }

  Evaluation run(Pass pass, Batch const& samples) {
    check_batch(samples, architecture_.input(), max_batch_);
    auto const fed = feed_.put(device_, kit_, pass, samples, architecture_.classes(), generator_);
    return run(pass, static_cast<std::size_t>(samples.count), fed);
  }

  /// The loss comes home while the device goes on with the way back.
  Evaluation run(Pass pass, std::size_t count, detail::Fed fed) {
    auto way = engine_.run(device_, kit_, fed, loss_.auxiliary_loss(), batch_moments_.span().data(),
                           statistics_.span().data());
    bool const trains = pass == Pass::train;
    std::size_t const key = 2 * count + feed_.turn();  // what decides sizes and addresses of a step
    kit_.step(trains, 2 * key, [&] {
      logits_ = engine_.forward(way, pass, fed.images, count);
      loss_.run(device_, logits_, fed.labels, count, trains);
    });
    Span<double> const home(reinterpret_cast<double*>(results_.data()), loss_.head + count);
    auto arrived = device_.start_download(loss_.results(count), home);
    if (trains) kit_.step(true, 2 * key + 1, [&] { engine_.backward(way, logits_, count); });
    arrived.wait();
    predicted_ = count;
    for (std::size_t i = 0; i < count; ++i) predictions_[i] = static_cast<int>(home[loss_.head + i]);
    if (trains) training_error_ = 1 - home[1] / static_cast<double>(count);
    auxiliary_loss_ = engine_.has_auxiliaries() ? home[3] / static_cast<double>(count) : 0;
    return {.loss_sum = home[0],
            .correct = static_cast<long>(home[1]),
            .top5 = trains ? 0 : static_cast<long>(home[2]),
            .count = static_cast<long>(count)};
  }

  void upload_statistics() {
    std::vector<float> values;
    for (Moments const& each : moments_) {
      values.insert(values.end(), each.mean.begin(), each.mean.end());
      values.insert(values.end(), each.variance.begin(), each.variance.end());
    }
    device_.upload(read(Span<float>(values)), statistics_.span());
    statistics_changed_ = false;
  }

  Dev device_;
  Architecture architecture_;
  int max_batch_;
  typename Dev::template Buffer<float> parameters_, gradients_;
  Generator generator_;
  Kit kit_;
  detail::DeviceEngine<Dev, Kit> engine_;
  detail::DeviceFeed<Dev> feed_;
  detail::DeviceLoss<Dev> loss_;
  std::vector<Moments> moments_;
  std::vector<RunningMoments> running_;
  bool statistics_changed_ = false;
  typename Dev::template Buffer<float> batch_moments_, statistics_;
  decltype(std::declval<Dev&>().allocate_host(0)) results_;  // at home: loss, hits, predictions
  float* logits_ = nullptr;
  std::vector<int> predictions_;
  std::size_t predicted_ = 0;
  double training_error_ = 1;
  double auxiliary_loss_ = 0;  // of the last pass that trained
};

}  // namespace elastic::model
