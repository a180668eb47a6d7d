// SPDX-License-Identifier: Apache-2.0
// The layers of DeviceNet one after the other: a net, one of Branches, or an Auxiliary, and what the last two do with
// theirs. Longer than most headers: the ways forward and backward of a layer stand together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/detail/device_feed.hpp"
#include "elastic/model/detail/device_index.hpp"
#include "elastic/model/detail/device_layers.hpp"
#include "elastic/model/detail/device_loss.hpp"
#include "elastic/model/detail/device_lrn.hpp"
#include "elastic/model/detail/device_norm.hpp"
#include "elastic/model/detail/device_pools.hpp"
#include "elastic/model/detail/scratch.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/ops.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

/// What the layers of a net are made for, and what those made so far need.
template <class Dev, class Kit>
struct DeviceSite {
  Dev& device;
  Kit& kit;
  std::size_t most;
  float const* parameters;
  float* gradients;
  std::vector<Dropped> dropouts = {};
  std::size_t masks = 0, moments = 0, workspace_bytes = 0, auxiliaries = 0;

  DeviceParameters bound(PlacedLayer const& placed) const {
    return {parameters + placed.weights.offset, parameters + placed.biases.offset,
            gradients + placed.weights.offset, gradients + placed.biases.offset};
  }
};

/// Floats that keep what follows them aligned.
inline std::size_t aligned(std::size_t floats) { return Scratch::room<float>(floats) / sizeof(float); }

/// The largest activation of `layers`, in values per image.
inline std::size_t largest_of(std::vector<PlacedLayer> const& layers) {
  std::size_t values = 0;
  for (PlacedLayer const& placed : layers) values = std::max({values, placed.in.size(), placed.out.size()});
  return values;
}

/// How many floats gradients take on their way back through `layers`: those of a layer's output and input take turns
/// with two arrays; behind these, layers that hold others have room for theirs.
inline std::size_t slope_room(std::vector<PlacedLayer> const& layers, std::size_t most) {
  std::size_t inner = 0;
  for (PlacedLayer const& placed : layers)
    for (std::vector<PlacedLayer> const& nested : placed.nested)
      inner = std::max(inner, aligned(placed.out.size() * most) + slope_room(nested, most));
  return 2 * aligned(largest_of(layers) * most) + inner;
}

/// Copies channels of each image between an array of its own and a larger one.
struct CopyChannels {
  std::uint32_t size;  // of an image's part
  std::size_t whole, before;
  float* part;
  float* all;
  bool join;
  ELASTIC_FN void operator()(std::size_t i) const {
    std::uint32_t const image = static_cast<std::uint32_t>(i) / size;
    float& there = all[image * whole + before + (i - std::size_t(image) * size)];
    if (join)
      there = part[i];
    else
      part[i] = there;
  }
};
/// to = from, or to += from.
struct TakeSlope {
  float const* from;
  float* to;
  bool add;
  ELASTIC_FN void operator()(std::size_t i) const { to[i] = add ? to[i] + from[i] : from[i]; }
};
struct AddAuxiliaryLoss {
  double const* sum;
  double weight;
  double* to;
  bool first;
  ELASTIC_FN void operator()(std::size_t) const { *to = (first ? 0.0 : *to) + weight * *sum; }
};

/// Branches: copies their outputs next to each other, and adds up the gradients of their input.
template <class Chain, class Dev>
class DeviceBranches {
 public:
  template <class Site>
  DeviceBranches(PlacedLayer const& placed, Site& site, float* slopes, bool passes_gradient)
      : in_(placed.in.size()),
        out_(placed.out.size()),
        slope_(slopes),
        y_(site.device.template allocate<float>(site.most * out_)) {
    for (std::vector<PlacedLayer> const& branch : placed.nested)
      branches_.push_back(
          {Chain(branch, placed.in, site, slopes + aligned(out_ * site.most), passes_gradient),
           (branch.empty() ? placed.in : branch.back().out).size()});
  }

  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    std::size_t before = 0;
    for (Branch& branch : branches_) {
      float* const part = branch.layers.forward(run, pass, x, count);
      copy(run, branch, before, part, y_.span().data(), true, count);
      before += branch.size;
    }
    return y_.span().data();
  }

  template <class Run>
  float* backward(Run& run, float* dy, float* dx, std::size_t count) {
    std::size_t before = 0;
    for (Branch& branch : branches_) {
      copy(run, branch, before, slope_, dy, false, count);
      float const* const part = branch.layers.backward(run, slope_, count);
      if (dx != nullptr) run.device.launch(count * in_, TakeSlope{part, dx, before > 0});
      before += branch.size;
    }
    return dx;
  }

 private:
  struct Branch {
    Chain layers;
    std::size_t size;  // of its output
  };
  template <class Run>
  void copy(Run& run, Branch const& branch, std::size_t before, float* part, float* all, bool join,
            std::size_t count) const {
    run.device.launch(count * branch.size,
                      CopyChannels{static_cast<std::uint32_t>(branch.size), out_, before, part, all, join});
  }

  std::size_t in_, out_;
  float* slope_;  // of one branch's output
  std::vector<Branch> branches_;
  typename Dev::template Buffer<float> y_;
};

/// Auxiliary: goes its own way and back while it trains forward, before a layer that works in place alters its input.
template <class Chain, class Dev>
class DeviceAuxiliary {
 public:
  template <class Site>
  DeviceAuxiliary(PlacedLayer const& placed, double weight, Site& site, float* slopes, bool passes_gradient)
      : weight_(weight),
        in_(placed.in.size()),
        first_(site.auxiliaries++ == 0),
        passes_gradient_(passes_gradient),
        layers_(placed.nested[0], placed.in, site, slopes, passes_gradient),
        loss_(site.device, placed.nested[0].back().out.channels, site.most),
        slope_(site.device.template allocate<float>(passes_gradient ? site.most * in_ : 0)) {}

  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    if (pass != Pass::train) return x;
    float* const logits = layers_.forward(run, pass, x, count);
    loss_.run(run.device, logits, run.labels, count, true, weight_);
    run.device.launch(1, AddAuxiliaryLoss{loss_.results(count).data(), weight_, run.auxiliary_loss, first_});
    float const* const dx = layers_.backward(run, logits, count);
    if (passes_gradient_) run.device.launch(count * in_, TakeSlope{dx, slope_.span().data(), false});
    return x;
  }

  /// Adds its input's gradient, in place.
  template <class Run>
  float* backward(Run& run, float* dy, float*, std::size_t count) {
    if (passes_gradient_) run.device.launch(count * in_, TakeSlope{slope_.span().data(), dy, true});
    return dy;
  }

 private:
  double weight_;
  std::size_t in_;
  bool first_, passes_gradient_;
  Chain layers_;
  DeviceLoss<Dev> loss_;
  typename Dev::template Buffer<float> slope_;
};

/// Layers in the order in which they run.
template <class Dev, class Kit>
class DeviceChain {
 public:
  using Site = DeviceSite<Dev, Kit>;

  /// For inputs of shape `in`. `slopes` is room for slope_room() values. Without `passes_gradient`, that of the input
  /// is not wanted.
  DeviceChain(std::vector<PlacedLayer> const& placed, Shape in, Site& site, float* slopes,
              bool passes_gradient)
      : in_(in.size()),
        largest_(aligned(largest_of(placed) * site.most)),
        passes_gradient_(passes_gradient),
        slopes_(slopes),
        copy_(site.device.template allocate<float>(0)) {
    if (!fits(site.most * largest_of(placed))) refuse_index("a layer's activations");
    Schedule const schedule = make_schedule(placed);
    last_ = passes_gradient ? 0 : schedule.first_trained;
    if ((copies_ = alters_input(schedule.layers)))
      copy_ = site.device.template allocate<float>(site.most * in_);
    for (PlacedLayer const& each : schedule.layers)
      std::visit([&](auto const& layer) { add(layer, each, site); }, each.layer);
  }

  /// The last layer's output. Leaves `x` as it is.
  template <class Run>
  float* forward(Run& run, Pass pass, float* x, std::size_t count) {
    if (copies_) {
      run.device.launch(count * in_, TakeSlope{x, copy_.span().data(), false});
      x = copy_.span().data();
    }
    for (Layer& layer : layers_)
      x = std::visit([&](auto& kind) { return kind.forward(run, pass, x, count); }, layer);
    return x;
  }

  /// The input's gradient, if it is wanted, from the output's, which may be overwritten.
  template <class Run>
  float* backward(Run& run, float* dy, std::size_t count) {
    float* spare = slopes_;
    float* next = slopes_ + largest_;
    for (std::size_t i = layers_.size(); i-- > last_;) {
      float* const wanted = passes_to(i) ? spare : nullptr;
      float* const dx =
          std::visit([&](auto& kind) { return kind.backward(run, dy, wanted, count); }, layers_[i]);
      if (dx == spare) std::swap(spare, next);
      dy = dx;
    }
    return dy;
  }

 private:
  using Product = DeviceProduct<Dev, typename Kit::Core>;
  using Split = DeviceBranches<DeviceChain, Dev>;
  using Side = DeviceAuxiliary<DeviceChain, Dev>;
  using Layer = std::variant<Product, DevicePool<Dev>, DeviceAverage<Dev>, DeviceRelu<Dev>,
                             DeviceDropout<Dev>, DeviceNorm<Dev>, DeviceLrn<Dev>, Split, Side>;

  bool passes_to(std::size_t layer) const { return passes_gradient_ || layer > last_; }
  float* inner_slopes() const { return slopes_ + 2 * largest_; }

  template <class Kind>
  void add_product(Kind const& kind, PlacedLayer const& placed, Site& site) {
    Product product(site.device, placed, site.bound(placed),
                    site.kit.core(kind, placed, static_cast<int>(site.most)), site.most);
    site.workspace_bytes = std::max(site.workspace_bytes, product.workspace());
    layers_.emplace_back(std::move(product));
  }
  void add(Conv const& conv, PlacedLayer const& placed, Site& site) { add_product(conv, placed, site); }
  void add(Linear const& linear, PlacedLayer const& placed, Site& site) { add_product(linear, placed, site); }
  void add(MaxPool const& pool, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<DevicePool<Dev>>, site.device, placed, pool, site.most);
  }
  void add(AvgPool const& pool, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<DeviceAverage<Dev>>, site.device, placed, pool, site.most);
  }
  void add(Relu const&, PlacedLayer const& placed, Site&) {
    layers_.emplace_back(std::in_place_type<DeviceRelu<Dev>>, placed);
  }
  void add(Dropout const& dropout, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<DeviceDropout<Dev>>, placed, site.masks);
    site.dropouts.push_back({placed.in.size(), dropout.rate});
    site.masks += placed.in.size();
  }
  void add(BatchNorm const& norm, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<DeviceNorm<Dev>>, site.device, placed, norm, site.bound(placed),
                         site.moments, site.most);
    site.moments += 2 * static_cast<std::size_t>(placed.in.channels);
  }
  void add(Lrn const& lrn, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<DeviceLrn<Dev>>, site.device, placed, lrn, site.most);
  }
  void add(Branches const&, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<Split>, placed, site, inner_slopes(), passes_to(layers_.size()));
  }
  void add(Auxiliary const& side, PlacedLayer const& placed, Site& site) {
    layers_.emplace_back(std::in_place_type<Side>, placed, side.weight, site, inner_slopes(),
                         passes_to(layers_.size()));
  }

  std::size_t in_, largest_;
  bool passes_gradient_, copies_ = false;
  std::size_t last_ = 0;  // the last layer on the way back
  float* slopes_;
  typename Dev::template Buffer<float> copy_;  // of the input, for a layer that works in place
  std::vector<Layer> layers_;
};

}  // namespace elastic::model::detail
