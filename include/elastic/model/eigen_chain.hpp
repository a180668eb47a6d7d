// SPDX-License-Identifier: Apache-2.0
// The layers of EigenNet one after the other: a net, one of Branches, or an Auxiliary, and what the last two do with
// theirs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/eigen_layers.hpp"
#include "elastic/model/eigen_lrn.hpp"
#include "elastic/model/eigen_pools.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/model/softmax.hpp"

namespace elastic::model::detail {

/// What the layers of a net are made for.
struct EigenSite {
  float const* parameters;
  float* gradients;
  Moments* moments;  // of the next BatchNorm
  int max_batch;

  Bound bound(PlacedLayer const& placed) const {
    return {parameters + placed.weights.offset, parameters + placed.biases.offset,
            gradients + placed.weights.offset, gradients + placed.biases.offset};
  }
};

/// How many values per image gradients take on their way back through `layers`: those of a layer's output and input
/// take turns with two arrays; behind these, layers that hold others have room for theirs.
inline Index slope_room(std::vector<PlacedLayer> const& layers) {
  Index largest = 0, inner = 0;
  for (PlacedLayer const& placed : layers) {
    largest = std::max(largest, static_cast<Index>(placed.in.size()));
    for (std::vector<PlacedLayer> const& nested : placed.nested)
      inner = std::max(inner, static_cast<Index>(placed.out.size()) + slope_room(nested));
  }
  return 2 * largest + inner;
}

/// Branches: copies their outputs next to each other, and adds up the gradients of their input.
template <class Chain>
class EigenBranches {
 public:
  EigenBranches(PlacedLayer const& placed, EigenSite& site, float* slopes, bool passes_gradient)
      : channels_(placed.out.channels),
        pixels_(static_cast<Index>(placed.out.height) * placed.out.width),
        inputs_(static_cast<Index>(placed.in.size())),
        slope_(slopes),
        y_(values(static_cast<Index>(placed.out.size()) * site.max_batch)) {
    float* const inner = slopes + static_cast<Index>(placed.out.size()) * site.max_batch;
    for (std::vector<PlacedLayer> const& branch : placed.nested)
      branches_.push_back({Chain(branch, placed.in, site, inner, passes_gradient),
                           branch.empty() ? placed.in.channels : branch.back().out.channels});
  }

  float* forward(Pass pass, float* x, Index count, Step& step) {
    float* const y = y_.span().data();
    Index first = 0;
    for (Branch& branch : branches_) {
      float const* const from = branch.layers.forward(pass, x, count, step);
      for (Index p = 0; p < count * pixels_; ++p)
        std::copy_n(from + p * branch.channels, branch.channels, y + p * channels_ + first);
      first += branch.channels;
    }
    return y;
  }

  float* backward(float* dy, float* dx, Index count) {
    if (dx != nullptr) std::fill_n(dx, count * inputs_, 0.0f);
    Index first = 0;
    for (Branch& branch : branches_) {
      for (Index p = 0; p < count * pixels_; ++p)
        std::copy_n(dy + p * channels_ + first, branch.channels, slope_ + p * branch.channels);
      float const* const part = branch.layers.backward(slope_, count);
      if (dx != nullptr) add_rows(part, 1, count * inputs_, dx);
      first += branch.channels;
    }
    return dx;
  }

 private:
  struct Branch {
    Chain layers;
    Index channels;
  };
  Index channels_, pixels_, inputs_;
  float* slope_;  // of one branch's output
  std::vector<Branch> branches_;
  Values y_;
};

/// Auxiliary: goes its own way and back while it trains forward, before a layer that works in place alters its input.
template <class Chain>
class EigenAuxiliary {
 public:
  EigenAuxiliary(PlacedLayer const& placed, double weight, EigenSite& site, float* slopes,
                 bool passes_gradient)
      : weight_(weight),
        inputs_(static_cast<Index>(placed.in.size())),
        classes_(placed.nested[0].back().out.channels),
        layers_(placed.nested[0], placed.in, site, slopes, passes_gradient),
        slope_(values(passes_gradient ? inputs_ * site.max_batch : 0)),
        predictions_(static_cast<std::size_t>(site.max_batch)) {}

  float* forward(Pass pass, float* x, Index count, Step& step) {
    if (pass != Pass::train) return x;
    auto const rows = static_cast<std::size_t>(count);
    std::span const logits(layers_.forward(pass, x, count, step), rows * static_cast<std::size_t>(classes_));
    step.auxiliary_loss +=
        weight_ *
        softmax_cross_entropy(logits, step.labels, classes_, std::span(predictions_).first(rows)).loss();
    for (float& slope : logits) slope *= static_cast<float>(weight_);
    float const* const dx = layers_.backward(logits.data(), count);
    if (!slope_.span().empty()) std::copy_n(dx, count * inputs_, slope_.span().data());
    return x;
  }

  /// Adds its input's gradient, in place.
  float* backward(float* dy, float* dx, Index count) {
    if (dx != nullptr) add_rows(slope_.span().data(), 1, count * inputs_, dy);
    return dy;
  }

 private:
  double weight_;
  Index inputs_;
  int classes_;
  Chain layers_;
  Values slope_;
  std::vector<int> predictions_;
};

/// Layers in the order in which they run.
class EigenChain {
 public:
  /// For inputs of shape `in`. `slopes` is room for slope_room() values per image of site.max_batch. Without
  /// `passes_gradient`, that of the input is not wanted.
  EigenChain(std::vector<PlacedLayer> const& placed, Shape in, EigenSite& site, float* slopes,
             bool passes_gradient)
      : inputs_(static_cast<Index>(in.size())), slopes_(slopes), copy_(values(0)) {
    Schedule const schedule = make_schedule(placed);
    last_ = passes_gradient ? 0 : schedule.first_trained;
    passes_gradient_ = passes_gradient;
    std::size_t largest = 0;
    for (PlacedLayer const& each : placed) largest = std::max(largest, each.in.size());
    largest_ = static_cast<Index>(largest) * site.max_batch;
    if (alters_input(schedule.layers)) copy_ = values(inputs_ * site.max_batch);
    for (PlacedLayer const& each : schedule.layers)
      std::visit([&](auto const& layer) { add(layer, each, site); }, each.layer);
  }

  /// The last layer's output. Leaves `x` as it is.
  float* forward(Pass pass, float* x, Index count, Step& step) {
    if (!copy_.span().empty()) x = std::copy_n(x, count * inputs_, copy_.span().data()) - count * inputs_;
    for (Layer& layer : layers_)
      x = std::visit([&](auto& kind) { return kind.forward(pass, x, count, step); }, layer);
    return x;
  }

  /// The input's gradient, if it is wanted, from the output's, which may be overwritten.
  float* backward(float* dy, Index count) {
    float* spare = slopes_;
    float* next = slopes_ + largest_;
    for (std::size_t i = layers_.size(); i-- > last_;) {
      float* const wanted = passes_to(i) ? spare : nullptr;
      float* const dx = std::visit([&](auto& kind) { return kind.backward(dy, wanted, count); }, layers_[i]);
      if (dx == spare) std::swap(spare, next);
      dy = dx;
    }
    return dy;
  }

 private:
  using Layer = std::variant<EigenProduct, EigenPool, EigenAverage, EigenRelu, EigenDropout, EigenNorm,
                             EigenLrn, EigenBranches<EigenChain>, EigenAuxiliary<EigenChain>>;

  bool passes_to(std::size_t layer) const { return passes_gradient_ || layer > last_; }
  float* inner_slopes() const { return slopes_ + 2 * largest_; }

  void add(Conv const& conv, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenProduct>, placed.in, placed.out, conv, conv.kernel,
                         conv.kernel, site.bound(placed), site.max_batch);
  }
  void add(Linear const&, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenProduct>, placed.in, placed.out, Conv{}, placed.in.height,
                         placed.in.width, site.bound(placed), site.max_batch);
  }
  void add(MaxPool const& pool, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenPool>, placed.in, placed.out, pool, site.max_batch);
  }
  void add(AvgPool const& pool, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenAverage>, placed.in, placed.out, pool, site.max_batch);
  }
  void add(Relu const&, PlacedLayer const& placed, EigenSite&) {
    layers_.emplace_back(std::in_place_type<EigenRelu>, placed.in);
  }
  void add(Dropout const& dropout, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenDropout>, placed.in, dropout.rate, site.max_batch);
  }
  void add(BatchNorm const& norm, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenNorm>, placed.in, norm.epsilon, site.bound(placed),
                         *site.moments++, site.max_batch);
  }
  void add(Lrn const& lrn, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenLrn>, placed.in, lrn, site.max_batch);
  }
  void add(Branches const&, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenBranches<EigenChain>>, placed, site, inner_slopes(),
                         passes_to(layers_.size()));
  }
  void add(Auxiliary const& side, PlacedLayer const& placed, EigenSite& site) {
    layers_.emplace_back(std::in_place_type<EigenAuxiliary<EigenChain>>, placed, side.weight, site,
                         inner_slopes(), passes_to(layers_.size()));
  }

  Index inputs_, largest_ = 0;
  bool passes_gradient_ = false;
  std::size_t last_ = 0;  // the last layer on the way back
  float* slopes_;
  Values copy_;  // of the input, for a layer that works in place
  std::vector<Layer> layers_;
};

}  // namespace elastic::model::detail
