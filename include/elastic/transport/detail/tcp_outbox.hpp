// SPDX-License-Identifier: Apache-2.0
// The sending half of a link: control frames and small messages first and in order, then the large messages
// that were asked for, one fragment at a time in turn, so that nothing waits behind more than one fragment.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
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
  explicit Outbox(Traffic& traffic) : traffic_(traffic) {}

  void control(Kind kind, std::uint64_t id = 0, std::uint64_t total = 0) {
    queue_.push_back({Header{.kind = kind, .id = id, .total = total}, nullptr});
  }

  /// A message between two ranks: small ones go at once, large ones when they are granted.
  void message(Transfer& t) {
    Header h{.kind = Kind::eager, .tag = t.tag, .id = t.id, .total = t.size};
    t.available = t.size;
    if (t.size <= eager_limit) {
      h.length = static_cast<std::uint32_t>(t.size);
      queue_.push_back({h, &t});
    } else {
      h.kind = Kind::announce;
      queue_.push_back({h, nullptr});
      large_.push_back(&t);
    }
  }

  /// A part of a collective: the receiver expects it, so it needs no announcement.
  void piece(Transfer& t) {
    auto const early = std::find_if(early_.begin(), early_.end(), [&](auto& g) { return g.first == t.id; });
    t.granted = t.size <= eager_limit;
    large_.push_back(&t);
    if (early == early_.end()) return;
    std::uint64_t const total = early->second;
    early_.erase(early);
    granted(t.id, total);
  }

  /// Before everything else that waits; only the first time.
  void abort(int origin, std::string_view reason) {
    if (aborted_) return;
    aborted_ = true;
    reason_ = reason.substr(0, reason_limit);
    Header const h{.kind = Kind::abort, .tag = origin, .length = static_cast<std::uint32_t>(reason_.size())};
    queue_.push_front({h, nullptr});
  }

  /// The receiver is ready for `total` bytes; a peer can be ahead of this rank by some collectives.
  /// Returns what is wrong with that, or nullptr.
  char const* granted(std::uint64_t id, std::uint64_t total) {
    for (Transfer* const t : large_) {
      if (t->id != id) continue;
      t->granted = true;
      if (t->size != total)
        t->operation->fail(
            {Trouble::protocol,
             t->peer,
             {},
             "it expects " + std::to_string(total) + " bytes, this rank sends " + std::to_string(t->size)});
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
    if (match == large_.end() || (id & collective_bit) != 0 || (*match)->granted) return;
    Transfer& t = **match;
    large_.erase(match);
    t.operation->finish(t);
  }

  /// Forgets a transfer; what the wire still needs of its buffer is copied.
  void cancel(Transfer& t) {
    if (busy_ && current_.transfer == &t) {
      rest_.assign(payload_, payload_ + left_);
      payload_ = rest_.data();
      current_.transfer = nullptr;
    }
    std::erase_if(queue_, [&](Frame const& f) { return f.transfer == &t; });
    std::erase(large_, &t);
  }

  template <class Fail>
  void for_each_transfer(Fail&& f) {
    if (busy_ && current_.transfer != nullptr) f(*current_.transfer);
    for (Frame& frame : queue_)
      if (frame.transfer != nullptr) f(*frame.transfer);
    for (Transfer* const t : large_) f(*t);
  }

  bool empty() const { return !busy_ && queue_.empty(); }

  bool has_work() const {
    return !empty() || std::any_of(large_.begin(), large_.end(), [](Transfer* t) { return may_go(*t); });
  }

  /// Writes what the socket takes, a few MiB at most; would_block means: come back when it is writable.
  error_code pump(Socket& socket) {
    for (std::size_t budget = 4 * fragment_limit;;) {
      if (!busy_ && !next()) return {};
      std::array<asio::const_buffer, 2> const rest{
          asio::buffer(reinterpret_cast<char const*>(&current_.header) + header_done_,
                       sizeof(Header) - header_done_),
          asio::buffer(payload_, left_)};
      error_code error;
      std::size_t sent = socket.write_some(rest, error);
      if (error) return error;
      budget -= std::min(budget, sent);
      std::size_t const head = std::min(sent, sizeof(Header) - header_done_);
      header_done_ += head;
      sent -= head;
      payload_ += sent;
      left_ -= sent;
      if (header_done_ == sizeof(Header) && left_ == 0) complete();
      if (budget == 0) return {};
    }
  }

  static constexpr std::uint64_t collective_bit = std::uint64_t{1} << 63;

 private:
  struct Frame {
    Header header;
    Transfer* transfer;
  };

  static bool may_go(Transfer const& t) { return t.granted && (t.available > t.moved || t.size == 0); }

  bool next() {
    if (!queue_.empty()) {
      current_ = queue_.front();
      queue_.pop_front();
      payload_ = current_.transfer != nullptr ? current_.transfer->data
                                              : reinterpret_cast<std::byte const*>(reason_.data());
    } else if (!next_fragment()) {
      return false;
    }
    busy_ = true;
    header_done_ = 0;
    left_ = current_.header.length;
    return true;
  }

  bool next_fragment() {
    for (std::size_t k = 0; k < large_.size(); ++k) {
      turn_ = (turn_ + 1) % large_.size();
      Transfer& t = *large_[turn_];
      if (!may_go(t)) continue;
      std::size_t const length = std::min(t.available - t.moved, fragment_limit);
      current_ = {Header{.kind = Kind::fragment,
                         .length = static_cast<std::uint32_t>(length),
                         .id = t.id,
                         .total = t.size},
                  &t};
      payload_ = t.data + t.moved;
      return true;
    }
    return false;
  }

  void complete() {
    busy_ = false;
    Transfer* const t = current_.transfer;
    if (t == nullptr) return;
    t->moved += current_.header.length;
    traffic_.sent_bytes += current_.header.length;
    if (t->moved != t->size) return;
    if (t->size > 0 || (t->id & collective_bit) == 0) ++traffic_.sent_messages;
    std::erase(large_, t);
    t->operation->finish(*t);
  }

  Traffic& traffic_;
  std::deque<Frame> queue_;
  std::vector<Transfer*> large_;
  std::size_t turn_ = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> early_;  // grants for collectives not yet started here
  Frame current_{};
  bool busy_ = false;
  std::size_t header_done_ = 0;
  std::byte const* payload_ = nullptr;
  std::size_t left_ = 0;
  std::vector<std::byte> rest_;
  std::string reason_;
  bool aborted_ = false;
};

}  // namespace elastic::transport::detail
