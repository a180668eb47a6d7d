// SPDX-License-Identifier: Apache-2.0
// An architecture as two lists of oneDNN calls. Forward calls are made layer by layer; each trained layer
// leaves behind how its backward calls are made, once the layout of the gradient it receives is known.
// Longer than most headers: the forward and backward calls of a layer stand together.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/onednn_program.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

/// A net for one batch size, forward only or with backward calls.
class OnednnProgram {
 public:
  OnednnProgram(std::vector<PlacedLayer> const& layers, Shape input, int count, bool trains,
                Span<float const> parameters, Span<float> gradients, std::span<Moments> moments,
                dnnl::engine const& engine)
      : shop_(engine),
        stream_(engine),
        count_(count),
        trains_(trains),
        parameters_(parameters),
        gradients_(gradients),
        moments_(moments) {
    input_ = x_ = shop_.view(nullptr, dims(input), dnnl::memory::format_tag::nchw);
    add_chain(layers, /*passes_gradient=*/false);
    logits_ = as(x_, dense(x_), forward_);
    unwind(unwinds_, logits_);
    shop_.share_scratchpad();
  }
  OnednnProgram(OnednnProgram const&) = delete;  // its calls hold pointers into it
  OnednnProgram& operator=(OnednnProgram const&) = delete;

  /// The logits, which the caller overwrites with their gradient before backward().
  std::span<float> forward(Pass pass, Batch const& batch, Generator& random) {
    input_.set_data_handle(const_cast<float*>(batch.images.data()));
    auxiliary_loss_ = 0;
    run(forward_, pass, batch, random);
    return values(logits_);
  }

  void backward() const { run_back(backward_); }

  /// What Auxiliaries added to the mean loss of the last forward().
  double auxiliary_loss() const { return auxiliary_loss_; }

 private:
  using Memory = dnnl::memory;
  using Shapes = dnnl::memory::desc;
  using Tag = dnnl::memory::format_tag;

  /// Dropout, in place, on values in the order of NCHW.
  struct Drop {
    Memory values;
    double rate;
    std::vector<float>* mask;

    void run() const {
      auto* const x = static_cast<float*>(values.get_data_handle());
      for (std::size_t i = 0; i < mask->size(); ++i) x[i] *= (*mask)[i];
    }
  };
  struct Tower;
  using Step = std::variant<OnednnCall, Drop, Tower*>;
  using Steps = std::vector<Step>;
  using Unwinds = std::vector<std::function<Memory(Memory const&)>>;

  /// An Auxiliary: its way and back, made while the net trains forward.
  struct Tower {
    double weight;
    Steps forward, backward;
    Memory logits;
    std::vector<int> predictions;
  };

  struct Place {
    bool before_relu, trained, passes_gradient;
  };

  static std::span<float> values(Memory const& memory) {
    return {static_cast<float*>(memory.get_data_handle()), memory.get_desc().get_size() / sizeof(float)};
  }

  void run(Steps const& steps, Pass pass, Batch const& batch, Generator& random) {
    for (Step const& step : steps) {
      if (auto const* call = std::get_if<OnednnCall>(&step)) {
        call->run(stream_);
      } else if (pass != Pass::train) {
        continue;
      } else if (auto const* drop = std::get_if<Drop>(&step)) {
        draw_dropout_mask(random, drop->rate, *drop->mask);
        drop->run();
      } else {
        Tower& tower = *std::get<Tower*>(step);
        run(tower.forward, pass, batch, random);
        std::span const logits = values(tower.logits);
        auto const classes = static_cast<int>(logits.size() / tower.predictions.size());
        auxiliary_loss_ +=
            tower.weight * softmax_cross_entropy(logits, batch.labels, classes, tower.predictions).loss();
        for (float& slope : logits) slope *= static_cast<float>(tower.weight);
        run_back(tower.backward);
      }
    }
  }
  void run_back(Steps const& steps) const {
    for (Step const& step : steps) {
      if (auto const* call = std::get_if<OnednnCall>(&step))
        call->run(stream_);
      else
        std::get<Drop>(step).run();
    }
  }

  /// Layers that follow one another. Their input, x_, belongs to others.
  void add_chain(std::vector<PlacedLayer> const& layers, bool passes_gradient) {
    Schedule const schedule = make_schedule(layers);
    Place const outer = place_;
    Memory const outer_input = std::exchange(chain_input_, x_);
    for (std::size_t i = 0; i < schedule.layers.size(); ++i) {
      place_ = {.before_relu = i + 1 < schedule.layers.size() &&
                               std::holds_alternative<Relu>(schedule.layers[i + 1].layer),
                .trained = trains_ && (passes_gradient || i >= schedule.first_trained),
                .passes_gradient = passes_gradient || i > schedule.first_trained};
      std::visit([&](auto const& layer) { add(layer, schedule.layers[i]); }, schedule.layers[i].layer);
    }
    chain_input_ = outer_input;
    place_ = outer;
  }

  static Memory unwind(Unwinds const& unwinds, Memory slope) {
    for (std::size_t i = unwinds.size(); i-- > 0;) slope = unwinds[i](slope);
    return slope;
  }

  void add(Conv const& conv, PlacedLayer const& placed) {
    expect_images(placed.in);
    Memory::dim const groups = conv.groups, inputs = placed.in.channels / groups,
                      outputs = placed.out.channels / groups, kernel = conv.kernel;
    bool const grouped = groups > 1;
    Memory::dims const shape = grouped ? Memory::dims{groups, outputs, inputs, kernel, kernel}
                                       : Memory::dims{outputs, inputs, kernel, kernel};
    Memory::dims const stride{conv.stride, conv.stride}, pad{conv.pad, conv.pad};
    auto const direct = dnnl::algorithm::convolution_direct;
    Shapes const x = any(dims(placed.in)), w = any(shape), y = any(dims(placed.out)),
                 b({placed.out.channels}, Memory::data_type::f32, Tag::a);
    product<dnnl::convolution_forward, dnnl::convolution_backward_weights, dnnl::convolution_backward_data>(
        placed, shape, grouped ? Tag::goihw : Tag::oihw, {kind(), direct, x, w, b, y, stride, pad, pad},
        {direct, x, w, b, y, stride, pad, pad}, {direct, x, w, y, stride, pad, pad});
  }

  void add(Linear const&, PlacedLayer const& placed) {
    Memory::dims input = x_.get_desc().dims(), shape = input;
    shape[0] = placed.out.channels;
    Shapes const x = any(input), w = any(shape), y = any({count_, placed.out.channels}),
                 b({placed.out.channels}, Memory::data_type::f32, Tag::a);
    product<dnnl::inner_product_forward, dnnl::inner_product_backward_weights,
            dnnl::inner_product_backward_data>(placed, shape, shape.size() == 2 ? Tag::oi : Tag::oihw,
                                               {kind(), x, w, b, y}, {x, w, b, y}, {x, w, y});
  }

  /// What convolutions and inner products have in common.
  template <class Forward, class BackwardWeights, class BackwardData>
  void product(PlacedLayer const& placed, Memory::dims const& shape, Tag tag,
               typename Forward::desc const& forward, typename BackwardWeights::desc const& backward_weights,
               typename BackwardData::desc const& backward_data) {
    dnnl::primitive_attr attributes = OnednnWorkshop::make_attributes();
    if (place_.before_relu) {
      dnnl::post_ops relu;
      relu.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
      attributes.set_post_ops(relu);
    }
    typename Forward::primitive_desc const descriptor(forward, attributes, shop_.engine());
    Memory const flat = shop_.view(parameters_.data() + placed.weights.offset, shape, tag);
    Memory const bias = shop_.view(parameters_.data() + placed.biases.offset, {placed.out.channels}, Tag::a);
    Memory const x = as(x_, descriptor.src_desc(), forward_);
    Memory const weights = as(flat, descriptor.weights_desc(), forward_);
    x_ = shop_.room(descriptor.dst_desc());
    forward_.emplace_back(shop_.call(
        descriptor, Forward(descriptor),
        {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, x_}}));
    rectified_ = place_.before_relu;
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this, passes_gradient = place_.passes_gradient](Memory const& slope) {
      typename BackwardWeights::primitive_desc const to_weights(backward_weights, shop_.attributes(),
                                                                shop_.engine(), descriptor);
      Memory const flat_gradient = shop_.view(gradients_.data() + placed.weights.offset, shape, tag);
      Memory const bias_gradient =
          shop_.view(gradients_.data() + placed.biases.offset, {placed.out.channels}, Tag::a);
      bool const is_flat = to_weights.diff_weights_desc() == flat_gradient.get_desc();
      Memory const gradient = is_flat ? flat_gradient : shop_.room(to_weights.diff_weights_desc());
      Memory const known = as(x, to_weights.src_desc(), backward_);
      Memory const given = as(slope, to_weights.diff_dst_desc(), backward_);
      backward_.emplace_back(shop_.call(to_weights, BackwardWeights(to_weights),
                                        {{DNNL_ARG_SRC, known},
                                         {DNNL_ARG_DIFF_DST, given},
                                         {DNNL_ARG_DIFF_WEIGHTS, gradient},
                                         {DNNL_ARG_DIFF_BIAS, bias_gradient}}));
      if (!is_flat) backward_.emplace_back(shop_.reorder(gradient, flat_gradient));
      if (!passes_gradient) return slope;

      typename BackwardData::primitive_desc const to_input(backward_data, shop_.attributes(), shop_.engine(),
                                                           descriptor);
      bool const same = to_input.weights_desc() == weights.get_desc();
      Memory const again = same ? weights : as(flat, to_input.weights_desc(), backward_);
      Memory const passed = as(slope, to_input.diff_dst_desc(), backward_);
      Memory const dx = shop_.room(to_input.diff_src_desc());
      backward_.emplace_back(
          shop_.call(to_input, BackwardData(to_input),
                     {{DNNL_ARG_DIFF_DST, passed}, {DNNL_ARG_WEIGHTS, again}, {DNNL_ARG_DIFF_SRC, dx}}));
      return dx;
    });
  }

  void add(MaxPool const& pool, PlacedLayer const& placed) {
    add_pool(dnnl::algorithm::pooling_max, pool.kernel, pool.stride, pool.pad, placed);
  }
  void add(AvgPool const& pool, PlacedLayer const& placed) {
    add_pool(dnnl::algorithm::pooling_avg_exclude_padding, pool.kernel, pool.stride, 0, placed);
  }
  void add_pool(dnnl::algorithm algorithm, int kernel, int stride_or_0, int padding,
                PlacedLayer const& placed) {
    expect_images(placed.in);
    Memory::dim const step = stride_or_0 == 0 ? kernel : stride_or_0;
    Memory::dims const window{kernel, kernel}, stride{step, step}, pad{padding, padding};
    dnnl::pooling_forward::primitive_desc const descriptor(
        {kind(), algorithm, x_.get_desc(), any(dims(placed.out)), stride, window, pad, pad},
        shop_.attributes(), shop_.engine());
    Memory const x = x_, y = shop_.room(descriptor.dst_desc());
    OnednnArguments arguments{{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}};
    Memory winners;
    if (descriptor.workspace_desc().get_size() > 0)
      arguments[DNNL_ARG_WORKSPACE] = winners = shop_.room(descriptor.workspace_desc());
    forward_.emplace_back(shop_.call(descriptor, dnnl::pooling_forward(descriptor), arguments));
    x_ = y;
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this](Memory const& slope) {
      dnnl::pooling_backward::primitive_desc const back(
          {algorithm, x.get_desc(), y.get_desc(), stride, window, pad, pad}, shop_.attributes(),
          shop_.engine(), descriptor);
      Memory const dx = shop_.room(back.diff_src_desc());
      Memory const given = as(slope, back.diff_dst_desc(), backward_);
      OnednnArguments slopes{{DNNL_ARG_DIFF_DST, given}, {DNNL_ARG_DIFF_SRC, dx}};
      if (winners) slopes[DNNL_ARG_WORKSPACE] = winners;
      backward_.push_back(shop_.call(back, dnnl::pooling_backward(back), slopes));
      return dx;
    });
  }

  void add(Relu const&, PlacedLayer const&) {
    auto const relu = dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
    own_values();
    Memory const y = x_;
    dnnl::eltwise_forward::primitive_desc const descriptor(
        {kind(), trains_ ? relu : dnnl::algorithm::eltwise_relu, y.get_desc(), 0, 0}, shop_.attributes(),
        shop_.engine());
    if (!rectified_)
      forward_.emplace_back(
          shop_.call(descriptor, dnnl::eltwise_forward(descriptor), {{DNNL_ARG_SRC, y}, {DNNL_ARG_DST, y}}));
    rectified_ = false;
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this](Memory const& slope) {
      dnnl::eltwise_backward::primitive_desc const back({relu, y.get_desc(), y.get_desc(), 0, 0},
                                                        shop_.attributes(), shop_.engine(), descriptor);
      Memory const dx = as(slope, y.get_desc(), backward_);
      backward_.emplace_back(
          shop_.call(back, dnnl::eltwise_backward(back),
                     {{DNNL_ARG_DST, y}, {DNNL_ARG_DIFF_DST, dx}, {DNNL_ARG_DIFF_SRC, dx}}));
      return dx;
    });
  }

  void add(Dropout const& dropout, PlacedLayer const& placed) {
    own_values();
    x_ = as(x_, dense(x_), forward_);
    masks_.emplace_back(placed.in.size() * static_cast<std::size_t>(count_));
    Drop const drop{x_, dropout.rate, &masks_.back()};
    forward_.emplace_back(drop);
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this](Memory const& slope) {
      Memory const dx = as(slope, dense(slope), backward_);
      backward_.emplace_back(Drop{dx, drop.rate, drop.mask});
      return dx;
    });
  }

  void add(BatchNorm const& norm, PlacedLayer const& placed) {
    using Flags = dnnl::normalization_flags;
    Flags flags = Flags::use_scale | Flags::use_shift;
    if (!trains_) flags |= Flags::use_global_stats;
    auto const epsilon = static_cast<float>(norm.epsilon);
    dnnl::batch_normalization_forward::primitive_desc const descriptor(
        {kind(), x_.get_desc(), epsilon, flags}, shop_.attributes(), shop_.engine());
    Moments& own = moments_[norms_++];
    auto const vector = [&](float const* values) { return shop_.view(values, {placed.in.channels}, Tag::a); };
    Memory const x = x_, y = shop_.room(descriptor.dst_desc());
    Memory const mean = vector(own.mean.data()), variance = vector(own.variance.data());
    Memory const scale = vector(parameters_.data() + placed.weights.offset);
    Memory const shift = vector(parameters_.data() + placed.biases.offset);
    forward_.emplace_back(shop_.call(descriptor, dnnl::batch_normalization_forward(descriptor),
                                     {{DNNL_ARG_SRC, x},
                                      {DNNL_ARG_MEAN, mean},
                                      {DNNL_ARG_VARIANCE, variance},
                                      {DNNL_ARG_SCALE, scale},
                                      {DNNL_ARG_SHIFT, shift},
                                      {DNNL_ARG_DST, y}}));
    x_ = y;
    if (!place_.trained) return;
    Memory const scale_gradient = vector(gradients_.data() + placed.weights.offset);
    Memory const shift_gradient = vector(gradients_.data() + placed.biases.offset);
    unwinds_.emplace_back([=, this](Memory const& slope) {
      dnnl::batch_normalization_backward::primitive_desc const back(
          {dnnl::prop_kind::backward, x.get_desc(), x.get_desc(), epsilon, flags}, shop_.attributes(),
          shop_.engine(), descriptor);
      Memory const given = as(slope, back.diff_dst_desc(), backward_);
      Memory const dx = shop_.room(back.diff_src_desc());
      backward_.push_back(shop_.call(back, dnnl::batch_normalization_backward(back),
                                     {{DNNL_ARG_SRC, x},
                                      {DNNL_ARG_MEAN, mean},
                                      {DNNL_ARG_VARIANCE, variance},
                                      {DNNL_ARG_SCALE, scale},
                                      {DNNL_ARG_SHIFT, shift},
                                      {DNNL_ARG_DIFF_DST, given},
                                      {DNNL_ARG_DIFF_SRC, dx},
                                      {DNNL_ARG_DIFF_SCALE, scale_gradient},
                                      {DNNL_ARG_DIFF_SHIFT, shift_gradient}}));
      return dx;
    });
  }

  void add(Lrn const& lrn, PlacedLayer const& placed) {
    expect_images(placed.in);
    auto const across = dnnl::algorithm::lrn_across_channels;
    auto const alpha = static_cast<float>(lrn.alpha * lrn.size);  // oneDNN divides by the size
    auto const beta = static_cast<float>(lrn.beta), k = static_cast<float>(lrn.k);
    dnnl::lrn_forward::primitive_desc const descriptor(
        {kind(), across, x_.get_desc(), lrn.size, alpha, beta, k}, shop_.attributes(), shop_.engine());
    Memory const x = x_, y = shop_.room(descriptor.dst_desc());
    OnednnArguments arguments{{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}};
    Memory work;
    if (trains_) arguments[DNNL_ARG_WORKSPACE] = work = shop_.room(descriptor.workspace_desc());
    forward_.emplace_back(shop_.call(descriptor, dnnl::lrn_forward(descriptor), arguments));
    x_ = y;
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this](Memory const& slope) {
      Memory const given = as(slope, x.get_desc(), backward_);
      dnnl::lrn_backward::primitive_desc const back(
          {across, x.get_desc(), given.get_desc(), lrn.size, alpha, beta, k}, shop_.attributes(),
          shop_.engine(), descriptor);
      Memory const dx = shop_.room(back.diff_src_desc());
      backward_.push_back(shop_.call(back, dnnl::lrn_backward(back),
                                     {{DNNL_ARG_SRC, x},
                                      {DNNL_ARG_DIFF_DST, given},
                                      {DNNL_ARG_WORKSPACE, work},
                                      {DNNL_ARG_DIFF_SRC, dx}}));
      return dx;
    });
  }

  void add(Branches const&, PlacedLayer const& placed) {
    Memory const x = x_;
    std::vector<Memory> outputs;
    std::vector<Unwinds> ways_back;
    Unwinds const before = std::exchange(unwinds_, {});
    for (std::vector<PlacedLayer> const& branch : placed.nested) {
      x_ = x;
      add_chain(branch, place_.passes_gradient);
      expect_images(branch.empty() ? placed.in : branch.back().out);
      outputs.push_back(x_);
      ways_back.push_back(std::exchange(unwinds_, {}));
    }
    unwinds_ = before;
    dnnl::concat::primitive_desc const descriptor(1, shapes_of(outputs), shop_.engine(), shop_.attributes());
    x_ = shop_.room(descriptor.dst_desc());
    forward_.emplace_back(shop_.call(descriptor, dnnl::concat(descriptor), together(outputs, x_)));
    if (!place_.trained) return;
    unwinds_.emplace_back([=, this, passes_gradient = place_.passes_gradient](Memory const& slope) {
      std::vector<Memory> slopes;
      Memory::dim first = 0;
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        Memory::dims const part = outputs[i].get_desc().dims();
        slopes.push_back(unwind(ways_back[i], cut(slope, part, first)));
        first += part[1];
      }
      return passes_gradient ? sum(slopes, x.get_desc()) : slope;
    });
  }

  void add(Auxiliary const& side, PlacedLayer const& placed) {
    if (!trains_) {  // but its moments have their places
      for_each_layer(placed.nested[0], [this](PlacedLayer const& each) {
        norms_ += std::holds_alternative<BatchNorm>(each.layer);
      });
      return;
    }
    Memory const x = x_;
    Tower& tower = towers_.emplace_back();
    tower.weight = side.weight;
    tower.predictions.resize(static_cast<std::size_t>(count_));
    std::swap(forward_, tower.forward);
    std::swap(backward_, tower.backward);
    Unwinds const before = std::exchange(unwinds_, {});
    add_chain(placed.nested[0], place_.passes_gradient);
    tower.logits = as(x_, dense(x_), forward_);
    Memory const own = unwind(unwinds_, tower.logits);
    unwinds_ = before;
    std::swap(backward_, tower.backward);
    std::swap(forward_, tower.forward);
    forward_.emplace_back(&tower);
    x_ = x;
    if (!place_.passes_gradient) return;
    unwinds_.emplace_back([=, this](Memory const& slope) { return sum({slope, own}, x.get_desc()); });
  }

  /// The channels from `first` of an array, where they are; blocks cannot be cut, but in the dense layout there are none.
  Memory cut(Memory const& whole, Memory::dims const& part, Memory::dim first) {
    Shapes const shape = whole.get_desc().submemory_desc(part, {0, first, 0, 0}, /*allow_empty=*/true);
    if (shape.is_zero()) return cut(as(whole, dense(whole), backward_), part, first);
    return {shape, shop_.engine(), whole.get_data_handle()};
  }

  static std::vector<Shapes> shapes_of(std::vector<Memory> const& memories) {
    std::vector<Shapes> shapes;
    for (Memory const& memory : memories) shapes.push_back(memory.get_desc());
    return shapes;
  }
  static OnednnArguments together(std::vector<Memory> const& from, Memory const& to) {
    OnednnArguments arguments{{DNNL_ARG_DST, to}};
    for (std::size_t i = 0; i < from.size(); ++i)
      arguments[DNNL_ARG_MULTIPLE_SRC + static_cast<int>(i)] = from[i];
    return arguments;
  }

  /// The sum of gradients, in the layout that all of them are brought to.
  Memory sum(std::vector<Memory> terms, Shapes const& layout) {
    for (Memory& term : terms) term = as(term, layout, backward_);
    dnnl::sum::primitive_desc const descriptor(layout, std::vector<float>(terms.size(), 1.0f),
                                               shapes_of(terms), shop_.engine(), shop_.attributes());
    Memory const total = shop_.room(layout);
    backward_.emplace_back(shop_.call(descriptor, dnnl::sum(descriptor), together(terms, total)));
    return total;
  }

  dnnl::prop_kind kind() const {
    return trains_ ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  }
  Memory::dims dims(Shape shape) const { return {count_, shape.channels, shape.height, shape.width}; }
  static Shapes any(Memory::dims const& dims) { return {dims, Memory::data_type::f32, Tag::any}; }
  static Shapes dense(Memory const& like) {
    Memory::dims const dims = like.get_desc().dims();
    return {dims, Memory::data_type::f32, dims.size() == 2 ? Tag::nc : Tag::nchw};
  }

  /// The same values in another layout: a reorder, or nothing where it is the same one.
  Memory as(Memory const& values, Shapes const& wanted, Steps& steps) {
    if (values.get_desc() == wanted) return values;
    Memory const reordered = shop_.room(wanted);
    steps.emplace_back(shop_.reorder(values, reordered));
    return reordered;
  }

  /// Layers that work in place must not write to the caller's batch, nor to what other layers see.
  void own_values() {
    if (x_ != chain_input_) return;
    Memory const copy = shop_.room(x_.get_desc());
    forward_.emplace_back(shop_.reorder(x_, copy));
    x_ = copy;
  }

  /// After a Linear, values have two dimensions; Conv and MaxPool see an image of one pixel.
  void expect_images(Shape in) {
    if (x_.get_desc().dims().size() == 4) return;
    auto const reshape = [this](Memory const& values, Shapes const& shape, Steps& steps) {
      return Memory(shape, shop_.engine(), as(values, dense(values), steps).get_data_handle());
    };
    Shapes const flat = dense(x_), image(dims(in), Memory::data_type::f32, Tag::nchw);
    x_ = reshape(x_, image, forward_);
    if (place_.trained)
      unwinds_.emplace_back([=, this](Memory const& slope) { return reshape(slope, flat, backward_); });
  }

  OnednnWorkshop shop_;
  dnnl::stream stream_;
  Memory::dim count_;
  bool trains_;
  Span<float const> parameters_;
  Span<float> gradients_;
  std::span<Moments> moments_;
  std::size_t norms_ = 0;

  Memory input_, x_, logits_;  // x_: what the last layer so far yields
  Memory chain_input_;         // of the layers that follow one another, where one is being added
  Place place_{};              // of the layer being added
  bool rectified_ = false;     // x_ has seen the ReLU of the layer to come
  Steps forward_, backward_;
  Unwinds unwinds_;
  std::deque<Tower> towers_;
  double auxiliary_loss_ = 0;
  std::deque<std::vector<float>> masks_;
};

}  // namespace elastic::model::detail
