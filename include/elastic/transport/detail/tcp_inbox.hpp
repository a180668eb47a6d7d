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
      if (t.size <= eager_limit) return;
      if (++last_serial_ == 0) ++last_serial_;
      t.serial = last_serial_;
      out_.control(Kind::ready, 0, t.size, t.tag, t.serial);
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

  /// Posts a receive of a part of a collective, whose id both sides know. `awaited`: the sender waits for it.
  void expect(Transfer& t, bool awaited) {
    auto const match = std::find_if(held_.begin(), held_.end(), [&](Held const& h) { return h.id == t.id; });
    if (awaited && t.size > early_limit) out_.control(Kind::grant, t.id, t.size);
    if (match == held_.end()) {
      receiving_.push_back(&t);
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
      if (h.claim == &t) {
        h.claim = nullptr;
        news_ = true;
      }
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

  /// Bytes read so far, frames included.
  std::uint64_t taken() const { return taken_; }

  /// Reads what has arrived, a few hundred KiB at most.
  template <class Stream>
  error_code pump(Stream&& stream) {
    for (std::size_t budget = call_limit; budget > 0;) {
      parse();
      if (broken_ != nullptr || (full() && left_ == 0)) return {};
      Transfer* const guess = expected();
      auto const direct = guess != nullptr ? place(*guess, spill) : sink();
      // Behind a payload come control frames and the header of the next one, whose place is not known yet.
      std::size_t const beside = direct.size() == 0      ? buffer_.size() - end_
                                 : guess != nullptr      ? headers_before(*guess) * sizeof(Header)
                                 : left_ > direct.size() ? 0
                                                         : std::min(lead, buffer_.size() - end_);
      std::array<asio::mutable_buffer, 2> room{direct, asio::buffer(buffer_.data() + end_, beside)};
      if (guess != nullptr) std::swap(room[0], room[1]);
      error_code error;
      std::size_t const got = stream.read_some(room, error);
      if (error) return error;
      taken_ += got;
      budget -= std::min(budget, got);
      std::size_t const first = std::min(got, room[0].size());
      if (guess == nullptr) {
        end_ += got - first;
        if (first > 0) consume(first);
      } else {
        end_ = first;
        if (got > first) check(*guess, static_cast<std::byte*>(direct.data()), got - first);
      }
      if (got < room[0].size() + room[1].size()) break;  // that was all
    }
    parse();
    return {};
  }

 private:
  struct Held {
    int tag = 0;
    std::uint64_t id = 0;
    std::size_t total = 0;
    bool announced = false;  // a large one: the payload is still at the sender
    bool complete = false;
    std::vector<std::byte> data{};
    Transfer* claim = nullptr;
  };
  using Iterator = std::list<Held>::iterator;

  static constexpr std::size_t held_limit = 64 << 20;
  static constexpr std::size_t held_overhead = 128;     // so that empty messages count, too
  static constexpr std::size_t spare_limit = 8;         // messages whose memory is kept for the next ones
  static constexpr std::size_t call_limit = 256 << 10;  // what the cache keeps from the reading to the adding

  static constexpr std::size_t spill = 64 << 10;           // what may be read before its header is known
  static constexpr std::size_t lead = 8 * sizeof(Header);  // what may be read beside a payload
  static constexpr char const* no_room = "more of a message than there is room for";

  static bool collective(std::uint64_t id) { return (id & Outbox::collective_bit) != 0; }

  Iterator release(Iterator h) {
    if (held_target_ == &*h) {  // what is still to come of it goes nowhere
      held_target_ = nullptr;
      sink_ = nullptr;
    }
    held_bytes_ -= h->data.size() + held_overhead;
    auto const next = std::next(h);
    if (spare_.size() < spare_limit)
      spare_.splice(spare_.end(), held_, h);
    else
      held_.erase(h);
    return next;
  }

  Held& hold(Header const& h, bool announced) {
    held_bytes_ += h.length + held_overhead;
    if (spare_.empty()) spare_.emplace_back();
    held_.splice(held_.end(), spare_, std::prev(spare_.end()));
    Held& held = held_.back();
    held.tag = h.tag;
    held.id = h.id;
    held.total = h.total;
    held.announced = announced;
    held.complete = false;
    held.data.resize(h.length);
    held.claim = nullptr;
    return held;
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
    out_.control(Kind::grant, id, t.size, 0, t.serial);
  }

  void claim(Iterator h, Transfer& t) {
    h->claim = &t;
    if (h->complete) deliver(h);
  }

  void finish(Transfer& t) {
    traffic_.received_bytes += t.size;
    if (t.size > 0 || !collective(t.id)) ++traffic_.received_messages;
    t.operation->finish(t);
  }

  void deliver(Iterator h) {
    Transfer& t = *h->claim;
    if (h->data.size() > t.available) {
      broken_ = no_room;
      return;
    }
    if (!h->data.empty()) std::memcpy(t.data, h->data.data(), h->data.size());
    t.moved = h->data.size();
    release(h);
    t.operation->advance();
    if (t.moved == t.size)
      finish(t);
    else
      receiving_.push_back(&t);
  }

  Transfer* take_posted(Header const& h) {
    auto const match =
        std::find_if(posted_.begin(), posted_.end(), [&](Transfer* t) { return t->tag == h.tag; });
    if (match == posted_.end()) return nullptr;
    Transfer* const t = *match;
    posted_.erase(match);
    return t;
  }

  /// The transfer whose payload most likely comes next: it may be read to where it belongs together with its
  /// header, for nothing else has a use for that place.
  Transfer* expected() const {
    if (left_ > 0 || end_ > 0 || full()) return nullptr;
    auto const& first = receiving_.empty() ? posted_ : receiving_;
    return !first.empty() && first.front()->available > first.front()->moved ? first.front() : nullptr;
  }

  /// A large message that was posted before it came is announced in the same breath.
  std::size_t headers_before(Transfer const& t) const {
    return receiving_.empty() && t.size > eager_limit ? 2 : 1;
  }

  /// The headers before the payload of `t` have come and `count` bytes more, which stand where that belongs.
  void check(Transfer& t, std::byte* payload, std::size_t count) {
    std::size_t const headers = headers_before(t);
    Header h[2];
    std::memcpy(h, buffer_.data(), headers * sizeof(Header));
    Header const& last = h[headers - 1];
    bool its_own = last.total == t.size && last.length >= count && last.serial == t.serial;
    if (headers == 2)
      its_own = its_own && h[0].kind == Kind::announce && h[0].tag == t.tag && h[0].total == t.size &&
                h[0].serial == t.serial && last.kind == Kind::fragment && last.id == h[0].id;
    else if (last.kind == Kind::fragment)
      its_own = its_own && last.id == t.id;
    else
      its_own = its_own && last.kind == Kind::eager && last.tag == t.tag;
    for (std::size_t k = 0; k < headers; ++k) its_own = its_own && fault(h[k]) == nullptr;
    if (its_own) {
      end_ = 0;
      for (std::size_t k = 0; k < headers; ++k) begin(h[k]);
      if (broken_ == nullptr) consume(count);
    } else {
      std::memcpy(buffer_.data() + end_, payload, count);
      end_ += count;
    }
  }

  void aim(Held& h) {
    held_target_ = &h;
    sink_ = h.data.data();
  }

  /// Where the payload goes on, and how much of it; nowhere if nobody wants it.
  asio::mutable_buffer sink() const {
    if (target_ != nullptr) return place(*target_, std::min(left_, call_limit));
    return asio::buffer(sink_, sink_ != nullptr ? left_ : 0);
  }

  /// Where the next bytes of a transfer go, at most `count`.
  static asio::mutable_buffer place(Transfer const& t, std::size_t count) {
    count = std::min(count, t.available - t.moved);
    if (t.ring == 0) return asio::buffer(t.data + t.moved, count);
    std::size_t const at = t.moved % t.ring;
    return asio::buffer(t.data + at, std::min(count, t.ring - at));
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
      case Kind::ready: return out_.ready(h.tag, h.serial, h.total);
      case Kind::grant: broken_ = out_.granted(h.id, h.total, h.serial); return;
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
        target_ = t;
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
    auto const match = std::find_if(receiving_.begin(), receiving_.end(), [&](Transfer* t) {
      return t->id == h.id && t->serial == h.serial;  // another serial: sent again
    });
    if (match != receiving_.end()) {
      Transfer& t = **match;
      if (t.size != h.total) {
        fail_size(t, h.total);
        receiving_.erase(match);
      } else if (h.length > t.available - t.moved) {
        broken_ = no_room;
      } else {
        target_ = &t;
      }
    } else if (collective(h.id) && h.id >= horizon_ && !leaving_) {
      bool const first =
          std::none_of(held_.begin(), held_.end(), [&](Held const& x) { return x.id == h.id; });
      if (first && h.length <= early_limit)
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
      target_->operation->advance();
    }
    if (left_ == 0) end();
  }

  void parse() {
    while (broken_ == nullptr) {
      std::size_t const there = end_ - begin_;
      if (left_ > 0) {
        std::size_t count = std::min(left_, there);
        if (count == 0) break;
        if (asio::mutable_buffer const to = sink(); to.size() > 0) {
          count = std::min(count, to.size());
          std::memcpy(to.data(), buffer_.data() + begin_, count);
        }
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
    if (end_ > begin_) std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
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
  std::list<Held> spare_;
  std::size_t held_bytes_ = 0;
  Transfer* target_ = nullptr;   // where the payload that now arrives goes: a receive,
  Held* held_target_ = nullptr;  // or a message to hold,
  std::byte* sink_ = nullptr;    // or the reason of an abort, or nowhere
  std::size_t left_ = 0;
  std::array<std::byte, 2 * sizeof(Header) + spill> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t taken_ = 0;
  std::uint16_t last_serial_ = 0;
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
