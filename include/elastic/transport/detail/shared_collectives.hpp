// SPDX-License-Identifier: Apache-2.0
// Collectives of a shared-memory job, as seen by one rank. Every one is a sequence of pieces that pass
// through the ranks' stages in the segment: stage mine, sum my share of everyone's, collect the other shares.
// One file: the three phases share their counters.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "elastic/traffic.hpp"
#include "elastic/transport/detail/chunks.hpp"
#include "elastic/transport/detail/shared_job.hpp"

namespace elastic::transport::detail {

/// out = from[0] + from[1] + ... in this order, elementwise; also to `copy` unless it is null. `from` may
/// contain `out` and `copy`. At least two summands.
template <class T>
void sum_in_order(std::vector<std::byte const*> const& from, std::size_t n, std::byte* out, std::byte* copy) {
  std::array<T, 1024> sum;  // stays in L1, and makes aliasing of `out` and `from` harmless
  for (std::size_t first = 0; first < n; first += sum.size()) {
    std::size_t const count = std::min(sum.size(), n - first);
    auto const term = [&](std::size_t i) { return reinterpret_cast<T const*>(from[i]) + first; };
    T const* const a = term(0);
    T const* const b = term(1);
    for (std::size_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
    for (std::size_t r = 2; r < from.size(); ++r) {
      T const* const c = term(r);
      for (std::size_t i = 0; i < count; ++i) sum[i] += c[i];
    }
    std::memcpy(out + first * sizeof(T), sum.data(), count * sizeof(T));
    if (copy != nullptr) std::memcpy(copy + first * sizeof(T), sum.data(), count * sizeof(T));
  }
}

/// One collective operation in flight.
struct Collective {
  enum Kind { barrier, broadcast, flat_sum, split_sum };
  using Sum = void (*)(std::vector<std::byte const*> const&, std::size_t, std::byte*, std::byte*);

  /// Sums of up to this many bytes are added by every rank for itself: one exchange instead of two.
  static constexpr std::size_t flat_bytes = 4096;

  template <class T>
  static Collective sum_of(T* data, std::size_t n) {
    return {n * sizeof(T) <= flat_bytes ? flat_sum : split_sum,
            reinterpret_cast<std::byte*>(data),
            n,
            sizeof(T),
            0,
            &sum_in_order<T>};
  }

  Kind kind = barrier;
  std::byte* data = nullptr;
  std::size_t n = 0;      // values
  std::size_t width = 1;  // bytes of one
  int root = 0;
  Sum sum = nullptr;
  std::size_t staged = 0;  // pieces that have passed each phase here
  std::size_t summed = 0;
  std::size_t collected = 0;
  bool finished = false;
};

class SharedCollectives {
 public:
  SharedCollectives(SharedJob& job, Traffic& traffic) : job_(job), traffic_(traffic), team_(job.size()) {}

  int team() const { return team_; }
  bool broken() const { return broken_; }

  void start(Collective& c) {
    if (team_ == 1) {
      c.finished = true;
      return;
    }
    queue_.push_back(&c);
    while (progress()) {
    }
  }
  /// Forgets an operation. The pieces of the team no longer match, so no later one can work.
  void cancel(Collective& c) {
    if (c.finished || std::find(queue_.begin(), queue_.end(), &c) == queue_.end()) return;
    broken_ = true;
    queue_.clear();
  }

  /// Moves the oldest operation in each phase by one piece, where the team allows it; true if something
  /// moved.
  bool progress() {
    if (queue_.empty()) return false;
    bool moved = false;
    for (std::size_t i = 0; i < queue_.size(); ++i) {  // stages ahead: later operations fill the pipeline
      Collective& c = *queue_[i];
      if (c.staged == pieces(c)) continue;
      if (every(&Member::collected, staged_ - free_stages())) {
        stage(c);
        moved = true;
      }
      break;
    }
    for (std::size_t i = 0; i < queue_.size(); ++i) {
      Collective& c = *queue_[i];
      if (c.summed == pieces(c)) continue;
      if (c.summed < c.staged && (c.kind != Collective::split_sum || every(&Member::staged, summed_ + 1))) {
        add(c);
        moved = true;
      }
      break;
    }
    Collective& oldest = *queue_.front();
    if (oldest.collected < oldest.summed && arrived(oldest)) {
      collect(oldest);
      moved = true;
    }
    return moved;
  }

  /// Is it rank `r` that the oldest operation waits for?
  bool waits_for(int r) const {
    if (queue_.empty() || r >= team_ || r == job_.rank()) return false;
    Collective const& c = *queue_.front();
    Member const& m = job_.member(r);
    if (collected_ == staged_) return m.collected.load() < staged_ - free_stages();
    if (collected_ == summed_) return m.staged.load() < summed_ + 1;
    if (c.kind == Collective::broadcast) return r == c.root && m.staged.load() < collected_ + 1;
    return (c.kind == Collective::split_sum ? m.summed : m.staged).load() < collected_ + 1;
  }

  /// The two steps of a change of team, each to be followed by a wait until regrouped(); no operation may be
  /// in flight. Ranks that were outside the team have passed fewer pieces: they catch up.
  void announce_regroup() { publish(&Member::regrouped, ++regroup_, job_.size()); }
  bool regrouped(int r) const { return job_.member(r).regrouped.load() >= regroup_; }
  std::uint64_t furthest() const {
    std::uint64_t most = 0;
    for (int r = 0; r < job_.size(); ++r) most = std::max(most, job_.member(r).collected.load());
    return most;
  }
  void regroup(int team, std::uint64_t piece) {
    team_ = team;
    staged_ = summed_ = collected_ = piece;
    publish(&Member::staged, piece, job_.size());
    publish(&Member::summed, piece, job_.size());
    publish(&Member::collected, piece, job_.size());
  }

 private:
  using Counter = std::atomic<std::uint64_t> Member::*;

  std::size_t per_piece(Collective const& c) const { return job_.layout().geometry().stage_bytes / c.width; }
  std::size_t pieces(Collective const& c) const {
    return std::max<std::size_t>(1, (c.n + per_piece(c) - 1) / per_piece(c));
  }
  std::uint64_t free_stages() const { return std::min<std::uint64_t>(staged_, Geometry::stages - 1); }

  bool every(Counter counter, std::uint64_t least) const {
    for (int r = 0; r < team_; ++r)
      if ((job_.member(r).*counter).load() < least) return false;
    return true;
  }
  void publish(Counter counter, std::uint64_t value, int team) {
    (job_.member(job_.rank()).*counter).store(value);
    for (int r = 0; r < team; ++r)
      if (r != job_.rank()) job_.wake(r);
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
    std::byte* const data = c.data == nullptr ? nullptr : c.data + first * c.width;
    return {data, std::min(per_piece(c), c.n - first), c.width, team_};
  }
  static void copy(std::byte* to, std::byte const* from, std::size_t begin, std::size_t end) {
    if (begin < end) std::memcpy(to + begin, from + begin, end - begin);
  }

  void stage(Collective& c) {
    Piece const p = piece(c, c.staged);
    int const me = job_.rank();
    std::byte* const to = job_.layout().stage(job_.base(), me, staged_);
    if (c.kind == Collective::split_sum) {  // my own share is added from where it is
      copy(to, p.data, 0, p.begin(me));
      copy(to, p.data, p.begin(me + 1), p.bytes());
    } else if (c.kind == Collective::flat_sum || (c.kind == Collective::broadcast && c.root == me)) {
      copy(to, p.data, 0, p.bytes());
    }
    job_.member(me).shape[staged_ % Geometry::stages].store(shape(c));
    ++c.staged;
    publish(&Member::staged, ++staged_, team_);
  }

  /// What every rank must agree on.
  static std::uint64_t shape(Collective const& c) {
    return c.n * c.width * 4 + (c.kind == Collective::barrier     ? 0
                                : c.kind == Collective::broadcast ? 1
                                : c.width == 4                    ? 2
                                                                  : 3);
  }
  void check_shape(Collective const& c, std::uint64_t number) {
    for (int r = 0; r < team_; ++r) {
      if (c.kind == Collective::broadcast && r != c.root) continue;
      std::uint64_t const theirs = job_.member(r).shape[number % Geometry::stages].load();
      if (theirs == shape(c)) continue;
      broken_ = true;
      queue_.clear();
      throw ProtocolError(r, "", "collective", std::chrono::seconds(0),
                          "it takes part in another operation or with another size (" +
                              std::to_string(theirs / 4) + " bytes, here " + std::to_string(shape(c) / 4) +
                              ")");
    }
  }

  void add(Collective& c) {
    if (c.kind == Collective::split_sum) {
      check_shape(c, summed_);
      Piece const p = piece(c, c.summed);
      std::size_t const begin = p.begin(job_.rank());
      std::size_t const count = (p.begin(job_.rank() + 1) - begin) / c.width;
      gather(p, summed_, begin);
      c.sum(from_, count, p.data + begin, job_.layout().stage(job_.base(), job_.rank(), summed_) + begin);
      publish(&Member::summed, summed_ + 1, team_);
    }
    ++c.summed;
    ++summed_;
  }

  bool arrived(Collective const& c) const {
    if (c.kind == Collective::broadcast) return job_.member(c.root).staged.load() > collected_;
    return every(c.kind == Collective::split_sum ? &Member::summed : &Member::staged, collected_ + 1);
  }

  void collect(Collective& c) {
    Piece const p = piece(c, c.collected);
    if (c.kind == Collective::barrier) check_shape(c, collected_);
    if (c.kind == Collective::split_sum) {
      for (int r = 0; r < team_; ++r)
        if (r != job_.rank())
          copy(p.data, job_.layout().stage(job_.base(), r, collected_), p.begin(r), p.begin(r + 1));
    } else if (c.kind == Collective::flat_sum) {
      check_shape(c, collected_);
      gather(p, collected_, 0);
      c.sum(from_, p.n, p.data, nullptr);
    } else if (c.kind == Collective::broadcast && c.root != job_.rank()) {
      check_shape(c, collected_);
      copy(p.data, job_.layout().stage(job_.base(), c.root, collected_), 0, p.bytes());
    }
    ++c.collected;
    publish(&Member::collected, ++collected_, team_);
    if (c.collected < pieces(c)) return;
    c.finished = true;
    queue_.pop_front();
    count(c);
  }

  /// The ranks' versions of a piece from byte `begin` on, in rank order.
  void gather(Piece const& p, std::uint64_t number, std::size_t begin) {
    from_.clear();
    for (int r = 0; r < team_; ++r)
      from_.push_back((r == job_.rank() ? p.data : job_.layout().stage(job_.base(), r, number)) + begin);
  }

  void count(Collective const& c) {
    if (c.kind == Collective::barrier) return;
    auto const others = static_cast<std::uint64_t>(team_ - 1);
    if (c.kind == Collective::broadcast) {
      bool const root = c.root == job_.rank();
      (root ? traffic_.sent_bytes : traffic_.received_bytes) += c.n * c.width * (root ? others : 1);
      (root ? traffic_.sent_messages : traffic_.received_messages) += root ? others : 1;
      return;
    }
    std::uint64_t const bytes = all_reduce_sent(c.n, team_, job_.rank()) * c.width;
    traffic_.sent_bytes += bytes;
    traffic_.received_bytes += bytes;
    traffic_.sent_messages += 2 * others;
    traffic_.received_messages += 2 * others;
  }

  SharedJob& job_;
  Traffic& traffic_;
  int team_;
  std::deque<Collective*> queue_;
  std::vector<std::byte const*> from_;
  std::uint64_t staged_ = 0;
  std::uint64_t summed_ = 0;
  std::uint64_t collected_ = 0;
  std::uint64_t regroup_ = 0;
  bool broken_ = false;
};

}  // namespace elastic::transport::detail
