// SPDX-License-Identifier: Apache-2.0
// A worker's half of the exchange with a server, by messages: shards of the center come, deltas go, several
// on their way at a time. What a broken connection interrupts goes on after it, and no delta is added twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/membership.hpp"
#include "elastic/role.hpp"
#include "elastic/shards.hpp"

namespace elastic {

template <PointToPoint Net, Device Dev>
class CenterClient {
 public:
  using Bytes = Span<std::byte, typename Dev::memory>;

  /// Values are of `width` bytes on the wire.
  CenterClient(Net& net, int server, Dev& device, std::size_t size, std::size_t width, Entry const& entry)
      : net_(net),
        server_(server),
        device_(device),
        width_(width),
        shards_(Shards::of(size, width)),
        incarnation_(entry.incarnation),
        generation_(entry.welcome.generation),
        terms_(entry.terms) {}

  std::uint64_t sequence() const { return sequence_; }
  /// What came with the last exchange's first shard.
  Status status() const { return status_; }
  /// Times that the connection was made again, and shards' deltas that a restarted server never had.
  std::uint64_t rejoined() const { return rejoined_; }
  std::uint64_t lost() const { return lost_; }

  /// Begins an exchange: asks for the first `ahead` shards, which arrive while the caller goes on. What is
  /// left of the last exchange has been sent when this returns.
  void start(long step, double loss, double distance, std::uint32_t ahead) {
    ahead = std::min(ahead, shards_.count());
    insist([&] { flush(); });
    reserve(ahead);
    ++sequence_;
    step_ = step;
    loss_ = loss;
    distance_ = distance;
    asked_ = computed_ = 0;
    status_here_ = false;
    insist([&] { ask(); });
  }

  /// For every shard, in order: waits for it, calls f(bytes, first, count), which makes it the delta of the `count`
  /// values from `first` on, and sends that. Returns while the last deltas travel from there.
  template <class F>
  void finish(F f) {
    insist([&] {
      while (computed_ < shards_.count()) {
        ask();
        if (!status_here_) {
          status_arriving_->wait();
          status_here_ = true;
          status_ = arriving_status_;
        }
        std::exchange(receives_[computed_ % ahead_], {})->wait();
        f(slot(computed_), shards_.first(computed_), shards_.length(computed_));
        ++computed_;
        push(computed_ - 1);
      }
    });
  }

  /// The deltas, as one vector, of an exchange that began with all shards ahead.
  Bytes deltas() { return buffer_->span().part(0, shards_.size * width_); }

  /// Says goodbye, and returns when all deltas are in the center.
  void leave(Request request) {
    insist([&] {
      flush();
      net_.send(read(as_bytes(request)), server_, tag::leave);
      net_.receive(Span<char>(), server_, tag::ended);
    });
  }

 private:
  Bytes slot(std::uint32_t shard) {
    return buffer_->span().part((shard % ahead_) * shards_.each * width_, shards_.length(shard) * width_);
  }

  /// Returns when the transport has all deltas.
  void flush() {
    for (auto& sending : sends_)
      if (sending) std::exchange(sending, {})->wait();
  }

  using Receiving = decltype(std::declval<Net&>().start_receive(Bytes(), 0, 0));
  using Heading = decltype(std::declval<Net&>().start_receive(Span<char>(), 0, 0));
  using Sending = decltype(std::declval<Net&>().start_send(read(Bytes()), 0, 0));

  void reserve(std::uint32_t ahead) {
    if (ahead <= ahead_) return;
    if (sequence_ > 0)  // the last deltas may still have to be sent again
      throw ConfigError("a rule that uses start_exchange must not begin with exchange");
    ahead_ = ahead;
    buffer_.emplace(device_.template allocate<std::byte>(
        std::min(std::size_t(ahead) * shards_.each, shards_.size) * width_));
    sends_.resize(ahead);
    receives_.resize(ahead);
  }

  /// Asks for the shards whose slots are free; half of the slots stay with deltas that are being sent.
  void ask() {
    std::uint32_t const room = ahead_ == shards_.count() ? ahead_ : computed_ < 1 ? ahead_ : ahead_ / 2 + 1;
    std::uint32_t const until = std::min(shards_.count(), computed_ + room);
    if (until <= asked_) return;
    Ask message{sequence_, asked_, until, until > ahead_ ? until - ahead_ : 0, 0, step_, loss_, distance_};
    if (asked_ == 0) {
      status_arriving_.emplace(net_.start_receive(as_bytes(arriving_status_), server_, tag::status));
    }
    for (; asked_ < until; ++asked_) {
      auto& sending = sends_[asked_ % ahead_];
      if (sending) std::exchange(sending, {})->wait();
      receives_[asked_ % ahead_].emplace(net_.start_receive(slot(asked_), server_, tag::shard));
    }
    net_.send(read(as_bytes(message)), server_, tag::ask);
  }

  void push(std::uint32_t shard) {
    sends_[shard % ahead_].emplace(net_.start_send(read(slot(shard)), server_, tag::delta));
  }

  /// Repeats `step` over as many connections as it takes.
  template <class Step>
  void insist(Step step) {
    for (;;) try {
        return step();
      } catch (PeerLost const& lost) {
        if (lost.peer() != server_ || !rejoin()) throw;
      }
  }

  bool rejoin() {
    if constexpr (Rejoins<Net>) {
      if (!net_.elastic()) return false;
      for (;;) try {
          drop();
          net_.rejoin();
          ++rejoined_;
          std::uint64_t const open = begun() ? 1 : 2;  // exchanges whose deltas are still here
          std::uint64_t const done = sequence_ > open ? sequence_ - open : 0;
          resume(join(net_, server_, {incarnation_, done, 0, 0}, terms_));
          return true;
        } catch (PeerLost const&) {  // lost again: rejoin() has the deadline
        }
    } else {
      return false;
    }
  }

  /// Whether the server has answered the exchange: then all deltas of the one before are in its center.
  bool begun() const { return computed_ > 0 || status_here_; }

  void drop() {
    status_arriving_.reset();
    for (auto& receiving : receives_) receiving.reset();
    for (auto& sending : sends_) sending.reset();
  }

  /// Sends again what the server lacks and this rank still has: the delta of a shard lies in its slot until
  /// the shard that needs the slot next arrives, and a server sends that after it has added the delta. One
  /// that was restarted may have forgotten more.
  void resume(Welcome const& welcome) {
    bool const now = begun();
    std::uint64_t const exchange = now || sequence_ == 0 ? sequence_ : sequence_ - 1;
    std::uint32_t const have = now ? computed_ : exchange > 0 ? shards_.count() : 0;
    bool const restarted = std::exchange(generation_, welcome.generation) != welcome.generation;
    std::uint32_t const asked = std::max(now && restarted ? asked_ : 0u, have);
    std::uint32_t const kept = asked > ahead_ ? std::min(have, asked - ahead_) : 0;
    std::uint32_t const had = welcome.sequence < exchange    ? 0
                              : welcome.sequence == exchange ? welcome.taken
                                                             : have;
    std::uint32_t const from = std::max(had, kept);
    lost_ += from - had;
    asked_ = computed_;
    if (computed_ == 0) status_here_ = false;
    if (exchange == 0 || welcome.sequence > exchange || (welcome.sequence == exchange && had == have)) return;
    Ask const message{exchange, 0, 0, from, 1, step_, loss_, distance_};
    net_.send(read(as_bytes(const_cast<Ask&>(message))), server_, tag::ask);
    for (std::uint32_t shard = from; shard < have; ++shard) push(shard);
  }

  Net& net_;
  int server_;
  Dev& device_;
  std::size_t width_;
  Shards shards_;
  std::uint64_t incarnation_;
  std::uint64_t generation_;  // of the server
  std::string terms_;

  std::uint64_t sequence_ = 0;
  long step_ = 0;
  double loss_ = 0, distance_ = 0;
  std::uint32_t ahead_ = 0;     // slots
  std::uint32_t asked_ = 0;     // shards of this exchange that have been asked for,
  std::uint32_t computed_ = 0;  // and whose delta has been computed
  bool status_here_ = false;
  Status status_{}, arriving_status_{};
  std::uint64_t rejoined_ = 0;
  std::uint64_t lost_ = 0;

  std::optional<typename Dev::template Buffer<std::byte>> buffer_;  // before what travels in and out of it
  std::optional<Heading> status_arriving_;
  std::vector<std::optional<Receiving>> receives_;
  std::vector<std::optional<Sending>> sends_;
};

}  // namespace elastic
