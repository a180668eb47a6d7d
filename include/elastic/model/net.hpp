// SPDX-License-Identifier: Apache-2.0
// A classifier: parameters, gradients, loss and batch-norm statistics around an engine that runs the layers.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/device/cpu.hpp"
#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/check_batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/initialize.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// Runs the layers of one architecture forward and backward on parameters it is bound to.
///
/// forward() returns the logits, count x classes, which the caller overwrites with their gradient before
/// backward(); that follows a forward() with Pass::train, and both together overwrite every gradient.
/// auxiliary_loss() is what Auxiliaries added to the mean loss of that pass. moments() holds one entry a BatchNorm:
/// written by passes that train or calibrate, read by those that evaluate. An engine that cannot compute on
/// `threads` threads, or lacks a layer, refuses.
template <class E>
concept Engine = requires(E& engine, Batch const& batch, Pass pass, Generator& random,
                          Architecture const& net, Span<float const> parameters, Span<float> gradients,
                          int max_batch, int threads) {
  E(net, max_batch, parameters, gradients, threads);
  { engine.forward(pass, batch, random) } -> std::same_as<std::span<float>>;
  engine.backward();
  { engine.auxiliary_loss() } -> std::same_as<double>;
  { engine.moments() } -> std::same_as<std::span<Moments>>;
};

/// A Trainable net. Deterministic: the same seed, stream and batches yield the same bits in a backend.
template <Engine E>
class Net {
 public:
  using scalar = float;
  using device_type = device::Cpu;
  using batch = Batch;

  /// Batches may hold 1 to `max_batch` images. `seed` decides the first parameters, and dropout until
  /// reseed(). Parameters, gradients and what a rule needs besides come from `device`. Throws ConfigError for a max_batch below 1.
  Net(Architecture architecture, int max_batch, std::uint64_t seed, device::Cpu device = device::Cpu())
      : device_(device),
        architecture_(std::move(architecture)),
        max_batch_(checked_max_batch(max_batch)),
        parameters_(device_.allocate<float>(architecture_.parameter_count())),
        gradients_(device_.allocate<float>(architecture_.parameter_count())),
        generator_(make_generator(seed, 0)),
        engine_(architecture_, max_batch, read(parameters_.span()), gradients_.span(), device_.threads()),
        statistics_(engine_.moments().size()),
        predictions_(static_cast<std::size_t>(max_batch)) {
    initialize(architecture_, seed, parameters_.span());
  }

  device::Cpu& device() { return device_; }
  Architecture const& architecture() const { return architecture_; }
  std::vector<ParameterGroup> groups() const { return architecture_.groups(); }
  Span<float> parameters() { return parameters_.span(); }
  Span<float> gradients() { return gradients_.span(); }

  /// Starts dropout's random stream anew; give each rank a stream of its own.
  void reseed(std::uint64_t seed, std::uint64_t stream) { generator_ = make_generator(seed, stream); }

  /// Dropout's random stream, for checkpoints: it can be written to and read from a std::iostream.
  Generator& generator() { return generator_; }

  /// One pass forward and backward in training mode; overwrites gradients() and returns the loss that they are the
  /// gradient of: the mean cross-entropy, plus that of each Auxiliary times its weight. Throws DataError for a
  /// batch that does not fit.
  double gradient(Batch const& samples) {
    Evaluation const result = run(Pass::train, samples);
    engine_.backward();
    training_error_ = 1 - result.accuracy();
    return result.loss() + engine_.auxiliary_loss();
  }

  /// The share of the last gradient's batch that was classified wrongly, 0 ... 1.
  double training_error() const { return training_error_; }

  /// Loss and hits without dropout and Auxiliaries, batch normalization with the statistics of recompute_statistics().
  /// Leaves gradients() alone. Throws DataError for a batch that does not fit and ConfigError where the net
  /// normalizes and has no statistics yet.
  Evaluation evaluate(Batch const& samples) {
    for (std::size_t i = 0; i < statistics_.size(); ++i) {
      if (statistics_[i].count() == 0)
        throw ConfigError(
            "a net with batch normalization evaluates before it has statistics; call recompute_statistics() "
            "with training batches first");
      statistics_[i].write(engine_.moments()[i]);
    }
    return run(Pass::evaluate, samples);
  }

  /// The class predicted for each image of the last batch, in training or evaluation.
  std::span<int const> predictions() const { return {predictions_.data(), predicted_}; }

  /// Forgets the batch-norm statistics: they belong to parameters, and a center moves.
  void reset_statistics() {
    for (RunningMoments& running : statistics_) running = {};
  }

  /// Adds one batch to the batch-norm statistics: each normalization's mean and variance over all images and
  /// positions so far, every layer seeing what the batch's own statistics made of the layers before.
  void calibrate(Batch const& samples) {
    run(Pass::calibrate, samples);
    for (std::size_t i = 0; i < statistics_.size(); ++i)
      statistics_[i].add(engine_.moments()[i], static_cast<double>(samples.count));
  }

  /// Replaces the batch-norm statistics by those of the given range of batches.
  template <class Batches>
  void recompute_statistics(Batches const& batches) {
    reset_statistics();
    for (Batch const& samples : batches) calibrate(samples);
  }

 private:
  Evaluation run(Pass pass, Batch const& samples) {
    check_batch(samples, architecture_.input(), max_batch_);
    std::span<float> const logits = engine_.forward(pass, samples, generator_);
    predicted_ = static_cast<std::size_t>(samples.count);
    return softmax_cross_entropy(logits, samples.labels, architecture_.classes(),
                                 std::span(predictions_).first(predicted_));
  }

  device::Cpu device_;
  Architecture architecture_;
  int max_batch_;
  device::Cpu::Buffer<float> parameters_, gradients_;
  Generator generator_;
  E engine_;
  std::vector<RunningMoments> statistics_;
  std::vector<int> predictions_;
  std::size_t predicted_ = 0;
  double training_error_ = 1;
};

}  // namespace elastic::model
