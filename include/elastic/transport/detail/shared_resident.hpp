// SPDX-License-Identifier: Apache-2.0
// Sums of buffers that live in a shared-memory job: every block is read from all ranks' buffers and written
// into all of them, or added to as many others, by one rank; nothing is copied. A rank takes the blocks of its own share first, which its
// cache may still hold, then those that others have not come to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/shared_operation.hpp"

namespace elastic::transport::detail {

class SharedResident {
 public:
  static constexpr std::size_t block_bytes = 128 * 1024;

  explicit SharedResident(SharedJob& job) : job_(job) {}

  /// Bytes of a rank's share, whole cache lines; the last ranks' may be shorter.
  static std::size_t share(std::size_t bytes, int team) {
    std::size_t const lines = (bytes + cache_line - 1) / cache_line;
    return (lines + std::size_t(team) - 1) / std::size_t(team) * cache_line;
  }

  /// Sums one block, or finds that all are; true if something moved. Every rank of the team has made its offer.
  bool progress(Collective& c, int team) {
    Offer& mine = offer(job_.rank(), c);
    bool const worth_helping = share_of(c, 0).blocks() > 1;  // looking at others' shares is not free
    for (int i = 0; i < (worth_helping ? team : 1); ++i) {
      int const owner = (job_.rank() + i) % team;
      auto& taken = offer(owner, c).taken;
      Part const share = share_of(c, owner);
      if (taken.load(std::memory_order_relaxed) >= share.blocks()) continue;
      mine.busy.store(1, std::memory_order_release);
      auto const block = taken.fetch_add(1);
      if (block < share.blocks()) {
        add(c, team, share.block(block));
        mine.done.store(mine.done.load(std::memory_order_relaxed) + 1);
      }
      mine.busy.store(0, std::memory_order_release);
      if (block + 1 >= share.blocks()) job_.wake_team(team);
      return true;
    }
    std::uint64_t done = 0, blocks = 0;
    for (int r = 0; r < team; ++r) {
      done += offer(r, c).done.load();
      blocks += share_of(c, r).blocks();
    }
    c.finished = done == blocks;
    return c.finished;
  }
  /// It waits for those who are at a block, or have not begun what nobody does for them.
  bool waits_for(Collective const& c, int rank) const {
    Offer const& theirs = offer(rank, c);
    return theirs.busy.load() != 0 || theirs.taken.load() < share_of(c, rank).blocks();
  }

 private:
  /// Bytes of the vector.
  struct Part {
    std::size_t begin;
    std::size_t end;

    std::size_t blocks() const { return (end - begin + block_bytes - 1) / block_bytes; }
    Part block(std::size_t k) const {
      std::size_t const first = begin + k * block_bytes;
      return {first, std::min(end, first + block_bytes)};
    }
  };
  static Part share_of(Collective const& c, int rank) {
    std::size_t const begin = std::min(c.bytes(), std::size_t(rank) * c.share);
    return {begin, std::min(c.bytes(), begin + c.share)};
  }
  Offer& offer(int rank, Collective const& c) const {
    return job_.member(rank).offer[c.number % Member::offers];
  }
  void add(Collective const& c, int team, Part part) {
    terms_.clear();
    std::size_t const n = (part.end - part.begin) / c.width;
    for (int r = 0; r < team; ++r) {
      Offer const& theirs = offer(r, c);
      terms_.from.push_back(job_.base() + theirs.place + part.begin);
      terms_.to.push_back(job_.base() + (c.into ? theirs.into : theirs.place) + part.begin);
    }
    if (c.into)
      c.add_into(terms_, c.gain, n);
    else
      c.add(terms_, n);
  }

  SharedJob& job_;
  Terms terms_;
};

}  // namespace elastic::transport::detail
