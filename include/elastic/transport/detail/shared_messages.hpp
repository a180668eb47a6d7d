// SPDX-License-Identifier: Apache-2.0
// Messages between the ranks of a shared-memory job, as seen by one rank: what it sends, what it has posted a
// receive for, and what has arrived unasked. Heads travel apart from the payload of long messages, so a short
// control message overtakes a bulk one that nobody has asked for yet. One file: both ends of a ring.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/traffic.hpp"
#include "elastic/transport/detail/shared_job.hpp"

namespace elastic::transport::detail {

struct Send {
  std::byte const* data;
  std::size_t bytes;
  int peer;
  int tag;
  std::size_t moved = 0;
  bool finished = false;
  bool lost = false;  // another process has taken the peer's place
};

struct Receive {
  std::byte* data;
  std::size_t bytes;
  int peer;
  int tag;
  bool finished = false;
  bool lost = false;                                     // another process has taken the peer's place
  std::optional<std::size_t> wrong_size = std::nullopt;  // the size of the message, where it is not `bytes`
};

class SharedMessages {
 public:
  SharedMessages(SharedJob& job, Traffic& traffic)
      : job_(job),
        traffic_(traffic),
        slot_bytes_(job.layout().geometry().slot_bytes),
        outboxes_(static_cast<std::size_t>(job.size())),
        inboxes_(static_cast<std::size_t>(job.size())),
        epochs_(static_cast<std::size_t>(job.size())) {
    if (job_.elastic())
      for (int r = 0; r < job_.size(); ++r) meet(r);
  }

  void start(Send& send) {
    if (job_.elastic()) meet(send.peer);
    ++traffic_.sent_messages;
    traffic_.sent_bytes += send.bytes;
    out(send.peer).waiting.push_back(&send);
    while (push(send.peer)) {
    }
  }
  void start(Receive& receive) {
    if (job_.elastic()) meet(receive.peer);
    auto& arrivals = in(receive.peer).arrivals;
    pull(receive.peer);
    auto const found = std::find_if(arrivals.begin(), arrivals.end(),
                                    [&](Arrival const& a) { return a.unclaimed() && a.tag == receive.tag; });
    if (found == arrivals.end())
      in(receive.peer).posted.push_back(&receive);
    else
      claim(receive.peer, found, receive);
  }

  /// Moves whatever can move now; true if something did.
  bool progress() {
    bool moved = false;
    for (int r = 0; r < job_.size(); ++r) {
      if (r == job_.rank()) continue;
      if (job_.elastic() && meet(r)) moved = true;
      moved = (int(push(r)) | int(pull(r))) != 0 || moved;
    }
    return moved;
  }

  /// The oldest unclaimed message of the next source that has one.
  std::optional<Envelope> probe() {
    for (int i = 0; i < job_.size(); ++i) {
      int const source = (next_source_ + i) % job_.size();
      for (Arrival const& a : in(source).arrivals) {
        if (!a.unclaimed()) continue;
        next_source_ = (source + 1) % job_.size();
        return Envelope{source, a.tag, a.bytes};
      }
    }
    return std::nullopt;
  }

  /// Whether a message from this rank waits to be received.
  bool holds_from(int source) {
    auto const& arrivals = in(source).arrivals;
    return std::any_of(arrivals.begin(), arrivals.end(), [](Arrival const& a) { return a.unclaimed(); });
  }

  /// Forgets a receive: its buffer will not be written any more. Its message is lost if it has begun to
  /// arrive.
  void cancel(Receive& receive) {
    std::erase(in(receive.peer).posted, &receive);
    for (Arrival& a : in(receive.peer).arrivals)
      if (a.receive == &receive) a.receive = nullptr, a.discarded = true;
  }
  /// Forgets a send: its buffer will not be read any more. If the peer has been promised the message, nothing
  /// more can be sent to it.
  void cancel(Send& send) {
    Outbox& box = out(send.peer);
    std::erase(box.waiting, &send);
    if (std::erase(box.streaming, &send) != 0) box.broken = true;
  }
  bool broken(int peer) { return out(peer).broken; }

 private:
  static constexpr std::size_t keep_bytes =
      64 * 1024;                                     // unclaimed messages up to this leave the ring unasked
  static constexpr std::size_t keep_messages = 256;  // of one source, before it has to wait

  // Counters of a link begin at the sum of its ranks' epochs times 2^40: what is below that in the segment is
  // of processes before them, and counts as nothing.
  struct Outbox {
    std::deque<Send*> waiting = {};    // not announced yet
    std::deque<Send*> streaming = {};  // announced, payload on its way
    std::uint64_t first = 0;           // where the counters began
    std::uint64_t heads = 0;
    std::uint64_t slots = 0;
    bool broken = false;
  };
  struct Arrival {
    std::size_t bytes;
    int tag;
    Receive* receive = nullptr;
    bool discarded = false;
    bool keeping = false;  // `kept` receives what nobody has asked for
    std::size_t moved = 0;
    std::vector<std::byte> kept = {};

    bool unclaimed() const { return receive == nullptr && !discarded; }
  };
  struct Inbox {
    std::list<Arrival> arrivals;  // unclaimed, or still arriving, in the order of their heads
    std::deque<Receive*> posted;  // without a message so far
    std::uint64_t first = 0;      // where the counters began
    std::uint64_t heads = 0;
    std::uint64_t slots = 0;
  };
  using Place = std::list<Arrival>::iterator;

  Outbox& out(int peer) { return outboxes_[static_cast<std::size_t>(peer)]; }
  Inbox& in(int peer) { return inboxes_[static_cast<std::size_t>(peer)]; }

  static std::uint64_t since(std::uint64_t first, std::atomic<std::uint64_t> const& counter) {
    return std::max(first, counter.load());
  }

  /// Notices that another process has taken the peer's place: what was under way with the one before is lost,
  /// what nobody has received of it is dropped. True if so.
  bool meet(int peer) {
    auto& known = epochs_[static_cast<std::size_t>(peer)];
    auto const now = job_.epoch(peer);
    if (now == known) return false;
    bool const first_there = known == 0;
    known = now;
    auto const lose = [](auto& operation) { operation.lost = operation.finished = true; };
    Outbox& to = out(peer);
    for (Send* const s : to.waiting) lose(*s);
    for (Send* const s : to.streaming) lose(*s);
    auto const first = (std::uint64_t(job_.epoch(job_.rank())) + now) << 40;
    to = {.first = first, .heads = first, .slots = first};
    Inbox& from = in(peer);
    for (Arrival& a : from.arrivals)
      if (a.receive != nullptr) lose(*a.receive);
    from.arrivals.clear();
    if (!first_there) {
      for (Receive* const r : from.posted) lose(*r);
      from.posted.clear();
    }
    from.first = from.heads = from.slots = first;
    return true;
  }
  /// Is what has just been read of the peer from the process that meet() knows?
  bool still(int peer) const {
    if (!job_.elastic()) return true;
    auto const now = job_.member(peer).epoch.fetch_add(0);  // a write: no read before it can come after it
    return now == epochs_[static_cast<std::size_t>(peer)];
  }

  bool push(int peer) {
    Outbox& box = out(peer);
    if (box.broken || (box.waiting.empty() && box.streaming.empty())) return false;
    Link& link = job_.layout().link(job_.base(), job_.rank(), peer);
    bool moved = false;
    while (!box.waiting.empty() && box.heads - since(box.first, link.heads_read) < Link::heads) {
      Send& send = *box.waiting.front();
      box.waiting.pop_front();
      Head& head = link.head[box.heads % Link::heads];
      head.bytes = send.bytes;
      head.tag = send.tag;
      if (send.bytes <= Head::inline_bytes) {
        if (send.bytes != 0) std::memcpy(head.payload.data(), send.data, send.bytes);
        send.finished = true;
      } else {
        box.streaming.push_back(&send);
      }
      head.stamp.store(++box.heads);
      moved = true;
    }
    if (!box.streaming.empty() && box.slots - since(box.first, link.slots_drained) < Geometry::slots) {
      Send& send = *box.streaming.front();
      std::size_t const count = std::min(slot_bytes_, send.bytes - send.moved);
      std::memcpy(job_.layout().slot(job_.base(), job_.rank(), peer, box.slots), send.data + send.moved,
                  count);
      send.moved += count;
      if (send.moved == send.bytes) {
        box.streaming.pop_front();
        send.finished = true;
      }
      link.slots_filled.store(++box.slots);
      moved = true;
    }
    if (moved) job_.wake(peer);
    return moved;
  }

  bool pull(int source) {
    Inbox& box = in(source);
    Link& link = job_.layout().link(job_.base(), source, job_.rank());
    bool moved = false;
    for (; box.arrivals.size() < keep_messages || !box.posted.empty(); moved = true) {
      Head const& head = link.head[box.heads % Link::heads];
      if (head.stamp.load() != box.heads + 1) break;
      if (job_.elastic()) {
        std::memcpy(&head_.bytes, &head.bytes, sizeof head - offsetof(Head, bytes));
        if (!still(source)) break;
        accept(source, head_);
      } else {
        accept(source, head);
      }
      link.heads_read.store(++box.heads);
    }
    if (drain(source, link)) moved = true;
    if (moved) job_.wake(source);
    return moved;
  }

  void accept(int source, Head const& head) {
    Inbox& box = in(source);
    bool const whole = head.bytes <= Head::inline_bytes;
    auto const wanted = std::find_if(box.posted.begin(), box.posted.end(),
                                     [&](Receive const* r) { return r->tag == head.tag; });
    Receive* const receive = wanted == box.posted.end() ? nullptr : *wanted;
    if (receive != nullptr) box.posted.erase(wanted);
    if (receive != nullptr && whole && receive->bytes == head.bytes) {
      if (head.bytes != 0) std::memcpy(receive->data, head.payload.data(), head.bytes);
      complete(*receive);
      return;
    }
    auto const place = box.arrivals.insert(box.arrivals.end(), Arrival{head.bytes, head.tag});
    if (whole) {
      place->kept.assign(head.payload.begin(),
                         head.payload.begin() + static_cast<std::ptrdiff_t>(head.bytes));
      place->keeping = true;
      place->moved = head.bytes;
    }
    if (receive != nullptr) claim(source, place, *receive);
  }

  void claim(int source, Place place, Receive& receive) {
    if (receive.bytes != place->bytes) {
      receive.wrong_size = place->bytes;
      receive.finished = true;
      place->discarded = true;
    } else {
      place->receive = &receive;
      if (place->keeping && place->moved != 0) std::memcpy(receive.data, place->kept.data(), place->moved);
    }
    place->keeping = false;
    place->kept = {};
    finish_if_complete(source, place);
  }

  /// Takes one slot of payload out of the ring, if its message has somewhere to go.
  bool drain(int source, Link& link) {
    Inbox& box = in(source);
    if (box.arrivals.empty() || since(box.first, link.slots_filled) == box.slots) return false;
    auto const arriving = [](Arrival const& a) { return a.moved < a.bytes; };
    auto const place = std::find_if(box.arrivals.begin(), box.arrivals.end(), arriving);
    if (place == box.arrivals.end()) return false;  // its head has not been read yet
    if (place->unclaimed() && !place->keeping) {
      bool const in_the_way = std::any_of(std::next(place), box.arrivals.end(),
                                          [&](Arrival const& a) { return !a.unclaimed() && arriving(a); });
      if (place->bytes > keep_bytes && !in_the_way) return false;
      place->keeping = true;
      place->kept.resize(place->bytes);
    }
    std::size_t const count = std::min(slot_bytes_, place->bytes - place->moved);
    std::byte const* const slot = job_.layout().slot(job_.base(), source, job_.rank(), box.slots);
    if (place->receive != nullptr)
      std::memcpy(place->receive->data + place->moved, slot, count);
    else if (place->keeping)
      std::memcpy(place->kept.data() + place->moved, slot, count);
    if (!still(source)) return false;
    place->moved += count;
    link.slots_drained.store(++box.slots);
    finish_if_complete(source, place);
    return true;
  }

  void finish_if_complete(int source, Place place) {
    if (place->moved < place->bytes || place->unclaimed()) return;
    if (place->receive != nullptr) complete(*place->receive);
    in(source).arrivals.erase(place);
  }
  void complete(Receive& receive) {
    receive.finished = true;
    ++traffic_.received_messages;
    traffic_.received_bytes += receive.bytes;
  }

  SharedJob& job_;
  Traffic& traffic_;
  std::size_t slot_bytes_;
  std::vector<Outbox> outboxes_;
  std::vector<Inbox> inboxes_;
  std::vector<std::uint32_t> epochs_;  // of the process that each place was last seen with
  Head head_{};                        // one that a newcomer might overwrite while it is read
  int next_source_ = 0;
};

}  // namespace elastic::transport::detail
