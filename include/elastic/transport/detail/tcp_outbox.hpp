// SPDX-License-Identifier: Apache-2.0
// The sending half of a link: control frames and small messages first and in order, then the large messages
// that may go, one fragment at a time in turn, so that nothing waits behind more than one fragment. Nothing is
// allocated once its queues have grown. Longer than most headers because transfers come, go and start again
// while a frame of theirs is half written.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/transport/detail/tcp_operation.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_wire.hpp"

namespace elastic::transport::detail {

class Outbox {
 public:
  explicit Outbox(Traffic& traffic) : traffic_(traffic) {
    queue_.reserve(16);
    large_.reserve(16);
  }

  void control(Kind kind, std::uint64_t id = 0, std::uint64_t total = 0, int tag = 0,
               std::uint16_t serial = 0) {
    queue_.push_back({Header{.kind = kind, .serial = serial, .tag = tag, .id = id, .total = total}, nullptr});
  }

  /// A message between two ranks: small ones go at once, large ones when their receive is posted.
  void message(Transfer& t) {
    Header h{.kind = Kind::eager, .tag = t.tag, .id = t.id, .total = t.size};
    if (t.size <= eager_limit) {
      h.length = static_cast<std::uint32_t>(t.size);
      queue_.push_back({h, &t});
      return;
    }
    auto const match = std::find_if(ready_.begin(), ready_.end(),
                                    [&](Ready const& r) { return r.tag == t.tag && r.total == t.size; });
    if (match != ready_.end()) {
      t.serial = match->serial;
      t.granted = true;
      ready_.erase(match);
    }
    control(Kind::announce, t.id, t.size, t.tag, t.serial);
    large_.push_back(&t);
  }

  /// A part of a collective: the receiver expects it, so it needs no announcement. `granted`: the receiver has
  /// started it for sure; else it can be behind by some collectives, or have said already that it is not.
  void piece(Transfer& t, bool granted) {
    t.confirmed = true;
    t.granted = granted || t.size <= early_limit;
    large_.push_back(&t);
    auto const early = std::find_if(early_.begin(), early_.end(), [&](auto& g) { return g.first == t.id; });
    if (early == early_.end()) return;
    std::uint64_t const total = early->second;
    early_.erase(early);
    this->granted(t.id, total, 0);
  }

  /// Before everything else that waits; only the first time.
  void abort(int origin, std::string_view reason) {
    if (aborted_) return;
    aborted_ = true;
    reason_ = reason.substr(0, reason_limit);
    Header const h{.kind = Kind::abort, .tag = origin, .length = static_cast<std::uint32_t>(reason_.size())};
    queue_.insert(queue_.begin() + static_cast<std::ptrdiff_t>(front_), {h, nullptr});
  }

  /// The peer has posted a receive: what fits may be sent without asking. Forgetting one costs a round trip.
  void ready(int tag, std::uint16_t serial, std::uint64_t total) {
    if (ready_.size() == 1024) ready_.erase(ready_.begin());
    ready_.push_back({tag, serial, total});
  }

  /// The receiver is ready for `total` bytes. Returns what is wrong with that, or nullptr.
  char const* granted(std::uint64_t id, std::uint64_t total, std::uint16_t serial) {
    if (serial != 0) std::erase_if(ready_, [&](Ready const& r) { return r.serial == serial; });
    auto const match = std::find_if(large_.begin(), large_.end(), [&](Transfer* t) { return t->id == id; });
    if (match != large_.end()) {
      Transfer& t = **match;
      if (t.size != total)
        t.operation->fail(
            {Trouble::protocol,
             t.peer,
             {},
             "it expects " + std::to_string(total) + " bytes, this rank sends " + std::to_string(t.size)});
      if (t.serial != serial) {  // not the receive that it was sent to: what has gone is thrown away there
        detach(t);
        t.serial = serial;
        t.moved = 0;
      }
      t.granted = true;
      t.confirmed = true;
      if (t.moved == t.size && t.size > 0) finish(t);
      return nullptr;
    }
    if ((id & collective_bit) == 0) return nullptr;  // this rank no longer sends it
    if (early_.size() == 4096) return "too many grants for collectives that this rank has not reached";
    early_.emplace_back(id, total);
    return nullptr;
  }

  /// The receive has another size and throws; for the sender the message is gone, like a small one.
  void refused(std::uint64_t id) {
    auto const match = std::find_if(large_.begin(), large_.end(), [&](Transfer* t) { return t->id == id; });
    if (match == large_.end() || (id & collective_bit) != 0 || (*match)->confirmed) return;
    Transfer& t = **match;
    detach(t);
    std::erase(large_, &t);
    t.operation->finish(t);
  }

  /// Forgets a transfer; what the wire still needs of its buffer is copied.
  void cancel(Transfer& t) {
    detach(t);
    for (auto f = queue_.begin() + static_cast<std::ptrdiff_t>(front_); f != queue_.end();)
      f = f->transfer == &t ? queue_.erase(f) : f + 1;
    std::erase(large_, &t);
  }

  template <class Fail>
  void for_each_transfer(Fail&& f) {
    if (busy_ && transfer_ != nullptr) f(*transfer_);
    for (std::size_t k = front_; k < queue_.size(); ++k)
      if (queue_[k].transfer != nullptr) f(*queue_[k].transfer);
    for (Transfer* const t : large_) f(*t);
  }

  bool empty() const { return !busy_ && front_ == queue_.size(); }

  bool has_work() const {
    return !empty() || std::any_of(large_.begin(), large_.end(), [](Transfer* t) { return may_go(*t); });
  }

  /// Bytes written so far, frames included.
  std::uint64_t given() const { return given_; }

  /// Writes what the socket takes, a few hundred KiB at most; would_block means: come back when it is writable.
  template <class Stream>
  error_code pump(Stream&& stream) {
    for (std::size_t budget = call_limit; budget > 0;) {
      if (!busy_ && !next()) return {};
      std::size_t const payload = std::min(left_, call_limit);
      std::array<asio::const_buffer, 2> const rest{
          asio::buffer(reinterpret_cast<char const*>(headers_.data()) + (header_bytes_ - header_left_),
                       header_left_),
          asio::buffer(payload_, payload)};
      error_code error;
      std::size_t sent = stream.write_some(rest, error);
      if (error) return error;
      bool const full = sent < header_left_ + payload;
      given_ += sent;
      budget -= std::min(budget, sent);
      std::size_t const head = std::min(sent, header_left_);
      header_left_ -= head;
      sent -= head;
      payload_ += sent;
      left_ -= sent;
      if (transfer_ != nullptr) {
        transfer_->moved += sent;
        if (sent > 0) transfer_->operation->advance();
      }
      if (header_left_ == 0 && left_ == 0) complete();
      if (full) return asio::error::would_block;
    }
    return {};
  }

  static constexpr std::uint64_t collective_bit = std::uint64_t{1} << 63;

 private:
  struct Frame {
    Header header;
    Transfer* transfer;
  };
  struct Ready {
    int tag;
    std::uint16_t serial;
    std::uint64_t total;
  };

  static constexpr std::size_t call_limit = 256
                                            << 10;  // what the cache keeps from the sender to the receiver
  static constexpr std::size_t piece_limit = 32 << 10;  // what is worth a frame

  /// How far a transfer may go now.
  static std::size_t limit(Transfer const& t) {
    return t.granted ? t.available : std::min(t.available, t.confirmed ? early_limit : 0);
  }

  static bool may_go(Transfer const& t) {
    std::size_t const until = limit(t);
    if (until == t.size) return t.moved < t.size || (t.size == 0 && t.confirmed);
    return until > t.moved && (t.moved == 0 || until - t.moved >= piece_limit);
  }

  /// Makes the next frame, with the control frames in front of it.
  bool next() {
    std::size_t count = 0;
    transfer_ = nullptr;
    left_ = 0;
    while (front_ < queue_.size() && left_ == 0 && transfer_ == nullptr && count < headers_.size()) {
      Frame const& f = queue_[front_++];
      headers_[count++] = f.header;
      transfer_ = f.transfer;
      left_ = f.header.length;
      payload_ = transfer_ != nullptr ? transfer_->data : reinterpret_cast<std::byte const*>(reason_.data());
    }
    if (front_ == queue_.size()) {
      queue_.clear();
      front_ = 0;
    } else if (front_ >= 1024) {
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(front_));
      front_ = 0;
    }
    if (left_ == 0 && transfer_ == nullptr && count < headers_.size() && next_fragment(headers_[count]))
      ++count;
    busy_ = count > 0;
    header_left_ = header_bytes_ = count * sizeof(Header);
    return busy_;
  }

  bool next_fragment(Header& header) {
    for (std::size_t k = 0; k < large_.size(); ++k, ++turn_) {
      turn_ %= large_.size();
      Transfer& t = *large_[turn_];
      if (!may_go(t)) continue;
      left_ = std::min(limit(t) - t.moved, fragment_limit);
      header = {.kind = Kind::fragment,
                .serial = t.serial,
                .length = static_cast<std::uint32_t>(left_),
                .id = t.id,
                .total = t.size};
      transfer_ = &t;
      payload_ = t.data + t.moved;
      ++turn_;
      return true;
    }
    return false;
  }

  void complete() {
    busy_ = false;
    Transfer* const t = std::exchange(transfer_, nullptr);
    if (t == nullptr || t->moved != t->size) return;
    if (t->confirmed || t->size <= eager_limit) finish(*t);
  }

  void finish(Transfer& t) {
    traffic_.sent_bytes += t.size;
    if (t.size > 0 || (t.id & collective_bit) == 0) ++traffic_.sent_messages;
    auto const place = std::find(large_.begin(), large_.end(), &t);
    if (place != large_.end()) {
      if (place - large_.begin() < static_cast<std::ptrdiff_t>(turn_)) --turn_;
      large_.erase(place);
    }
    t.operation->finish(t);
  }

  /// Lets go of the buffer of a frame that is half written.
  void detach(Transfer& t) {
    if (!busy_ || transfer_ != &t) return;
    rest_.assign(payload_, payload_ + left_);
    payload_ = rest_.data();
    transfer_ = nullptr;
  }

  Traffic& traffic_;
  std::vector<Frame> queue_;
  std::size_t front_ = 0;  // of the queue
  std::vector<Transfer*> large_;
  std::size_t turn_ = 0;
  std::vector<Ready> ready_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> early_;  // grants for collectives not yet started here
  std::array<Header, 8> headers_{};  // what is being written: control frames, then one with a payload
  std::size_t header_bytes_ = 0;
  std::size_t header_left_ = 0;
  Transfer* transfer_ = nullptr;
  std::byte const* payload_ = nullptr;
  std::size_t left_ = 0;
  bool busy_ = false;
  std::uint64_t given_ = 0;
  std::vector<std::byte> rest_;
  std::string reason_;
  bool aborted_ = false;
};

}  // namespace elastic::transport::detail
