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

/// Writes images, then labels, and returns where they end. Throws DataError for a label outside [0, classes).
inline float* write_batch(Batch const& batch, int classes, float* to) {
  auto const count = static_cast<std::size_t>(batch.count);
  for (std::size_t i = 0; i < count; ++i) check_label(i, batch.labels[i], classes);
  to = std::copy_n(batch.images.data(), count * batch.image_size(), to);
  return std::transform(batch.labels.begin(), batch.labels.begin() + batch.count, to,
                        [](int label) { return static_cast<float>(label); });
}

/// A batch in the memory of a device.
template <class Dev>
class LoadedBatch {
 public:
  LoadedBatch(Dev& device, Batch const& batch, int classes)
      : count_(batch.count),
        values_(
            device.template allocate<float>(static_cast<std::size_t>(count_) * (batch.image_size() + 1))) {
    std::vector<float> values(values_.span().size());
    write_batch(batch, classes, values.data());
    device.upload(Span<float const>(values), values_.span());
  }
  int count() const { return count_; }
  Span<float const, typename Dev::memory> values() const { return values_.span(); }

 private:
  int count_;
  typename Dev::template Buffer<float> values_;
};

/// Two sets of pinned and device memory: while the device still works on one, the next is filled and copied. Whoever
/// puts in the next but one batch has waited for the forward pass of the next, so that the first's set is free.
template <class Dev>
class DeviceFeed {
 public:
  DeviceFeed(Dev& device, std::size_t image_size, std::vector<Dropped> dropouts, std::size_t most)
      : image_size_(image_size),
        dropouts_(std::move(dropouts)),
        slots_{Slot(device, values(most)), Slot(device, values(most))} {}

  /// Uploads a batch; the device's work from here on sees it. Draws masks only for Pass::train.
  template <class Kit>
  Fed put(Dev& device, Kit& kit, Pass pass, Batch const& batch, int classes, Generator& random) {
    Slot& slot = next();
    float* const host = slot.home();
    float* const labeled = write_batch(batch, classes, host);
    float* const end = draw(pass, labeled, static_cast<std::size_t>(batch.count), random);
    return send(device, kit, slot, static_cast<std::size_t>(batch.count), host, end);
  }

  /// The same for a batch that is there already: only masks are uploaded.
  template <class Kit>
  Fed put(Dev& device, Kit& kit, Pass pass, LoadedBatch<Dev> const& batch, Generator& random) {
    Slot& slot = next();
    float* const labeled = slot.home() + batch.values().size();
    float* const end = draw(pass, labeled, static_cast<std::size_t>(batch.count()), random);
    device.copy(batch.values(), slot.device.span().part(0, batch.values().size()));
    return send(device, kit, slot, static_cast<std::size_t>(batch.count()), labeled, end);
  }

  /// Which of the two sets the last batch lies in.
  std::size_t turn() const { return turn_; }

 private:
  struct Slot {
    Slot(Dev& dev, std::size_t n)
        : host(dev.allocate_host(n * sizeof(float))), device(dev.template allocate<float>(n)) {}
    float* home() { return reinterpret_cast<float*>(host.data()); }

    decltype(std::declval<Dev&>().allocate_host(0)) host;
    typename Dev::template Buffer<float> device;
    std::optional<decltype(std::declval<Dev&>().mark())> copied;
  };

  Slot& next() {
    turn_ = 1 - turn_;
    if (slots_[turn_].copied) slots_[turn_].copied->wait();
    return slots_[turn_];
  }

  float* draw(Pass pass, float* to, std::size_t count, Generator& random) const {
    if (pass != Pass::train) return to;
    for (Dropped const& dropout : dropouts_) {
      draw_dropout_mask(random, dropout.rate, {to, count * dropout.size});
      to += count * dropout.size;
    }
    return to;
  }

  /// Uploads [first, end) of a slot.
  template <class Kit>
  Fed send(Dev& device, Kit& kit, Slot& slot, std::size_t count, float* first, float* end) {
    auto const before = static_cast<std::size_t>(first - slot.home()),
               used = static_cast<std::size_t>(end - first);
    if (used > 0)
      slot.copied = kit.upload(device, Span<float const>(first, used), slot.device.span().part(before, used));
    float* const images = slot.device.span().data();
    float* const labels = images + count * image_size_;
    return {images, labels, labels + count};
  }

  std::size_t values(std::size_t most) const {
    std::size_t each = image_size_ + 1;
    for (Dropped const& dropout : dropouts_) each += dropout.size;
    return each * most;
  }

  std::size_t image_size_;
  std::vector<Dropped> dropouts_;
  std::array<Slot, 2> slots_;
  std::size_t turn_ = 0;
};

}  // namespace elastic::model::detail
