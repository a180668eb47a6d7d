// SPDX-License-Identifier: Apache-2.0
// Nets on Eigen alone: no library to link, any C++20 compiler, one thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/eigen_chain.hpp"
#include "elastic/model/eigen_product.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/net.hpp"
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
        slopes_(detail::values(detail::slope_room(architecture.layers()) * max_batch)),
        layers_(make_layers(architecture, max_batch, parameters.data(), gradients.data())) {
    if (threads != 1)
      throw ConfigError("a net on Eigen computes on one thread, not on " + std::to_string(threads) +
                        "; OnednnNet takes more (Debian: libdnnl-dev)");
  }

  std::span<float> forward(Pass pass, Batch const& batch, Generator& random) {
    count_ = batch.count;
    to_channels_last(batch.images.data(), pixels_.span().data());
    detail::Step step{random, batch.labels};
    float* const logits = layers_.forward(pass, pixels_.span().data(), count_, step);
    auxiliary_loss_ = step.auxiliary_loss;
    return logits_ = {logits, static_cast<std::size_t>(count_) * classes_};
  }

  void backward() { layers_.backward(logits_.data(), count_); }

  double auxiliary_loss() const { return auxiliary_loss_; }
  std::span<Moments> moments() { return moments_; }

 private:
  detail::EigenChain make_layers(Architecture const& architecture, int max_batch, float const* parameters,
                                 float* gradients) {
    detail::EigenSite site{parameters, gradients, moments_.data(), max_batch};
    return {architecture.layers(), input_, site, slopes_.span().data(), /*passes_gradient=*/false};
  }

  void to_channels_last(float const* images, float* pixels) const {
    detail::Index const channels = input_.channels, area = detail::Index{input_.height} * input_.width;
    for (detail::Index n = 0; n < count_; ++n)
      for (detail::Index c = 0; c < channels; ++c)
        for (detail::Index p = 0; p < area; ++p) pixels[(n * area + p) * channels + c] = *images++;
  }

  Shape input_;
  std::size_t classes_;
  std::vector<Moments> moments_;
  detail::Values pixels_;
  detail::Values slopes_;
  detail::EigenChain layers_;
  std::span<float> logits_;
  detail::Index count_ = 0;
  double auxiliary_loss_ = 0;
};

/// A net on Eigen: EigenNet(architecture, max_batch, seed).
using EigenNet = Net<EigenEngine>;

}  // namespace elastic::model
