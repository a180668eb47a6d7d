// SPDX-License-Identifier: Apache-2.0
// From a list of layers to shapes and to places in the flat parameter vector, checked once for all backends.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/layers.hpp"
#include "elastic/parameter_group.hpp"

namespace elastic::model {

/// A layer with its shapes and parameters. A group without parameters has count 0.
struct PlacedLayer {
  Layer layer;
  Shape in;
  Shape out;
  ParameterGroup weights;  ///< of a BatchNorm: gamma
  ParameterGroup biases;   ///< of a BatchNorm: beta
};

/// A feed-forward classifier: an input shape and layers, the last of which yields one logit a class.
class Architecture {
 public:
  /// Infers all shapes. Throws ConfigError, naming the layer by its index and the shapes, where they cannot
  /// be.
  Architecture(Shape input, std::vector<Layer> const& layers) : input_(input) {
    if (input.channels < 1 || input.height < 1 || input.width < 1)
      throw ConfigError("a net's input of " + to_string(input) + " has no values");
    Shape shape = input;
    for (Layer const& layer : layers) {
      place(layer, shape);
      shape = layers_.back().out;
    }
    bool const ends = !layers.empty() && (std::holds_alternative<Linear>(layers.back()) ||
                                          std::holds_alternative<Conv>(layers.back()));
    if (!ends || shape.height != 1 || shape.width != 1 || shape.channels < 2)
      throw ConfigError(
          "a net's last layer must be a Linear, or a Conv that leaves one pixel, and yield one " +
          ("logit a class for two classes or more; this net yields " + to_string(shape)));
  }

  Shape input() const { return input_; }
  int classes() const { return layers_.back().out.channels; }
  std::size_t parameter_count() const { return parameters_; }
  std::vector<PlacedLayer> const& layers() const& { return layers_; }
  std::vector<PlacedLayer> const& layers() const&& = delete;  // it would outlive its owner

  /// All parameters in the order of the flat vector, without gaps: weights, then biases of each layer.
  std::vector<ParameterGroup> groups() const {
    std::vector<ParameterGroup> all;
    for (PlacedLayer const& placed : layers_) {
      if (placed.weights.count > 0) all.push_back(placed.weights);
      if (placed.biases.count > 0) all.push_back(placed.biases);
    }
    return all;
  }

 private:
  void place(Layer const& layer, Shape in) {
    layers_.push_back({layer, in, in, {}, {}});
    std::visit([this](auto const& kind) { infer(kind, layers_.back()); }, layer);
  }

  void infer(Conv const& conv, PlacedLayer& placed) {
    if (conv.channels < 1 || conv.kernel < 1 || conv.stride < 1 || conv.pad < 0 || conv.groups < 1)
      refuse("Conv", "channels, kernel, stride and groups must be positive and pad not negative");
    if (placed.in.channels % conv.groups != 0 || conv.channels % conv.groups != 0)
      refuse("Conv", std::to_string(conv.groups) + " groups do not divide " +
                         std::to_string(placed.in.channels) + " input and " + std::to_string(conv.channels) +
                         " output channels");
    placed.out = windows("Conv", placed.in, conv.channels, conv.kernel, conv.pad, conv.stride);
    std::size_t const inputs = static_cast<std::size_t>(placed.in.channels / conv.groups) *
                               static_cast<std::size_t>(conv.kernel) * static_cast<std::size_t>(conv.kernel);
    auto const outputs = static_cast<std::size_t>(conv.channels);
    placed.weights = take(outputs * inputs, ParameterKind::weight);
    placed.biases = take(outputs, ParameterKind::bias);
  }

  void infer(MaxPool const& pool, PlacedLayer& placed) {
    if (pool.kernel < 1 || pool.stride < 0)
      refuse("MaxPool", "kernel must be positive and stride not negative");
    placed.out = windows("MaxPool", placed.in, placed.in.channels, pool.kernel, 0,
                         pool.stride == 0 ? pool.kernel : pool.stride);
  }

  void infer(Relu const&, PlacedLayer&) {}

  void infer(Dropout const& dropout, PlacedLayer&) {
    if (!(dropout.rate >= 0 && dropout.rate < 1))
      refuse("Dropout", "a rate of " + std::to_string(dropout.rate) + " is not in [0, 1)");
  }

  void infer(Linear const& linear, PlacedLayer& placed) {
    if (linear.outputs < 1) refuse("Linear", "outputs must be positive");
    placed.out = {linear.outputs, 1, 1};
    auto const outputs = static_cast<std::size_t>(linear.outputs);
    placed.weights = take(outputs * placed.in.size(), ParameterKind::weight);
    placed.biases = take(outputs, ParameterKind::bias);
  }

  void infer(BatchNorm const& norm, PlacedLayer& placed) {
    if (!(norm.epsilon > 0)) refuse("BatchNorm", "epsilon must be positive");
    auto const channels = static_cast<std::size_t>(placed.in.channels);
    placed.weights = take(channels, ParameterKind::normalization);
    placed.biases = take(channels, ParameterKind::normalization);
  }

  void infer(Lrn const& lrn, PlacedLayer&) {
    if (lrn.size < 1 || lrn.size % 2 == 0) refuse("Lrn", "size must be odd and positive");
    if (!(lrn.k > 0 && lrn.alpha >= 0 && std::isfinite(lrn.k + lrn.alpha + lrn.beta)))
      refuse("Lrn", "k must be positive, alpha not negative, and all of them finite");
  }

  Shape windows(char const* name, Shape in, int channels, int kernel, int pad, int stride) const {
    int const height = in.height + 2 * pad - kernel, width = in.width + 2 * pad - kernel;
    if (height < 0 || width < 0)
      refuse(name, "a window of " + std::to_string(kernel) + "x" + std::to_string(kernel) +
                       " does not fit into its input of " + to_string(in) + " padded by " +
                       std::to_string(pad));
    return {channels, height / stride + 1, width / stride + 1};
  }

  ParameterGroup take(std::size_t count, ParameterKind kind) {
    return {std::exchange(parameters_, parameters_ + count), count, kind};
  }

  [[noreturn]] void refuse(char const* name, std::string const& why) const {
    throw ConfigError("layer " + std::to_string(layers_.size() - 1) + " (" + name + ", input " +
                      to_string(layers_.back().in) + "): " + why);
  }

  Shape input_;
  std::vector<PlacedLayer> layers_;
  std::size_t parameters_ = 0;
};

}  // namespace elastic::model
