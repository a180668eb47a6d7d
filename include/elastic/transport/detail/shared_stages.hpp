// SPDX-License-Identifier: Apache-2.0
// Collectives of buffers in private memory: a sequence of pieces that pass through the ranks' stages in the
// segment: stage mine; sum my share of everyone's, into everyone's stage; collect the other shares from mine. One
// file: the three phases share their counters.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/shared_operation.hpp"

namespace elastic::transport::detail {

class SharedStages {
 public:
  explicit SharedStages(SharedJob& job) : job_(job), team_(job.size()) {}

  /// Moves the oldest operation in each phase by one piece, where the team allows it; true if something
  /// moved. Stages ahead, as far as it is decided which way an operation goes: later ones fill the pipeline.
  /// Throws ProtocolError for ranks that do not take part in the same one.
  bool progress(std::vector<Collective*> const& queue) {
    bool moved = false;
    for (Collective* const c : queue) {
      if (c->path == Collective::undecided) break;
      if (c->path != Collective::staged_path || c->staged == pieces(*c)) continue;
      if (stage_is_free()) {
        stage(*c);
        moved = true;
      }
      break;
    }
    for (Collective* const c : queue) {
      if (c->summed == c->staged) {
        if (c->path == Collective::staged_path && c->summed < pieces(*c)) break;
        continue;
      }
      if (c->kind == Collective::broadcast || every(&Member::staged, summed_ + 1)) {
        sum(*c);
        moved = true;
      }
      break;
    }
    for (Collective* const c : queue) {
      if (c->collected == c->summed) {
        if (c->path == Collective::staged_path && c->collected < pieces(*c)) break;
        continue;
      }
      if (arrived(*c)) {
        collect(*c);
        moved = true;
      }
      break;
    }
    return moved;
  }

  /// Is it rank `r` that this operation, the oldest staged one, waits for?
  bool waits_for(Collective const& c, int r) const {
    Member const& m = job_.member(r);
    if (collected_ == staged_) return m.collected.load() < staged_ - free_stages();
    if (c.kind == Collective::broadcast) return r == c.root && m.staged.load() < collected_ + 1;
    return (collected_ == summed_ ? m.staged : m.summed).load() < collected_ + 1;
  }

  std::uint64_t pieces_passed() const { return collected_; }
  void regroup(int team, std::uint64_t piece) {
    team_ = team;
    staged_ = summed_ = collected_ = all_collected_ = piece;
    publish(&Member::staged, piece, job_.size());
    publish(&Member::summed, piece, job_.size());
    publish(&Member::collected, piece, job_.size());
  }

 private:
  using Counter = std::atomic<std::uint64_t> Member::*;

  /// Values of a piece: half of all, so that copying one overlaps with summing the other, but worth its agreements.
  std::size_t per_piece(Collective const& c) const {
    std::size_t const most = job_.layout().geometry().stage_bytes;
    std::size_t const half = (c.bytes() / 2 + cache_line - 1) / cache_line * cache_line;
    return std::clamp(half, std::min<std::size_t>(most, 64 * 1024), most) / c.width;
  }
  std::size_t pieces(Collective const& c) const {
    return std::max<std::size_t>(1, (c.n + per_piece(c) - 1) / per_piece(c));
  }
  /// Has everybody collected the piece that was in the next stage?
  bool stage_is_free() {
    std::uint64_t const before = staged_ - free_stages();
    if (all_collected_ >= before) return true;
    all_collected_ = collected_;
    for (int r = 0; r < team_; ++r)
      all_collected_ = std::min(all_collected_, job_.member(r).collected.load());
    return all_collected_ >= before;
  }
  std::uint64_t free_stages() const { return std::min<std::uint64_t>(staged_, Geometry::stages - 1); }

  bool every(Counter counter, std::uint64_t least) const {
    for (int r = 0; r < team_; ++r)
      if ((job_.member(r).*counter).load() < least) return false;
    return true;
  }
  void publish(Counter counter, std::uint64_t value, int team) {
    (job_.member(job_.rank()).*counter).store(value);
    job_.wake_team(team);
  }

  /// A piece: where it begins in the caller's buffer, its values, and its shares.
  struct Piece {
    std::byte* data;
    std::size_t n;
    std::size_t width;
    int team;

    std::size_t begin(int rank) const {  // byte where a rank's share begins, on a cache line of its own
      std::size_t const lines = (n * width + cache_line - 1) / cache_line;
      return std::min(n * width, chunk(lines, team, rank).first * cache_line);
    }
    std::size_t bytes() const { return n * width; }
  };
  Piece piece(Collective const& c, std::size_t number) const {
    std::size_t const first = number * per_piece(c);
    return {c.data + first * c.width, std::min(per_piece(c), c.n - first), c.width, team_};
  }
  static void copy(std::byte* to, std::byte const* from, std::size_t begin, std::size_t end) {
    if (begin < end) std::memcpy(to + begin, from + begin, end - begin);
  }
  std::byte* stage_of(int rank, std::uint64_t number) const {
    return job_.layout().stage(job_.base(), rank, number);
  }
  bool takes_part(Collective const& c, int rank) const {
    return c.kind != Collective::broadcast || rank == c.root;
  }

  void stage(Collective& c) {
    Piece const p = piece(c, c.staged);
    int const me = job_.rank();
    std::byte* const to = stage_of(me, staged_);
    if (c.kind == Collective::sum) {  // my own share is added from where it is
      copy(to, p.data, 0, p.begin(me));
      copy(to, p.data, p.begin(me + 1), p.bytes());
    } else if (c.root == me) {
      copy(to, p.data, 0, p.bytes());
    }
    ++c.staged;
    publish(&Member::staged, ++staged_, team_);
  }

  void check_shape(Collective const& c) const {
    for (int r = 0; r < team_; ++r) {
      if (!takes_part(c, r)) continue;
      auto const theirs = job_.member(r).offer[c.number % Member::offers].shape;
      if (theirs != c.shape()) throw_other_shape(r, theirs, c);
    }
  }

  void sum(Collective& c) {
    if (c.kind == Collective::sum) {
      check_shape(c);
      Piece const p = piece(c, c.summed);
      int const me = job_.rank();
      terms_.clear();
      for (int r = 0; r < team_; ++r)
        terms_.to.push_back((r == me ? p.data : stage_of(r, summed_)) + p.begin(me));
      terms_.from.assign(terms_.to.begin(), terms_.to.end());
      c.add(terms_, (p.begin(me + 1) - p.begin(me)) / c.width);
      publish(&Member::summed, summed_ + 1, team_);
    }
    ++c.summed;
    ++summed_;
  }

  bool arrived(Collective const& c) const {
    if (c.kind == Collective::broadcast) return job_.member(c.root).staged.load() > collected_;
    return every(&Member::summed, collected_ + 1);
  }

  void collect(Collective& c) {
    Piece const p = piece(c, c.collected);
    int const me = job_.rank();
    if (c.kind == Collective::sum) {
      copy(p.data, stage_of(me, collected_), 0, p.begin(me));
      copy(p.data, stage_of(me, collected_), p.begin(me + 1), p.bytes());
    } else if (c.root != me) {
      check_shape(c);
      copy(p.data, stage_of(c.root, collected_), 0, p.bytes());
    }
    ++c.collected;
    publish(&Member::collected, ++collected_, team_);
    c.finished = c.collected == pieces(c);
  }

  SharedJob& job_;
  int team_;
  Terms terms_;
  std::uint64_t staged_ = 0;  // pieces that have passed each phase here
  std::uint64_t summed_ = 0;
  std::uint64_t collected_ = 0;
  std::uint64_t all_collected_ = 0;  // by every rank, when last looked at
};

}  // namespace elastic::transport::detail
