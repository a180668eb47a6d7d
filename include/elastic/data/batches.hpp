// SPDX-License-Identifier: Apache-2.0
// What feeds a training loop: an endless stream of this rank's batches, prepared by a thread of its own while
// the model computes; and a plain pass over a set for evaluation.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/data/augment.hpp"
#include "elastic/data/image_set.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"
#include "elastic/model/batch.hpp"

namespace elastic::data {

/// How a training stream is cut and ordered.
struct BatchOptions {
  int batch = 128;          ///< images in each batch, at least 1
  int rank = 0;             ///< 0 ... ranks-1
  int ranks = 1;            ///< how many share the set; at most as many as it has images
  std::uint64_t seed = 1;   ///< the same on every rank, or epochs overlap
  int crop = 0;             ///< side of the square crop in pixels; 0: the whole image
  int pad = 0;              ///< pixels of zeros around the image that a crop may reach into
  bool flip = false;        ///< mirror half of the images left to right
  bool shuffle = true;      ///< false: the order of the files
  int prefetch = 1;         ///< batches prepared ahead by the thread; 0: next() prepares them, no thread
  std::uint64_t start = 0;  ///< samples of this rank's stream to skip: where a resumed run goes on
  std::function<void(model::Batch&)> transform = {};  ///< called on every batch before it is handed out
};

namespace detail {

/// Gives `batch` room for `count` images of the cutter's size.
inline void shape_batch(model::Batch& batch, ImageSet const& set, Cutter const& cutter, int count) {
  batch.count = count;
  batch.channels = set.channels;
  batch.height = cutter.height();
  batch.width = cutter.width();
  batch.images.resize(static_cast<std::size_t>(count) * batch.image_size());
  batch.labels.resize(static_cast<std::size_t>(count));
}

inline void check_batch_size(int batch) {
  if (batch < 1) throw ConfigError("batch size: expected at least 1, found " + std::to_string(batch));
}

}  // namespace detail

/// An endless stream of full batches over this rank's part of a set: a DataSource.
///
/// Every epoch has one order common to all ranks, of which each takes its part; over all ranks each sample is
/// used once an epoch, whatever the number of ranks, and a batch may hold the end of one epoch and the
/// beginning of the next. Crop and flip of a sample depend on (seed, epoch, sample) alone. The stream is a
/// pure function of set and options: neither threads nor `prefetch` change a bit of it.
class Batches {
 public:
  /// Keeps a reference to `set`. Throws ConfigError for options that cannot work, naming them.
  Batches(ImageSet const& set, Normalization const& normal, BatchOptions options)
      : set_(set),
        options_(std::move(options)),
        cutter_(set, normal, options_.crop, options_.pad),
        shard_(shard(set.count, options_.rank, options_.ranks)) {
    detail::check_batch_size(options_.batch);
    if (options_.prefetch < 0) {
      throw ConfigError("prefetch: expected 0 or more batches, found " + std::to_string(options_.prefetch));
    }
    if (set.count < static_cast<std::size_t>(options_.ranks)) {  // the same answer on every rank
      throw ConfigError("data: " + std::to_string(set.count) + " images cannot feed " +
                        std::to_string(options_.ranks) + " ranks");
    }
    position_ = options_.start;
    ring_.resize(static_cast<std::size_t>(options_.prefetch) + 1);
    for (model::Batch& batch : ring_) detail::shape_batch(batch, set_, cutter_, options_.batch);
    if (options_.prefetch > 0) thread_ = std::thread([this] { prefetch(); });
  }
  Batches(ImageSet&&, Normalization const&, BatchOptions) = delete;  // the set must outlive the stream
  Batches(Batches const&) = delete;
  Batches& operator=(Batches const&) = delete;

  ~Batches() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// The next batch, valid until the next call. Throws what the thread threw, now and on every later call.
  model::Batch const& next() {
    if (options_.prefetch == 0) {
      auto const begin = std::chrono::steady_clock::now();
      fill(ring_[0]);
      waited_ += std::chrono::steady_clock::now() - begin;
      ++taken_;
      return ring_[0];
    }
    std::unique_lock lock(mutex_);
    if (filled_ == taken_ && !error_) {
      auto const begin = std::chrono::steady_clock::now();
      changed_.wait(lock, [&] { return filled_ > taken_ || error_; });
      waited_ += std::chrono::steady_clock::now() - begin;
    }
    if (filled_ == taken_) std::rethrow_exception(error_);
    model::Batch const& batch = ring_[taken_ % ring_.size()];
    ++taken_;
    lock.unlock();
    changed_.notify_all();
    return batch;
  }

  /// Samples handed out so far, those skipped by `start` included: the `start` of a run that resumes here.
  std::uint64_t samples() const {
    return options_.start + taken_ * static_cast<std::uint64_t>(options_.batch);
  }

  /// Passes over this rank's part of the set that are complete.
  std::uint64_t epoch() const { return samples() / shard_.count; }

  /// Seconds that next() spent waiting for (or, without a thread, preparing) batches.
  double waited_seconds() const { return waited_.count(); }

 private:
  void prefetch() {
    std::unique_lock lock(mutex_);
    for (;;) {
      // The caller still reads batch taken_ - 1, which shares a slot with batch taken_ - 1 + ring_.size().
      changed_.wait(lock, [&] { return stop_ || filled_ + 1 < taken_ + ring_.size(); });
      if (stop_) return;
      model::Batch& batch = ring_[filled_ % ring_.size()];
      lock.unlock();
      std::exception_ptr error;
      try {
        fill(batch);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error) {
        error_ = error;
      } else {
        ++filled_;
      }
      changed_.notify_all();
      if (error) return;
    }
  }

  void fill(model::Batch& batch) {
    std::size_t const image = batch.image_size();
    for (std::size_t i = 0; i < batch.labels.size(); ++i, ++position_) {
      std::uint64_t const epoch = position_ / shard_.count;
      std::size_t const place = shard_.first + position_ % shard_.count;
      if (options_.shuffle && (order_.empty() || epoch != order_epoch_)) {
        order_ = epoch_order(set_.count, options_.seed, epoch);
        order_epoch_ = epoch;
      }
      std::size_t const sample = options_.shuffle ? order_[place] : place;
      Random random(options_.seed, epoch, sample + 1);  // index 0 is the shuffle's
      cutter_.cut(sample, cutter_.random(random, options_.flip), batch.images.data() + i * image);
      batch.labels[i] = set_.labels[sample];
    }
    if (options_.transform) options_.transform(batch);
  }

  ImageSet const& set_;
  BatchOptions options_;
  Cutter cutter_;
  Shard shard_;
  std::vector<model::Batch> ring_;  // the one the caller reads and the ones being prepared

  std::uint64_t position_ = 0;  // these three belong to whoever fills
  std::uint64_t order_epoch_ = 0;
  std::vector<std::uint32_t> order_;

  std::chrono::duration<double> waited_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t filled_ = 0;  // guarded by mutex_, as are the following; taken_ is written by next() alone
  std::uint64_t taken_ = 0;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

/// What an evaluation reads: images first ... first+count-1, in order, cropped at the center.
struct PassOptions {
  int batch = 256;  ///< images in each batch, at least 1; the last batch may hold fewer
  int crop = 0;     ///< side of the square center crop in pixels; 0: the whole image
  int pad = 0;      ///< pixels of zeros around the image, for a crop larger than it
  std::size_t first = 0;
  std::size_t count = std::numeric_limits<std::size_t>::max();  ///< at most; what the set has from `first`
};

/// Calls `f(model::Batch const&)` on batch after batch of `set`, each image once. Throws ConfigError for
/// options that cannot work; a `first` behind the end is one of them.
template <class F>
void for_each_batch(ImageSet const& set, Normalization const& normal, PassOptions const& options, F&& f) {
  detail::check_batch_size(options.batch);
  if (options.first > set.count) {
    throw ConfigError("evaluation: image " + std::to_string(options.first) + " of " +
                      std::to_string(set.count) + " does not exist");
  }
  Cutter const cutter(set, normal, options.crop, options.pad);
  std::size_t const end = options.first + std::min(options.count, set.count - options.first);
  model::Batch batch;
  for (std::size_t i = options.first; i < end; i += static_cast<std::size_t>(batch.count)) {
    std::size_t const size = std::min(static_cast<std::size_t>(options.batch), end - i);
    detail::shape_batch(batch, set, cutter, static_cast<int>(size));
    for (std::size_t k = 0; k < size; ++k) {
      cutter.cut(i + k, cutter.center(), batch.images.data() + k * batch.image_size());
      batch.labels[k] = set.labels[i + k];
    }
    f(std::as_const(batch));
  }
}

}  // namespace elastic::data
