// SPDX-License-Identifier: Apache-2.0
// Small sums and barriers of a shared-memory job: every rank publishes its values and adds everyone's, one
// latency from call to result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/shared_operation.hpp"

namespace elastic::transport::detail {

class SharedCells {
 public:
  explicit SharedCells(SharedJob& job) : job_(job), team_(job.size()) {}

  bool start(Collective& c) {
    queue_.push_back(&c);
    return progress();
  }
  bool holds(Collective const& c) const {
    return std::find(queue_.begin(), queue_.end(), &c) != queue_.end();
  }
  void clear() { queue_.clear(); }

  /// Publishes the oldest one, finishes it once all ranks have published theirs; true if something moved.
  /// Throws ProtocolError for ranks that do not take part in the same one.
  bool progress() {
    if (queue_.empty()) return false;
    Collective& c = *queue_.front();
    bool const fresh = c.number == 0;
    if (fresh) publish(c);
    for (int r = 0; r < team_; ++r)
      if (cell(r, c.number).stamp.load(std::memory_order_acquire) != c.number) return fresh;
    for (int r = 0; r < team_; ++r)
      if (auto const theirs = cell(r, c.number).shape; theirs != c.shape()) throw_other_shape(r, theirs, c);
    if (c.n != 0) add(c);
    c.finished = true;
    queue_.erase(queue_.begin());
    return true;
  }
  /// Is it rank `r` that the oldest one waits for?
  bool waits_for(int r) const {
    return !queue_.empty() && r < team_ && cell(r, number_).stamp.load() != number_;
  }

  std::uint64_t number() const { return number_; }
  void regroup(int team, std::uint64_t number) {
    team_ = team;
    number_ = number;
  }

 private:
  Cell& cell(int rank, std::uint64_t number) const { return job_.member(rank).cell[number % 2]; }

  void publish(Collective& c) {
    c.number = ++number_;
    Cell& mine = cell(job_.rank(), number_);
    mine.shape = c.shape();
    if (c.n != 0) std::memcpy(mine.payload.data(), c.data, c.bytes());
    mine.stamp.store(number_);
    job_.wake_team(team_);
  }
  void add(Collective& c) {
    terms_.clear();
    for (int r = 0; r < team_; ++r) terms_.from.push_back(cell(r, c.number).payload.data());
    terms_.to.push_back(c.data);
    c.add(terms_, c.n);
  }

  SharedJob& job_;
  int team_;
  std::vector<Collective*> queue_;
  std::uint64_t number_ = 0;  // of the last one published
  Terms terms_;
};

}  // namespace elastic::transport::detail
