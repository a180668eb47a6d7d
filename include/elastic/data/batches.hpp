// SPDX-License-Identifier: Apache-2.0
// What feeds a training loop: an endless stream of this rank's batches, prepared by threads of its own while
// the model computes.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/data/augment.hpp"
#include "elastic/data/detail/crew.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/data/pass.hpp"
#include "elastic/data/sampler.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"
#include "elastic/model/batch.hpp"

namespace elastic::data {

/// What is cropped and flipped alike.
enum class Augment {
  image,  ///< nothing: each image has a view of its own
  batch   ///< the images of a batch, as the first ancestor does
};

constexpr auto names(Augment) {
  return std::array{std::pair{std::string_view("image"), Augment::image},
                    std::pair{std::string_view("batch"), Augment::batch}};
}

/// How a training stream is cut and ordered.
struct BatchOptions {
  int batch = 128;         ///< images in each batch, at least 1
  int rank = 0;            ///< 0 ... ranks-1
  int ranks = 1;           ///< how many share the set; at most as many as it has images
  std::uint64_t seed = 1;  ///< the same on every rank, or epochs overlap
  int crop = 0;            ///< side of the square crop in pixels; 0: the whole image
  int pad = 0;             ///< pixels of zeros around the image that a crop may reach into
  bool flip = false;       ///< mirror half of the images left to right
  Augment augment = Augment::image;
  Sampler sampler = Sampler::permutation;
  int prefetch = 1;         ///< batches prepared ahead by a thread; 0: next() prepares them
  int loaders = 1;          ///< threads that read and cut the images of a batch, at least 1
  std::uint64_t start = 0;  ///< samples of this rank's stream to skip: where a resumed run goes on
  std::function<void(model::Batch&)> transform = {};  ///< called on every batch before it is handed out
};

/// An endless stream of full batches over this rank's part of a set: a DataSource.
///
/// What a rank reads when is the sampler's: with the standard one, over all ranks each sample is used once an
/// epoch, whatever the number of ranks. A batch may hold the end of one epoch and the beginning of the next.
/// The stream is a pure function of set and options: neither `prefetch` nor `loaders` change a bit of it.
template <ImageStore Set>
class Batches {
 public:
  /// Keeps a reference to `set`. Throws ConfigError for options that cannot work, naming them.
  Batches(Set const& set, Normalization const& normal, BatchOptions options)
      : set_(set),
        options_(std::move(options)),
        cutter_(set, normal, options_.crop, options_.pad),
        order_(set, options_.sampler, options_.seed, options_.rank, options_.ranks),
        position_(options_.start) {
    detail::check_batch_size(options_.batch);
    detail::check_loaders(options_.loaders);
    if (options_.prefetch < 0) {
      throw ConfigError("prefetch: expected 0 or more batches, found " + std::to_string(options_.prefetch));
    }
    crew_.emplace(options_.loaders);
    scratch_.resize(static_cast<std::size_t>(options_.loaders));
    picks_.resize(static_cast<std::size_t>(options_.batch));
    ring_.resize(static_cast<std::size_t>(options_.prefetch) + 1);
    for (model::Batch& batch : ring_) detail::shape_batch(batch, set_.channels, cutter_, options_.batch);
    if (options_.prefetch > 0) thread_ = std::thread([this] { prefetch(); });
  }
  Batches(Set&&, Normalization const&, BatchOptions) = delete;  // the set must outlive the stream
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
  std::uint64_t epoch() const { return samples() / order_.per_epoch(); }

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
    // The stream of this generator is one that no epoch has: they count from 0.
    Random common(options_.seed, ~std::uint64_t{0} - 1 - static_cast<std::uint64_t>(options_.rank),
                  position_);
    View const view = cutter_.random(common, options_.flip);
    for (std::size_t i = 0; i < picks_.size(); ++i) {
      Draw draw = order_.at(position_ + i);
      picks_[i] = {draw.sample,
                   options_.augment == Augment::batch ? view : cutter_.random(draw.random, options_.flip)};
    }
    std::size_t const image = batch.image_size();
    crew_->run(picks_.size(), [&](std::size_t i, std::size_t member) {
      cutter_.cut(set_.image(picks_[i].sample, scratch_[member]), picks_[i].view,
                  batch.images.data() + i * image);
      batch.labels[i] = set_.label(picks_[i].sample);
    });
    if (options_.transform) options_.transform(batch);
    position_ += picks_.size();
  }

  struct Pick {
    std::size_t sample;
    View view;
  };

  Set const& set_;
  BatchOptions options_;
  Cutter cutter_;
  std::vector<model::Batch> ring_;  // the one the caller reads and the ones being prepared

  SampleOrder order_;  // these five belong to whoever fills
  std::uint64_t position_;
  std::vector<Pick> picks_;
  std::optional<detail::Crew> crew_;
  std::vector<std::vector<std::uint8_t>> scratch_;  // one a loader

  std::chrono::duration<double> waited_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t filled_ = 0;  // guarded by mutex_, as are the following; taken_ is written by next() alone
  std::uint64_t taken_ = 0;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace elastic::data
