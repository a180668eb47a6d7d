// SPDX-License-Identifier: Apache-2.0
// A server's half of the exchange by messages: shards of the center go out as copies, deltas come in and are
// added, for all workers at once. Nobody who is slow delays anybody else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"
#include "elastic/shards.hpp"
#include "elastic/wire.hpp"

namespace elastic {

template <PointToPoint Net, Device Dev, class T>
class ShardService {
 public:
  using View = Span<T, typename Dev::memory>;

  /// What has happened to a worker's exchange.
  struct Done {
    Ask ask;                    // its last
    std::uint32_t refused = 0;  // shards whose delta was not added
    std::uint64_t read = 0;     // exchanges that the center had seen when it was sent
  };

  ShardService(Net& net, Dev& device, View center, Wire wire)
      : net_(net),
        device_(device),
        center_(center),
        wire_(wire),
        width_(width_on<T>(wire)),
        shards_(Shards::of(center.size(), width_)),
        clients_(std::size_t(net.size())) {}

  Progress& progress(int worker) { return client(worker).progress; }
  /// Whether all that a worker has begun is in the center.
  bool complete(int worker) {
    auto const& p = client(worker).progress;
    return p.sequence == 0 || p.taken == shards_.count();
  }

  /// Takes an Ask that has arrived.
  void asked(int worker) {
    Ask ask{};
    net_.receive(as_bytes(ask), worker, tag::ask);
    Client& c = client(worker);
    if (ask.first > ask.last || ask.last > shards_.count() || ask.sent > shards_.count() ||
        c.asks.size() == shards_.count() + 2)
      throw ProtocolError(worker, "", "serve", {}, "it asks for shards that do not exist");
    c.asks.push_back(ask);
    attend_to(worker);
  }

  /// Lets a delta in whose head has arrived.
  void arriving(int worker, std::size_t bytes) {
    Client& c = client(worker);
    if (!c.asks.empty() && c.asks.front().resume != 0) start_over(c);
    auto const shard = c.progress.taken + static_cast<std::uint32_t>(c.deltas.size());
    if (shard >= shards_.count() || bytes != shards_.length(shard) * width_)
      throw ProtocolError(
          worker, "", "serve", {},
          "a delta of " + std::to_string(bytes) + " bytes that belongs to no shard it has asked for");
    Buffer buffer = take_buffer();
    auto const room = buffer.span().part(0, shards_.length(shard) * width_);
    c.deltas.push_back({std::move(buffer), net_.start_receive(room, worker, tag::delta)});
    if (std::find(busy_.begin(), busy_.end(), worker) == busy_.end()) busy_.push_back(worker);
  }

  /// Whether deltas are on their way, so that attend() has to be called again soon.
  bool busy() const { return !busy_.empty(); }

  /// Adds what has arrived, by what add_at(step) says for a worker's step, answers whose turn it is, and calls
  /// done(worker, Done) for every exchange that is complete. False if nothing could be done. Throws PeerLost for a worker that is gone.
  template <class AddAt, class OnDone>
  bool attend(AddAt add_at, double limit, OnDone done) {
    bool moved = false;
    for (std::size_t i = 0; i < busy_.size();) {
      int const worker = busy_[i];
      Client& c = client(worker);
      while (!c.deltas.empty() && c.deltas.front().receiving.done()) {
        c.deltas.front().receiving.wait();
        Buffer buffer = std::move(c.deltas.front().buffer);
        c.deltas.erase(c.deltas.begin());
        View const delta = decode(buffer.span(), shards_.length(c.progress.taken));
        if (device_.within(read(delta), limit))
          device_.for_each(add_at(long(c.current.step)),
                           center_.part(shards_.first(c.progress.taken), delta.size()), delta);
        else
          ++c.refused;
        spare_.push_back(std::move(buffer));
        moved = true;
        if (++c.progress.taken == shards_.count())
          done(worker, Done{c.current, std::exchange(c.refused, 0), c.words.version});
        attend_to(worker);
      }
      if (c.deltas.empty())
        busy_.erase(busy_.begin() + std::ptrdiff_t(i));
      else
        ++i;
    }
    return moved;
  }

  /// The connection to this worker is gone: so is what was on its way over it.
  void forget(int worker) {
    Client& c = client(worker);
    c.asks.clear();
    for (auto& delta : c.deltas) reclaim(delta.receiving, delta.buffer);
    c.deltas.clear();
    for (auto& reply : c.replies) reclaim(reply.sending, reply.buffer);
    c.replies.clear();
    c.status.reset();
    std::erase(busy_, worker);
  }

  /// What to put before the first shard of an exchange.
  void tell(Status status) { status_ = status; }

 private:
  using Bytes = Span<std::byte, typename Dev::memory>;
  using Buffer = typename Dev::template Buffer<std::byte>;
  using Receiving = decltype(std::declval<Net&>().start_receive(Bytes(), 0, 0));
  using Sending = decltype(std::declval<Net&>().start_send(read(Bytes()), 0, 0));
  using Heading = decltype(std::declval<Net&>().start_send(Span<char const>(), 0, 0));

  struct Delta {
    Buffer buffer;
    Receiving receiving;
  };
  struct Reply {
    Buffer buffer;
    Sending sending;
  };
  struct Client {
    Progress progress;
    Ask current{};
    std::uint32_t refused = 0;
    std::vector<Ask> asks;
    std::vector<Delta> deltas;   // arriving, in the order of their shards
    std::vector<Reply> replies;  // leaving
    Status words{};
    std::optional<Heading> status;
  };

  Client& client(int worker) { return clients_[std::size_t(worker)]; }

  Buffer take_buffer() {
    if (spare_.empty()) return device_.template allocate<std::byte>(shards_.length(0) * width_);
    Buffer buffer = std::move(spare_.back());
    spare_.pop_back();
    return buffer;
  }
  void encode(View values, Bytes to) {
    if (wire_ == Wire::float32) return device_.copy(read(values), values_in<T>(to, values.size()));
    with_narrow(wire_, [&]<class Codec>(Codec) {
      device_.for_each(ops::Encode<Codec>{}, values_in<typename Codec::Value>(to, values.size()), values);
    });
  }
  /// In place where values travel as they are.
  View decode(Bytes from, std::size_t count) {
    if (wire_ == Wire::float32) return values_in<T>(from, count);
    if (!decoded_) decoded_.emplace(device_.template allocate<T>(shards_.length(0)));
    View const values = decoded_->span().part(0, count);
    with_narrow(wire_, [&]<class Codec>(Codec) {
      device_.for_each(ops::Decode<Codec>{}, values, values_in<typename Codec::Value>(from, count));
    });
    return values;
  }

  template <class Travelling>
  void reclaim(Travelling& travelling, Buffer& buffer) {
    try {
      travelling.wait();
    } catch (TransportError const&) {  // the peer is gone; the buffer is ours again
    }
    spare_.push_back(std::move(buffer));
  }

  /// A worker that came back says which delta is its next.
  void start_over(Client& c) {
    Ask const ask = c.asks.front();
    c.asks.erase(c.asks.begin());
    c.current = ask;
    c.progress.sequence = ask.sequence;
    c.progress.taken = ask.sent;
    if (!c.status) c.words = status_;  // what it has read it has from somebody else
  }

  /// Answers the worker's asks as far as its deltas have come.
  void attend_to(int worker) {
    Client& c = client(worker);
    while (!c.asks.empty()) {
      Ask const ask = c.asks.front();
      if (ask.resume != 0) {
        start_over(c);
        continue;
      }
      if (ask.sequence != c.progress.sequence) {
        if (!complete(worker)) return;
        c.progress.sequence = ask.sequence;
        c.progress.taken = 0;
      }
      if (c.progress.taken < ask.sent) return;
      c.asks.erase(c.asks.begin());
      c.current = ask;
      if (ask.first == 0) {
        if (c.status) c.status->wait();
        c.words = status_;
        c.status.emplace(net_.start_send(read(as_bytes(c.words)), worker, tag::status));
      }
      while (!c.replies.empty() && c.replies.front().sending.done()) {
        reclaim(c.replies.front().sending, c.replies.front().buffer);
        c.replies.erase(c.replies.begin());
      }
      for (std::uint32_t shard = ask.first; shard < ask.last; ++shard) {
        Buffer buffer = take_buffer();
        auto const copy = buffer.span().part(0, shards_.length(shard) * width_);
        encode(center_.part(shards_.first(shard), shards_.length(shard)), copy);
        device_.synchronize();
        c.replies.push_back({std::move(buffer), net_.start_send(read(copy), worker, tag::shard)});
      }
    }
  }

  Net& net_;
  Dev& device_;
  View center_;
  Wire wire_;
  std::size_t width_;  // of a value on the wire
  Shards shards_;
  Status status_{};
  std::optional<typename Dev::template Buffer<T>> decoded_;
  std::vector<Buffer> spare_;  // before the clients, whose buffers may still travel
  std::vector<Client> clients_;
  std::vector<int> busy_;
};

}  // namespace elastic
