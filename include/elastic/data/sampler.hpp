// SPDX-License-Identifier: Apache-2.0
// Which sample comes when: the samplers of a training stream, each a pure function of seed and place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/data/image_store.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// In which order a rank reads a set.
enum class Sampler {
  permutation,   ///< every epoch another order, common to all ranks, of which each takes its part
  linear,        ///< the order of the files, of which each rank takes its part
  uniform,       ///< any sample of the set with equal probability, again and again
  label_uniform  ///< any class with equal probability, then any of its samples
};

constexpr auto names(Sampler) {
  return std::array{std::pair{std::string_view("permutation"), Sampler::permutation},
                    std::pair{std::string_view("linear"), Sampler::linear},
                    std::pair{std::string_view("uniform"), Sampler::uniform},
                    std::pair{std::string_view("label_uniform"), Sampler::label_uniform}};
}

/// A sample, and the random bits that decide what is done to it.
struct Draw {
  std::size_t sample;
  Random random;
};

/// The order of the samples that one rank reads.
///
/// With `permutation` and `linear` a sample's random bits depend on (seed, epoch, sample) alone, and with the
/// other two all of a draw on (seed, its number among those of all ranks): the number of ranks decides who
/// draws, not what is drawn.
class SampleOrder {
 public:
  /// Throws ConfigError for a set that has fewer samples than there are ranks.
  template <ImageStore Set>
  SampleOrder(Set const& set, Sampler sampler, std::uint64_t seed, int rank, int ranks)
      : sampler_(sampler),
        seed_(seed),
        count_(set.count),
        rank_(static_cast<std::uint64_t>(rank)),
        ranks_(static_cast<std::uint64_t>(ranks)),
        shard_(shard(set.count, rank, ranks)) {
    if (count_ < static_cast<std::size_t>(ranks)) {  // the same answer on every rank
      throw ConfigError("data: " + std::to_string(count_) + " images cannot feed " + std::to_string(ranks) +
                        " ranks");
    }
    if (sampler == Sampler::label_uniform) sort_by_class(set);
  }

  /// The rank's sample at `position` of its stream, from 0. Cheap within an epoch; a permutation of
  /// the set is made at the beginning of each.
  Draw at(std::uint64_t position) {
    if (sampler_ == Sampler::uniform || sampler_ == Sampler::label_uniform) {
      Random random(seed_, ~std::uint64_t{0}, position * ranks_ + rank_);  // a stream that no epoch has
      if (sampler_ == Sampler::uniform) {
        std::size_t const sample = random.below(count_);
        return {sample, random};
      }
      std::size_t const c = random.below(begin_.size() - 1);
      std::size_t const sample = order_[begin_[c] + random.below(begin_[c + 1] - begin_[c])];
      return {sample, random};
    }
    std::uint64_t const epoch = position / shard_.count;
    std::size_t sample = shard_.first + position % shard_.count;
    if (sampler_ == Sampler::permutation) {
      if (order_.empty() || epoch != epoch_) {
        order_ = epoch_order(count_, seed_, epoch);
        epoch_ = epoch;
      }
      sample = order_[sample];
    }
    return {sample, Random(seed_, epoch, sample + 1)};  // index 0 is the permutation's
  }

  /// Samples that this rank reads in an epoch.
  std::uint64_t per_epoch() const { return shard_.count; }

 private:
  template <class Set>
  void sort_by_class(Set const& set) {  // by counting; classes without samples are left out
    std::vector<std::size_t> size(static_cast<std::size_t>(set.classes));
    for (std::size_t i = 0; i < count_; ++i) ++size[static_cast<std::size_t>(set.label(i))];
    std::vector<std::size_t> next(size.size());
    std::exclusive_scan(size.begin(), size.end(), next.begin(), std::size_t{0});
    for (std::size_t c = 0; c < size.size(); ++c)
      if (size[c] > 0) begin_.push_back(next[c]);
    begin_.push_back(count_);
    order_.resize(count_);
    for (std::size_t i = 0; i < count_; ++i)
      order_[next[static_cast<std::size_t>(set.label(i))]++] = static_cast<std::uint32_t>(i);
  }

  Sampler sampler_;
  std::uint64_t seed_;
  std::size_t count_;
  std::uint64_t rank_;
  std::uint64_t ranks_;
  Shard shard_;
  std::uint64_t epoch_ = 0;           // of order_
  std::vector<std::uint32_t> order_;  // permutation: of the epoch; label_uniform: sorted by class
  std::vector<std::size_t> begin_;    // of each class that has samples, in order_; then the end
};

}  // namespace elastic::data
