// SPDX-License-Identifier: Apache-2.0
// Nets on Eigen alone: no library to link, any C++20 compiler, one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/eigen_layers.hpp"
#include "elastic/model/eigen_lrn.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/net.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// The Engine of EigenNet. All its memory is allocated here, for batches of `max_batch`, except the blocks
/// Eigen packs its operands into. One thread; throws ConfigError for more.
class EigenEngine {
 public:
  EigenEngine(Architecture const& architecture, int max_batch, Span<float const> parameters,
              Span<float> gradients, int threads)
      : input_(architecture.input()),
        classes_(static_cast<std::size_t>(architecture.classes())),
        moments_(make_moments(architecture)),
        pixels_(static_cast<std::size_t>(max_batch) * input_.size()),
        slopes_{slope_buffer(architecture, max_batch), slope_buffer(architecture, max_batch)} {
    if (threads != 1)
      throw ConfigError("a net on Eigen computes on one thread, not on " + std::to_string(threads) +
                        "; OnednnNet takes more (Debian: libdnnl-dev)");
    Schedule const schedule = make_schedule(architecture);
    first_trained_ = schedule.first_trained;
    std::size_t norms = 0;
    for (PlacedLayer const& placed : schedule.layers) {
      detail::Bound const bound{
          parameters.data() + placed.weights.offset, parameters.data() + placed.biases.offset,
          gradients.data() + placed.weights.offset, gradients.data() + placed.biases.offset};
      std::visit([&](auto const& layer) { add(layer, placed, bound, max_batch, norms); }, placed.layer);
    }
  }

  std::span<float> forward(Pass pass, Batch const& batch, Generator& random) {
    count_ = batch.count;
    float* x = pixels_.span().data();
    to_channels_last(batch.images.data(), x);
    for (Layer& layer : layers_)
      x = std::visit([&](auto& kind) { return kind.forward(pass, x, count_, random); }, layer);
    return logits_ = {x, static_cast<std::size_t>(count_) * classes_};
  }

  void backward() {
    float* dy = logits_.data();
    float* spare = slopes_[0].span().data();
    float* next = slopes_[1].span().data();
    for (std::size_t i = layers_.size(); i-- > first_trained_;) {
      float* const wanted = i > first_trained_ ? spare : nullptr;
      float* const dx = std::visit([&](auto& kind) { return kind.backward(dy, wanted, count_); }, layers_[i]);
      if (dx == spare) std::swap(spare, next);
      dy = dx;
    }
  }

  std::span<Moments> moments() { return moments_; }

 private:
  using Layer = std::variant<detail::EigenProduct, detail::EigenPool, detail::EigenRelu, detail::EigenDropout,
                             detail::EigenNorm, detail::EigenLrn>;

  static detail::Values slope_buffer(Architecture const& architecture, int max_batch) {
    std::size_t largest = 0;
    for (PlacedLayer const& placed : architecture.layers()) largest = std::max(largest, placed.in.size());
    return detail::Values(largest * static_cast<std::size_t>(max_batch));
  }

  void add(Conv const& conv, PlacedLayer const& placed, detail::Bound bound, int max_batch, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenProduct>, placed.in, placed.out, conv, conv.kernel,
                         conv.kernel, bound, max_batch);
  }
  void add(Linear const&, PlacedLayer const& placed, detail::Bound bound, int max_batch, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenProduct>, placed.in, placed.out, Conv{},
                         placed.in.height, placed.in.width, bound, max_batch);
  }
  void add(MaxPool const& pool, PlacedLayer const& placed, detail::Bound, int max_batch, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenPool>, placed.in, placed.out, pool, max_batch);
  }
  void add(Relu const&, PlacedLayer const& placed, detail::Bound, int, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenRelu>, placed.in);
  }
  void add(Dropout const& dropout, PlacedLayer const& placed, detail::Bound, int max_batch, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenDropout>, placed.in, dropout.rate, max_batch);
  }
  void add(BatchNorm const& norm, PlacedLayer const& placed, detail::Bound bound, int max_batch,
           std::size_t& norms) {
    layers_.emplace_back(std::in_place_type<detail::EigenNorm>, placed.in, norm.epsilon, bound,
                         moments_[norms++], max_batch);
  }

  void add(Lrn const& lrn, PlacedLayer const& placed, detail::Bound, int max_batch, std::size_t&) {
    layers_.emplace_back(std::in_place_type<detail::EigenLrn>, placed.in, lrn, max_batch);
  }

  void to_channels_last(float const* images, float* pixels) const {
    detail::Index const channels = input_.channels, area = detail::Index{input_.height} * input_.width;
    for (detail::Index n = 0; n < count_; ++n)
      for (detail::Index c = 0; c < channels; ++c)
        for (detail::Index p = 0; p < area; ++p) pixels[(n * area + p) * channels + c] = *images++;
  }

  Shape input_;
  std::size_t classes_;
  std::size_t first_trained_ = 0;
  std::vector<Moments> moments_;
  detail::Values pixels_;
  detail::Values slopes_[2];  // gradients of a layer's output and input take turns
  std::vector<Layer> layers_;
  std::span<float> logits_;
  detail::Index count_ = 0;
};

/// A net on Eigen: EigenNet(architecture, max_batch, seed).
using EigenNet = Net<EigenEngine>;

}  // namespace elastic::model
