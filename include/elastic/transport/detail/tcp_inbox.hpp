// SPDX-License-Identifier: Apache-2.0
// The receiving half of a link: takes frames apart, puts payloads straight into the buffers that wait for
// them, and holds small messages that nobody has asked for yet. Longer than most headers because where a payload
// goes, halfway through its frame, depends on receives that come, go and are cancelled meanwhile.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/transport/detail/tcp_operation.hpp"
#include "elastic/transport/detail/tcp_outbox.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_wire.hpp"

namespace elastic::transport::detail {

class Inbox {
 public:
  /// `horizon` is the id of the first collective that this rank has not started.
  Inbox(Outbox& out, Traffic& traffic, int peer, std::uint64_t const& horizon)
      : out_(out), traffic_(traffic), peer_(peer), horizon_(horizon) {}

  /// Posts a receive of a message between two ranks.
  void receive(Transfer& t) {
    auto const match = std::find_if(held_.begin(), held_.end(), [&](Held const& h) {
      return !collective(h.id) && h.claim == nullptr && h.tag == t.tag;
    });
    if (match == held_.end()) {
      posted_.push_back(&t);
    } else if (match->total != t.size) {
      fail_size(t, match->total);
      if (match->announced) out_.control(Kind::refuse, match->id);
      release(match);
    } else if (match->announced) {
      grant(t, match->id);
      release(match);
    } else {
      claim(match, t);
    }
  }

  /// Posts a receive of a part of a collective, whose id both sides know.
  void expect(Transfer& t) {
    auto const match = std::find_if(held_.begin(), held_.end(), [&](Held const& h) { return h.id == t.id; });
    if (match == held_.end()) {
      receiving_.push_back(&t);
      if (t.size > eager_limit) out_.control(Kind::grant, t.id, t.size);
    } else if (match->total != t.size) {
      fail_size(t, match->total);
      release(match);
    } else {
      claim(match, t);
    }
  }

  /// Forgets a receive: what still arrives for it is thrown away.
  void cancel(Transfer& t) {
    std::erase(posted_, &t);
    std::erase(receiving_, &t);
    for (Held& h : held_)
      if (h.claim == &t) h.claim = nullptr;
    if (target_ != &t) return;
    target_ = nullptr;
    sink_ = nullptr;
  }

  /// The first message that no receive has claimed.
  std::optional<Envelope> peek() const {
    for (Held const& h : held_)
      if (!collective(h.id) && h.claim == nullptr && (h.announced || h.complete))
        return Envelope{peer_, h.tag, h.total};
    return {};
  }

  template <class F>
  void for_each_transfer(F&& f) {
    if (target_ != nullptr) f(*target_);
    for (Transfer* const t : posted_) f(*t);
    for (Transfer* const t : receiving_) f(*t);
    for (Held& h : held_)
      if (h.claim != nullptr) f(*h.claim);
  }

  /// The peer is gone: what has not arrived never will.
  void forget_unfinished() {
    target_ = nullptr;
    held_target_ = nullptr;
    sink_ = nullptr;
    for (auto h = held_.begin(); h != held_.end();) h = h->complete ? std::next(h) : release(h);
  }

  /// From now on nothing is held: this rank leaves.
  void discard_all() { leaving_ = true; }

  /// So much is held that the peer has to wait.
  bool full() const { return held_bytes_ > held_limit && !leaving_; }
  bool bye() const { return bye_; }
  /// Whether there is something new to peek at since the last call.
  bool take_news() { return std::exchange(news_, false); }
  char const* broken() const { return broken_; }
  /// Why the peer ended the job; empty while it has not.
  std::string const& aborted() const { return aborted_; }
  /// The rank that did, as the peer says.
  int origin() const { return origin_; }

  /// Reads what has arrived, a few MiB at most.
  error_code pump(Socket& socket) {
    for (std::size_t budget = 4 * fragment_limit; budget > 0;) {
      parse();
      if (broken_ != nullptr || (full() && left_ == 0)) return {};
      std::array<asio::mutable_buffer, 2> const room{
          asio::buffer(sink_, sink_ != nullptr ? left_ : 0),
          asio::buffer(buffer_.data() + end_, buffer_.size() - end_)};
      error_code error;
      std::size_t const got = socket.read_some(room, error);
      if (error) return error;
      budget -= std::min(budget, got);
      std::size_t const direct = std::min(got, room[0].size());
      end_ += got - direct;
      if (direct > 0) consume(direct);
    }
    parse();
    return {};
  }

 private:
  struct Held {
    int tag;
    std::uint64_t id;
    std::size_t total;
    bool announced;  // a large one: the payload is still at the sender
    bool complete = false;
    std::vector<std::byte> data{};
    Transfer* claim = nullptr;
  };
  using Iterator = std::list<Held>::iterator;

  static constexpr std::size_t held_limit = 64 << 20;
  static constexpr std::size_t held_overhead = 128;  // so that empty messages count, too

  static bool collective(std::uint64_t id) { return (id & Outbox::collective_bit) != 0; }

  Iterator release(Iterator h) {
    held_bytes_ -= h->data.size() + held_overhead;
    return held_.erase(h);
  }

  Held& hold(Header const& h, bool announced) {
    held_bytes_ += h.length + held_overhead;
    held_.push_back({h.tag, h.id, static_cast<std::size_t>(h.total), announced});
    held_.back().data.resize(h.length);
    return held_.back();
  }

  void fail_size(Transfer& t, std::uint64_t total) {
    t.operation->fail(
        {Trouble::protocol,
         peer_,
         {},
         "its message has " + std::to_string(total) + " bytes, this rank expects " + std::to_string(t.size)});
  }

  void grant(Transfer& t, std::uint64_t id) {
    t.id = id;
    receiving_.push_back(&t);
    out_.control(Kind::grant, id, t.size);
  }

  void claim(Iterator h, Transfer& t) {
    h->claim = &t;
    if (h->complete) deliver(h);
  }

  void finish(Transfer& t) {
    if (t.size > 0 || !collective(t.id)) ++traffic_.received_messages;
    t.operation->finish(t);
  }

  void deliver(Iterator h) {
    Transfer& t = *h->claim;
    if (t.size > 0) std::memcpy(t.data, h->data.data(), t.size);
    t.moved = t.size;
    release(h);
    traffic_.received_bytes += t.size;
    finish(t);
    t.operation->arrived();
  }

  Transfer* take_posted(Header const& h) {
    auto const match =
        std::find_if(posted_.begin(), posted_.end(), [&](Transfer* t) { return t->tag == h.tag; });
    if (match == posted_.end()) return nullptr;
    Transfer* const t = *match;
    posted_.erase(match);
    return t;
  }

  void aim(Transfer& t) {
    target_ = &t;
    sink_ = t.data + t.moved;
  }

  void aim(Held& h) {
    held_target_ = &h;
    sink_ = h.data.data();
  }

  /// Decides where the frame's payload goes; by default nowhere.
  void begin(Header const& h) {
    target_ = nullptr;
    held_target_ = nullptr;
    sink_ = nullptr;
    left_ = h.length;
    if (bye_) return;
    switch (h.kind) {
      case Kind::eager:
      case Kind::announce: return begin_message(h);
      case Kind::fragment: return begin_fragment(h);
      case Kind::grant: broken_ = out_.granted(h.id, h.total); return;
      case Kind::refuse: return out_.refused(h.id);
      case Kind::bye: bye_ = true; return;
      case Kind::abort:
        reason_.assign(h.length, '?');
        sink_ = reinterpret_cast<std::byte*>(reason_.data());
        origin_ = h.tag;
        aborting_ = true;
        return;
    }
  }

  void begin_message(Header const& h) {
    bool const announced = h.kind == Kind::announce;
    if (collective(h.id)) {
      broken_ = "a message with the number of a collective";
    } else if (Transfer* const t = take_posted(h)) {
      if (t->size != h.total) {
        fail_size(*t, h.total);
        if (announced) out_.control(Kind::refuse, h.id);
      } else if (announced) {
        grant(*t, h.id);
      } else {
        aim(*t);
      }
    } else if (!leaving_) {
      Held& held = hold(h, announced);
      if (announced)
        news_ = true;
      else
        aim(held);
    }
  }

  void begin_fragment(Header const& h) {
    auto const match =
        std::find_if(receiving_.begin(), receiving_.end(), [&](Transfer* t) { return t->id == h.id; });
    if (match != receiving_.end()) {
      Transfer& t = **match;
      if (t.size != h.total) {
        fail_size(t, h.total);
        receiving_.erase(match);
      } else if (h.length > t.size - t.moved) {
        broken_ = "more of a message than its length";
      } else {
        aim(t);
      }
    } else if (collective(h.id) && h.id >= horizon_ && !leaving_) {
      if (h.length == h.total && h.length <= eager_limit)
        aim(hold(h, false));
      else
        broken_ = "a part of a collective that this rank has not reached";
    }
  }

  void end() {
    if (aborting_) {
      aborting_ = false;
      aborted_ = reason_.empty() ? "no reason given" : reason_;
      for (char& c : aborted_)
        if (static_cast<unsigned char>(c) < ' ' || c == 127) c = ' ';
    }
    if (Transfer* const t = target_; t != nullptr && t->moved == t->size) {
      target_ = nullptr;
      std::erase(receiving_, t);
      finish(*t);
    }
    if (held_target_ != nullptr) {
      Held const& held = *held_target_;
      auto const h = std::find_if(held_.begin(), held_.end(), [&](Held const& x) { return &x == &held; });
      held_target_ = nullptr;
      h->complete = true;
      news_ = true;
      if (h->claim != nullptr) deliver(h);
    }
    target_ = nullptr;
    sink_ = nullptr;
  }

  /// `count` payload bytes are in place.
  void consume(std::size_t count) {
    left_ -= count;
    if (sink_ != nullptr) sink_ += count;
    if (target_ != nullptr) {
      target_->moved += count;
      traffic_.received_bytes += count;
      target_->operation->arrived();
    }
    if (left_ == 0) end();
  }

  void parse() {
    while (broken_ == nullptr) {
      std::size_t const there = end_ - begin_;
      if (left_ > 0) {
        std::size_t const count = std::min(left_, there);
        if (count == 0) break;
        if (sink_ != nullptr) std::memcpy(sink_, buffer_.data() + begin_, count);
        begin_ += count;
        consume(count);
        continue;
      }
      if (there < sizeof(Header) || full()) break;
      Header h;
      std::memcpy(&h, buffer_.data() + begin_, sizeof h);
      begin_ += sizeof h;
      broken_ = fault(h);
      if (broken_ != nullptr) break;
      begin(h);
      if (left_ == 0) end();
    }
    if (begin_ == 0) return;
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }

  Outbox& out_;
  Traffic& traffic_;
  int peer_;
  std::uint64_t const& horizon_;
  std::vector<Transfer*> posted_;     // receives whose message has not begun, in the order of their calls
  std::vector<Transfer*> receiving_;  // granted, or expected as part of a collective
  std::list<Held> held_;              // messages nobody has claimed, in the order of their arrival
  std::size_t held_bytes_ = 0;
  Transfer* target_ = nullptr;   // where the payload that now arrives goes: a receive,
  Held* held_target_ = nullptr;  // or a message to hold,
  std::byte* sink_ = nullptr;    // or nowhere
  std::size_t left_ = 0;
  std::array<std::byte, 16 << 10> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool leaving_ = false;
  bool bye_ = false;
  bool news_ = false;
  bool aborting_ = false;
  char const* broken_ = nullptr;
  std::string reason_;
  int origin_ = -1;
  std::string aborted_;
};

}  // namespace elastic::transport::detail
