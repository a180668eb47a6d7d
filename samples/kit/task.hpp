// SPDX-License-Identifier: Apache-2.0
// What a program of the kit trains: images and a net. The kit does the rest, compiled once for all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "elastic/data/image_set.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"

namespace sample {

/// An endless stream of one worker's batches: a DataSource.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual elastic::model::Batch const& next() = 0;
  /// Images of this worker's stream handed out so far: the `start` of one that goes on here.
  virtual std::uint64_t samples() const = 0;
};

/// Which worker's batches.
struct StreamOptions {
  int batch = 1;
  int rank = 0;
  int ranks = 1;
  std::uint64_t seed = 1;
  int prefetch = 2;         ///< batches ready ahead of time
  std::uint64_t start = 0;  ///< images to skip
};

/// Which images an evaluation reads, each once, in order.
struct PassOptions {
  elastic::data::Split split = elastic::data::Split::test;
  int batch = 1;
  std::size_t first = 0;
  std::size_t count = SIZE_MAX;  ///< at most; what the split has from `first`
};

class Task {
 public:
  virtual ~Task() = default;
  virtual elastic::model::Architecture architecture() const = 0;
  virtual std::size_t count(elastic::data::Split split) const = 0;
  virtual std::vector<std::string> const& class_names() const = 0;
  virtual std::unique_ptr<Stream> stream(StreamOptions const& options) const = 0;
  virtual void pass(PassOptions const& options,
                    std::function<void(elastic::model::Batch const&)> const& each) const = 0;
  /// Images in a batch that evaluates.
  virtual int evaluation_batch() const = 0;
  /// The task's options, "key=value" a line, for the log.
  virtual std::string describe() const = 0;
};

/// A stream whose batches one of the library's sources makes.
template <class Batches>
class StreamOf final : public Stream {
 public:
  template <class... Arguments>
  explicit StreamOf(Arguments&&... arguments) : batches_(std::forward<Arguments>(arguments)...) {}
  elastic::model::Batch const& next() override { return batches_.next(); }
  std::uint64_t samples() const override { return batches_.samples(); }

 private:
  Batches batches_;
};

}  // namespace sample
