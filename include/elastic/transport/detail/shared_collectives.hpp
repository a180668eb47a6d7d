// SPDX-License-Identifier: Apache-2.0
// The collectives of a shared-memory job, as seen by one rank: which way each goes, in which order they go,
// and when they are done. Small ones go through cells, large ones through stages, or, where every rank's buffer
// lives in the job, nowhere at all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/traffic.hpp"
#include "elastic/transport/detail/shared_cells.hpp"
#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/shared_operation.hpp"
#include "elastic/transport/detail/shared_resident.hpp"
#include "elastic/transport/detail/shared_stages.hpp"

namespace elastic::transport::detail {

class SharedCollectives {
 public:
  SharedCollectives(SharedJob& job, Traffic& traffic)
      : job_(job),
        traffic_(traffic),
        team_(job.size()),
        cells_(job),
        stages_(job),
        resident_(job),
        patience_(job.crowded()) {}

  int team() const { return team_; }
  bool broken() const { return broken_; }

  void start(Collective& c) {
    count(c);
    if (c.into && (team_ == 1 || c.small())) c.set_apart();
    if (team_ == 1) {
      c.finished = true;
    } else if (c.small()) {
      guarded([&] { return cells_.start(c); });
    } else {
      queue_.push_back(&c);
      while (progress()) {
      }
    }
  }
  /// Forgets an operation. What the ranks have passed no longer matches, so no later one can work; and a rank
  /// that is late may still write into a buffer that lives in the job.
  void cancel(Collective& c) {
    if (c.finished || (!cells_.holds(c) && std::find(queue_.begin(), queue_.end(), &c) == queue_.end()))
      return;
    give_up();
  }

  /// Moves what can move; true if something did.
  bool progress() {
    return guarded([&] {
      bool moved = cells_.progress();
      if (queue_.empty()) return moved;
      moved |= agree();
      moved |= stages_.progress(queue_);
      for (Collective* const c : queue_)
        if (c->path == Collective::resident_path) {
          refuse_late();
          moved |= resident_.progress(*c, team_);
          if (!c->finished) break;
        }
      if (std::erase_if(queue_, [](Collective const* c) { return c->finished; }) != 0) {
        bool const later = !queue_.empty() && queue_.front()->number != 0;
        job_.member(job_.rank()).finished.store(later ? queue_.front()->number - 1 : number_);
        job_.wake_team(team_);
      }
      return moved;
    });
  }
  /// Waits as long as peers that are about to come may take, and looks at nothing else meanwhile.
  void linger(Collective const& c) {
    constexpr int yields = 20;
    int looks = patience_.looks();
    for (int turn = 0; turn < yields; ++turn) {
      for (int look = 0; look < looks; ++look) {
        if (progress()) look = -1;
        if (c.finished)
          return turn == 0 || look > 0 ? patience_.came_while_looking() : patience_.came_while_yielding();
        Backoff::rest();
      }
      ::sched_yield();
    }
  }

  /// Is it rank `r` that the oldest operation before or at `c` waits for?
  bool waits_for(Collective const& c, int r) const {
    if (r >= team_ || r == job_.rank()) return false;
    if (c.small()) return cells_.waits_for(r);
    if (queue_.empty()) return false;
    Collective const& o = *queue_.front();
    Member const& m = job_.member(r);
    if (o.number == 0) return m.finished.load() + Member::offers <= number_;
    if (o.path == Collective::undecided) return m.offer[o.number % Member::offers].number.load() != o.number;
    return o.path == Collective::staged_path ? stages_.waits_for(o, r) : resident_.waits_for(o, r);
  }
  /// Has rank `r` given up on a collective? Then it takes no part in one any more.
  bool gave_up(int r) const { return job_.member(r).gave_up.load() != 0; }

  /// A change of team, with no operation in flight: all tell their counts, meet, read furthest(), and meet
  /// again. Ranks that were outside the team have come less far: they catch up.
  void tell_counts() {
    job_.member(job_.rank()).counts = {cells_.number(), number_, stages_.pieces_passed()};
  }
  void announce_regroup() {
    job_.member(job_.rank()).regrouped.store(++regroup_);
    job_.wake_team(job_.size());
  }
  bool regrouped(int r) const { return job_.member(r).regrouped.load() >= regroup_; }
  Counts furthest() const {
    Counts most;
    for (int r = 0; r < job_.size(); ++r) {
      Counts const& theirs = job_.member(r).counts;
      most = {std::max(most.small, theirs.small), std::max(most.large, theirs.large),
              std::max(most.pieces, theirs.pieces)};
    }
    return most;
  }
  void regroup(int team, Counts const& counts) {
    team_ = team;
    number_ = all_finished_ = counts.large;
    cells_.regroup(team, counts.small);
    stages_.regroup(team, counts.pieces);
    job_.member(job_.rank()).finished.store(number_);
    job_.wake_team(job_.size());
  }

 private:
  template <class F>
  bool guarded(F f) {
    try {
      return f();
    } catch (ProtocolError const&) {
      give_up();
      throw;
    }
  }
  void give_up() {
    broken_ = true;
    cells_.clear();
    queue_.clear();
    job_.heap().retire();
    job_.member(job_.rank()).gave_up.store(1);
    job_.wake_team(job_.size());
  }

  /// Nobody writes into the buffer of a rank that does not wait for it any more.
  void refuse_late() const {
    for (int r = 0; r < team_; ++r)
      if (gave_up(r))
        throw ProtocolError(r, "", "collective", std::chrono::seconds(0),
                            "it gave up on this one or an earlier one");
  }

  Offer& offer(int rank, std::uint64_t number) const {
    return job_.member(rank).offer[number % Member::offers];
  }

  /// Tells the others where my buffers are, and decides with their offers which way the large ones go.
  bool agree() {
    bool moved = false;
    for (Collective* const c : queue_) {
      if (c->number == 0) {
        if (!place_for(number_ + 1)) break;
        publish(*c);
        moved = true;
      }
      if (c->path == Collective::undecided && decide(*c)) moved = true;
    }
    return moved;
  }
  /// An offer may be written again once everybody is done with the operation it was for.
  bool place_for(std::uint64_t number) {
    if (all_finished_ + Member::offers >= number) return true;
    all_finished_ = number_;
    for (int r = 0; r < team_; ++r) all_finished_ = std::min(all_finished_, job_.member(r).finished.load());
    return all_finished_ + Member::offers >= number;
  }
  void publish(Collective& c) {
    c.number = ++number_;
    Offer& mine = offer(job_.rank(), c.number);
    mine.shape = c.shape();
    auto const owns = [&](std::byte* data) { return job_.heap().owns(data, c.bytes()); };
    bool const resident = c.kind == Collective::sum && owns(c.data) && (!c.into || owns(c.into));
    mine.place = resident ? job_.heap().place(c.data) : 0;
    mine.into = resident && c.into ? job_.heap().place(c.into) : 0;
    mine.done.store(0, std::memory_order_relaxed);
    mine.taken.store(0, std::memory_order_relaxed);
    mine.number.store(c.number);
    if (!resident) go_through_stages(c);
    job_.wake_team(team_);
  }
  static void go_through_stages(Collective& c) {
    if (c.path == Collective::staged_path) return;
    c.path = Collective::staged_path;
    if (c.into) c.set_apart();
  }
  /// One private buffer is enough for all to go through the stages.
  bool decide(Collective& c) {
    for (int r = 0; r < team_; ++r)
      if (offer(r, c.number).number.load() != c.number) return false;
    c.path = Collective::resident_path;
    c.share = SharedResident::share(c.bytes(), team_);
    for (int r = 0; r < team_; ++r) {
      Offer const& theirs = offer(r, c.number);
      if (theirs.shape != c.shape()) throw_other_shape(r, theirs.shape, c);
      if (theirs.place == 0 || (theirs.into == 0) != (c.into == nullptr)) go_through_stages(c);
    }
    return true;
  }

  void count(Collective const& c) {
    if (c.kind == Collective::barrier) return;
    auto const others = static_cast<std::uint64_t>(team_ - 1);
    if (c.kind == Collective::broadcast) {
      bool const root = c.root == job_.rank();
      (root ? traffic_.sent_bytes : traffic_.received_bytes) += c.bytes() * (root ? others : 1);
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
  SharedCells cells_;
  SharedStages stages_;
  SharedResident resident_;
  Patience patience_;
  std::vector<Collective*> queue_;  // the large ones that are not done, in the order of their start
  std::uint64_t number_ = 0;        // of the last large one offered
  std::uint64_t all_finished_ = 0;  // the large one up to which every rank was done when last looked at
  std::uint64_t regroup_ = 0;
  bool broken_ = false;
};

}  // namespace elastic::transport::detail
