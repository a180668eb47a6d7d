// SPDX-License-Identifier: Apache-2.0
// What a step of DeviceNet needs from the host, in one upload: images, labels and dropout's masks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "elastic/model/batch.hpp"
#include "elastic/model/check_batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/span.hpp"

namespace elastic::model::detail {

/// Where a step's values are on the device. Masks hold each Dropout's in turn, all images together.
struct Fed {
  float* images;
  float const *labels, *masks;
};

/// A Dropout, as the feed sees it.
struct Dropped {
  std::size_t size;  // values an image
  double rate;
};

/// Two sets of pinned and device memory: while the device still works on one, the next is filled and copied.
template <class Dev>
class DeviceFeed {
 public:
  DeviceFeed(Dev& device, std::size_t image_size, std::vector<Dropped> dropouts, std::size_t most)
      : dropouts_(std::move(dropouts)),
        slots_{Slot(device, size(image_size, most)), Slot(device, size(image_size, most))} {}

  /// Uploads a batch; the device's work from here on sees it. Draws masks only for Pass::train.
  Fed put(Dev& device, Pass pass, Batch const& batch, int classes, Generator& random) {
    turn_ = 1 - turn_;
    Slot& slot = slots_[turn_];
    if (slot.copied) slot.copied->wait();
    auto const count = static_cast<std::size_t>(batch.count);
    std::size_t const images = count * batch.image_size();
    auto* const host = reinterpret_cast<float*>(slot.host.data());
    float* const labels = std::copy_n(batch.images.data(), images, host);
    for (std::size_t i = 0; i < count; ++i) {
      check_label(i, batch.labels[i], classes);
      labels[i] = static_cast<float>(batch.labels[i]);
    }
    float* const masks = labels + count;
    float* end = masks;
    if (pass == Pass::train) {
      for (Dropped const& dropout : dropouts_) {
        draw_dropout_mask(random, dropout.rate, {end, count * dropout.size});
        end += count * dropout.size;
      }
    }
    auto const used = static_cast<std::size_t>(end - host);
    slot.copied = device.start_upload(Span<float const>(host, used), slot.device.span().part(0, used));
    float* const there = slot.device.span().data();
    return {there, there + images, there + images + count};
  }

  /// Which of the two sets the last batch lies in.
  std::size_t turn() const { return turn_; }

 private:
  struct Slot {
    Slot(Dev& dev, std::size_t values)
        : host(dev.allocate_host(values * sizeof(float))), device(dev.template allocate<float>(values)) {}
    decltype(std::declval<Dev&>().allocate_host(0)) host;
    typename Dev::template Buffer<float> device;
    std::optional<decltype(std::declval<Dev&>().mark())> copied;
  };

  std::size_t size(std::size_t image_size, std::size_t most) const {
    std::size_t each = image_size + 1;
    for (Dropped const& dropout : dropouts_) each += dropout.size;
    return each * most;
  }

  std::vector<Dropped> dropouts_;
  std::array<Slot, 2> slots_;
  std::size_t turn_ = 0;
};

}  // namespace elastic::model::detail
