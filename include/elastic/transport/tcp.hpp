// SPDX-License-Identifier: Apache-2.0
// Ranks are processes on any hosts, joined by one TCP connection for each pair. Needs Boost.Asio and OpenSSL.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_collectives.hpp"
#include "elastic/transport/detail/tcp_engine.hpp"
#include "elastic/transport/tcp_options.hpp"

namespace elastic::transport {

/// A port of `address` that was free a moment ago, for a job on one machine.
inline std::uint16_t free_port(std::string const& address = "127.0.0.1") {
  std::random_device random;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    auto const port =
        static_cast<std::uint16_t>(20000 + random() % 12000);  // below Linux's ports for clients
    detail::asio::io_context io;
    detail::asio::ip::tcp::acceptor acceptor(io);
    boost::system::error_code taken;
    detail::asio::ip::tcp::endpoint const endpoint(detail::asio::ip::make_address(address), port);
    acceptor.open(endpoint.protocol());
    acceptor.bind(endpoint, taken);
    if (!taken) return port;
  }
  throw Error("no free port on " + address + " between 20000 and 31999");
}

/// One rank of a job over TCP. Everything progresses on a thread of the endpoint, so that what was started
/// goes on while the program computes. Messages above 64 KiB are sent once their receive is posted. A wait
/// that fails leaves its buffer free to use and the links in order. Any thread may call; collectives need one
/// order.
class Tcp {
 public:
  static constexpr std::string_view name = "tcp";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Host>;

  /// Joins the job and returns when this rank is connected to all others; throws ConfigError for options that
  /// cannot work, Timeout, PeerLost or ProtocolError if the job does not form.
  explicit Tcp(TcpOptions const& options)
      : rank_(options.rank), size_(options.size), team_(options.size), engine_(options) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::duration<double> timeout() const { return engine_.timeout(); }
  Traffic traffic() const { return engine_.traffic(); }

  /// Every blocked or later call of the other ranks, and of this one, throws Aborted with this reason (at
  /// most 1 KiB of it). The first reason stays.
  void abort(std::string_view why) {
    auto const lock = engine_.lock();
    engine_.abort(std::string(why));
  }

  /// What was started; dies before its transport.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept : engine_(other.engine_), op_(std::exchange(other.op_, nullptr)) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(engine_, other.engine_);
      std::swap(op_, other.op_);
      return *this;
    }
    ~Ticket() {
      try {
        wait();
      } catch (...) {  // the wait that mattered was the caller's
      }
    }
    void wait() {
      if (op_ == nullptr) return;
      auto lock = engine_->lock();
      engine_->finish(lock, *std::exchange(op_, nullptr));
    }
    bool done() {
      if (op_ == nullptr) return true;
      auto const lock = engine_->lock();
      if (!op_->done()) engine_->progress();
      return op_->done();
    }

   private:
    friend Tcp;
    Ticket(detail::Engine& engine, detail::TcpOperation* op) : engine_(&engine), op_(op) {}
    detail::Engine* engine_;
    detail::TcpOperation* op_;
  };

  /// From now on collectives are between the first `ranks` ranks; no collective may be in flight.
  void team(int ranks) {
    if (ranks < 1 || ranks > size_)
      throw ConfigError("team of " + std::to_string(ranks) + " ranks, expected 1 to " +
                        std::to_string(size_));
    auto const lock = engine_.lock();
    team_ = ranks;
    engine_.new_team();
  }

  void barrier() { complete(detail::start_barrier(engine_, team("barrier"))); }

  /// Root's values on every rank of the team; root sends them to each of the others.
  template <class T>
  void broadcast(Span<T> x, int root) {
    if (root < 0 || root >= team_)
      throw ConfigError("broadcast: root " + std::to_string(root) + " is not in the team of " +
                        std::to_string(team_));
    complete(detail::start_broadcast(engine_, team("broadcast"), bytes(x), x.size() * sizeof(T), root));
  }

  /// x = x of rank 0 + x of rank 1 + ..., added in this order; all ranks get the same bits and give one size.
  template <std::floating_point T>
  void all_reduce(Span<T> x) {
    start_all_reduce(x).wait();
  }

  /// Rank j sums chunk j, then everybody gathers the sums. Several may be in flight.
  template <std::floating_point T>
  [[nodiscard("wait() on it")]] Ticket start_all_reduce(Span<T> x) {
    return {engine_, detail::start_all_reduce(engine_, team("all_reduce"), x)};
  }

  /// Returns when the buffer may be reused, which for large messages is after their receive was posted.
  template <class T>
  void send(Span<T> x, int peer, int tag) {
    start_send(x, peer, tag).wait();
  }

  template <class T>
  [[nodiscard("wait() on it")]] Ticket start_send(Span<T> x, int peer, int tag) {
    return message("send", true, bytes(x), x.size() * sizeof(T), peer, tag);
  }

  /// Throws ProtocolError if the message has another size; it is gone then, and the sender does not learn of
  /// it.
  template <class T>
  void receive(Span<T> x, int peer, int tag) {
    start_receive(x, peer, tag).wait();
  }

  template <class T>
  requires(!std::is_const_v<T>) [[nodiscard("wait() on it")]] Ticket
      start_receive(Span<T> x, int peer, int tag) {
    return message("receive", false, bytes(x), x.size() * sizeof(T), peer, tag);
  }

  /// A message nobody has asked for; throws PeerLost once for each lost rank.
  std::optional<Envelope> probe() {
    auto const lock = engine_.lock();
    engine_.progress();
    return engine_.peek();
  }

  /// The same, waiting at most timeout(); throws PeerLost as well if no other rank is left.
  Envelope wait_message() {
    auto lock = engine_.lock();
    return engine_.wait_message(lock);
  }

 private:
  template <class T>
  static std::byte* bytes(Span<T> x) {
    static_assert(std::is_trivially_copyable_v<T>,
                  "only bytes travel: the values must be trivially copyable");
    return reinterpret_cast<std::byte*>(const_cast<std::remove_const_t<T>*>(x.data()));
  }

  detail::Team team(char const* operation) const {
    if (rank_ >= team_)
      throw ConfigError(std::string(operation) + ": rank " + std::to_string(rank_) +
                        " is not in the team of " + std::to_string(team_));
    return {rank_, team_};
  }

  void complete(detail::TcpOperation* op) { Ticket(engine_, op).wait(); }

  Ticket message(char const* operation, bool outgoing, std::byte* data, std::size_t size, int peer, int tag) {
    if (peer < 0 || peer >= size_ || peer == rank_)
      throw ConfigError(std::string(operation) + ": rank " + std::to_string(rank_) + " of " +
                        std::to_string(size_) + " has no peer " + std::to_string(peer));
    auto const lock = engine_.lock();
    detail::TcpOperation& op = engine_.acquire(operation, 1);
    op.add(0, peer, outgoing, engine_.next_message(), data, size).tag = tag;
    engine_.launch(op);
    return {engine_, &op};
  }

  int const rank_;
  int const size_;
  int team_;
  detail::Engine engine_;
};

}  // namespace elastic::transport
