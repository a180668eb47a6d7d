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
  ParameterGroup weights = {};                        ///< of a BatchNorm: gamma
  ParameterGroup biases = {};                         ///< of a BatchNorm: beta
  std::vector<std::vector<PlacedLayer>> nested = {};  ///< of Branches: each one's; of an Auxiliary: one list
};

/// Calls f(placed) for each layer, then for those that it holds: the order of the flat vector.
template <class F>
void for_each_layer(std::vector<PlacedLayer> const& layers, F const& f) {
  for (PlacedLayer const& placed : layers) {
    f(placed);
    for (std::vector<PlacedLayer> const& inner : placed.nested) for_each_layer(inner, f);
  }
}

/// A feed-forward classifier: an input shape and layers, the last of which yields one logit a class.
class Architecture {
 public:
  /// Infers all shapes. Throws ConfigError, naming the layer by its index, within others by the path there, and the
  /// shapes, where they cannot be.
  Architecture(Shape input, std::vector<Layer> const& layers) : input_(input) {
    if (input.channels < 1 || input.height < 1 || input.width < 1)
      throw ConfigError("a net's input of " + to_string(input) + " has no values");
    layers_ = place(layers, input, "");
    if (!classifies(layers_))
      throw ConfigError(
          "a net's last layer must be a Linear, or a Conv that leaves one pixel, and yield one " +
          ("logit a class for two classes or more; this net yields " +
           to_string(layers.empty() ? input : layers_.back().out)));
    for (auto const& [where, logits] : auxiliaries_)
      if (logits != classes())
        throw ConfigError(where + " (Auxiliary): yields " + std::to_string(logits) + " logits in a net of " +
                          std::to_string(classes()) + " classes");
  }

  Shape input() const { return input_; }
  int classes() const { return layers_.back().out.channels; }
  std::size_t parameter_count() const { return parameters_; }
  std::vector<PlacedLayer> const& layers() const& { return layers_; }
  std::vector<PlacedLayer> const& layers() const&& = delete;  // it would outlive its owner

  /// All parameters in the order of the flat vector, without gaps: weights, then biases of each layer.
  std::vector<ParameterGroup> groups() const {
    std::vector<ParameterGroup> all;
    for_each_layer(layers_, [&](PlacedLayer const& placed) {
      if (placed.weights.count > 0) all.push_back(placed.weights);
      if (placed.biases.count > 0) all.push_back(placed.biases);
    });
    return all;
  }

 private:
  static bool classifies(std::vector<PlacedLayer> const& layers) {
    if (layers.empty()) return false;
    PlacedLayer const& last = layers.back();
    return (std::holds_alternative<Linear>(last.layer) || std::holds_alternative<Conv>(last.layer)) &&
           last.out.height == 1 && last.out.width == 1 && last.out.channels >= 2;
  }

  std::vector<PlacedLayer> place(std::vector<Layer> const& layers, Shape in, std::string const& path) {
    std::vector<PlacedLayer> chain;
    for (Layer const& layer : layers) {
      where_ = path + "layer " + std::to_string(chain.size());
      chain.push_back({layer, in, in});
      std::visit([&](auto const& kind) { infer(kind, chain.back()); }, layer);
      in = chain.back().out;
    }
    return chain;
  }

  void infer(Conv const& conv, PlacedLayer& placed) {
    if (conv.channels < 1 || conv.kernel < 1 || conv.stride < 1 || conv.pad < 0 || conv.groups < 1)
      refuse("Conv", placed, "channels, kernel, stride and groups must be positive and pad not negative");
    if (placed.in.channels % conv.groups != 0 || conv.channels % conv.groups != 0)
      refuse("Conv", placed,
             std::to_string(conv.groups) + " groups do not divide " + std::to_string(placed.in.channels) +
                 " input and " + std::to_string(conv.channels) + " output channels");
    placed.out = windows("Conv", placed, conv.channels, conv.kernel, conv.pad, conv.stride);
    std::size_t const inputs = static_cast<std::size_t>(placed.in.channels / conv.groups) *
                               static_cast<std::size_t>(conv.kernel) * static_cast<std::size_t>(conv.kernel);
    auto const outputs = static_cast<std::size_t>(conv.channels);
    placed.weights = take(outputs * inputs, ParameterKind::weight);
    placed.biases = take(outputs, ParameterKind::bias);
  }

  void infer(MaxPool const& pool, PlacedLayer& placed) {
    if (pool.kernel < 1 || pool.stride < 0 || pool.pad < 0 || pool.pad >= pool.kernel)
      refuse("MaxPool", placed,
             "kernel must be positive, stride not negative and pad 0 to less than the kernel");
    placed.out = windows("MaxPool", placed, placed.in.channels, pool.kernel, pool.pad,
                         pool.stride == 0 ? pool.kernel : pool.stride);
  }

  void infer(AvgPool const& pool, PlacedLayer& placed) {
    if (pool.kernel < 1 || pool.stride < 0)
      refuse("AvgPool", placed, "kernel must be positive and stride not negative");
    placed.out = windows("AvgPool", placed, placed.in.channels, pool.kernel, 0,
                         pool.stride == 0 ? pool.kernel : pool.stride);
  }

  void infer(Relu const&, PlacedLayer&) {}

  void infer(Dropout const& dropout, PlacedLayer const& placed) {
    if (!(dropout.rate >= 0 && dropout.rate < 1))
      refuse("Dropout", placed, "a rate of " + std::to_string(dropout.rate) + " is not in [0, 1)");
  }

  void infer(Linear const& linear, PlacedLayer& placed) {
    if (linear.outputs < 1) refuse("Linear", placed, "outputs must be positive");
    placed.out = {linear.outputs, 1, 1};
    auto const outputs = static_cast<std::size_t>(linear.outputs);
    placed.weights = take(outputs * placed.in.size(), ParameterKind::weight);
    placed.biases = take(outputs, ParameterKind::bias);
  }

  void infer(BatchNorm const& norm, PlacedLayer& placed) {
    if (!(norm.epsilon > 0)) refuse("BatchNorm", placed, "epsilon must be positive");
    auto const channels = static_cast<std::size_t>(placed.in.channels);
    placed.weights = take(channels, ParameterKind::normalization);
    placed.biases = take(channels, ParameterKind::normalization);
  }

  void infer(Lrn const& lrn, PlacedLayer const& placed) {
    if (lrn.size < 1 || lrn.size % 2 == 0) refuse("Lrn", placed, "size must be odd and positive");
    if (!(lrn.k > 0 && lrn.alpha >= 0 && std::isfinite(lrn.k + lrn.alpha + lrn.beta)))
      refuse("Lrn", placed, "k must be positive, alpha not negative, and all of them finite");
  }

  void infer(Branches const& split, PlacedLayer& placed) {
    std::string const here = where_;
    if (split.branches.empty()) refuse("Branches", placed, "there must be one branch or more");
    Shape& out = placed.out = {};
    for (std::vector<Layer> const& branch : split.branches) {
      std::string const number = std::to_string(placed.nested.size());
      placed.nested.push_back(place(branch, placed.in, here + ", branch " + number + ", "));
      where_ = here;
      Shape const one = branch.empty() ? placed.in : placed.nested.back().back().out;
      if (out.channels > 0 && (one.height != out.height || one.width != out.width))
        refuse("Branches", placed,
               "branch " + number + " yields " + to_string(one) + " and those before it " + to_string(out));
      out = {out.channels + one.channels, one.height, one.width};
    }
  }

  void infer(Auxiliary const& side, PlacedLayer& placed) {
    std::string const here = where_;
    if (!(side.weight > 0 && std::isfinite(side.weight)))
      refuse("Auxiliary", placed, "weight must be positive");
    std::size_t const others = auxiliaries_.size();
    placed.nested.push_back(place(side.layers, placed.in, here + ", auxiliary, "));
    where_ = here;
    if (!classifies(placed.nested[0])) refuse("Auxiliary", placed, "its last layer must be as that of a net");
    if (auxiliaries_.size() != others) refuse("Auxiliary", placed, "it holds another Auxiliary");
    auxiliaries_.emplace_back(here, placed.nested[0].back().out.channels);
  }

  Shape windows(char const* name, PlacedLayer const& placed, int channels, int kernel, int pad,
                int stride) const {
    int const height = placed.in.height + 2 * pad - kernel, width = placed.in.width + 2 * pad - kernel;
    if (height < 0 || width < 0)
      refuse(name, placed,
             "a window of " + std::to_string(kernel) + "x" + std::to_string(kernel) +
                 " does not fit into its input of " + to_string(placed.in) + " padded by " +
                 std::to_string(pad));
    return {channels, height / stride + 1, width / stride + 1};
  }

  ParameterGroup take(std::size_t count, ParameterKind kind) {
    return {std::exchange(parameters_, parameters_ + count), count, kind};
  }

  [[noreturn]] void refuse(char const* name, PlacedLayer const& placed, std::string const& why) const {
    throw ConfigError(where_ + " (" + name + ", input " + to_string(placed.in) + "): " + why);
  }

  Shape input_;
  std::vector<PlacedLayer> layers_;
  std::size_t parameters_ = 0;
  std::string where_;                                     // the layer being placed
  std::vector<std::pair<std::string, int>> auxiliaries_;  // where each is, and its logits
};

}  // namespace elastic::model
