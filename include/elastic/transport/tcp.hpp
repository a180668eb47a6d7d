// SPDX-License-Identifier: Apache-2.0
// Ranks are processes on any hosts, joined by one TCP connection for each pair, or in a star each to rank 0.
// Needs Boost.Asio and OpenSSL.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_collectives.hpp"
#include "elastic/transport/detail/tcp_engine.hpp"
#include "elastic/transport/free_port.hpp"
#include "elastic/transport/tcp_options.hpp"

namespace elastic::transport {

/// One rank of a job over TCP. Everything progresses on a thread of the endpoint, so that what was started
/// goes on while the program computes. Messages above 64 KiB are sent once their receive is posted. A wait
/// that fails leaves its buffer free to use and the links in order. Any thread may call; collectives need one
/// order.
///
/// In a star (TcpOptions::star) rank 0 is joined to every other rank and these to rank 0 only; they come and go
/// while it runs. Each life of a place is: its messages, then, unless it left in good order, one PeerLost from
/// rank 0's wait_message() or probe(), which alone let the next process in. What is lost takes nothing else with
/// it: another place, and messages that had arrived, are as before. Who leaves in good order is not reported: a
/// program that wants to know sends a last message.
class Tcp {
 public:
  static constexpr std::string_view name = "tcp";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Host>;

  /// Joins the job and returns when this rank is connected to all others, in a star to rank 0, whose own
  /// constructor returns at once; throws ConfigError for options that cannot work or that rank 0 refuses,
  /// Timeout, PeerLost or ProtocolError if the job does not form.
  explicit Tcp(TcpOptions const& options)
      : size_(options.size), team_(options.size), engine_(options), rank_(engine_.rank()) {}

  /// In a star the place that rank 0 gave.
  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::duration<double> timeout() const { return engine_.timeout(); }
  Traffic traffic() const { return engine_.traffic(); }

  /// Every blocked or later call of the other ranks, and of this one, throws Aborted with this reason (at
  /// most 1 KiB of it). The first reason stays. In a star only rank 0 ends the job for all: what a client aborts
  /// is itself, and rank 0 hears of it as PeerLost.
  void abort(std::string_view why) {
    auto const lock = engine_.lock();
    engine_.abort(std::string(why));
  }

  /// A client of a star, after PeerLost of rank 0: connects again, with growing pauses between the attempts, to
  /// the same place. What was in flight fails with PeerLost and what had arrived is dropped. Throws ConfigError
  /// when rank 0 refuses for good (another job or secret, an older generation, a place that another live process
  /// has), Timeout when it does not come back within timeout().
  void rejoin() {
    if (!engine_.star() || rank_ == 0)
      throw ConfigError("rejoin: only a client of a star comes back, with star = true and a rank above 0");
    engine_.rejoin();
  }

  /// Whether ranks come and go while the job runs: TcpOptions::star.
  bool elastic() const { return engine_.star(); }

  /// TcpOptions::generation of rank 0 as this rank heard it last.
  std::uint64_t generation() const {
    auto const lock = engine_.lock();
    return engine_.generation();
  }

  /// On rank 0 of a star: a random number of the process that has the place; 0 if there is none, and until
  /// wait_message() or probe() has reported its loss still that of the last.
  std::uint64_t incarnation(int rank) const {
    if (rank < 0 || rank >= size_)
      throw ConfigError("incarnation of rank " + std::to_string(rank) + ", expected 0 to " +
                        std::to_string(size_ - 1));
    auto const lock = engine_.lock();
    return engine_.incarnation(rank);
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
      if (!op_->done()) engine_->progress(op_);
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
    if (engine_.star()) team("team");
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

  /// The same, waiting at most timeout(); throws PeerLost as well if no other rank is left. Rank 0 of a star
  /// waits on for others.
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
    if (engine_.star())
      throw ConfigError(std::string(operation) +
                        ": a star has no collectives; set star = false on every rank");
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
    if (engine_.star() && rank_ != 0 && peer != 0)
      throw ConfigError(std::string(operation) + ": rank " + std::to_string(rank_) +
                        " of a star reaches rank 0 only, not rank " + std::to_string(peer) +
                        "; set star = false on every rank");
    auto const lock = engine_.lock();
    if (engine_.vacant(peer)) throw PeerLost(peer, "", operation, {}, "nobody has come for this place yet");
    detail::TcpOperation& op = engine_.acquire(operation, 1);
    op.add(0, peer, outgoing, engine_.next_message(), data, size).tag = tag;
    engine_.launch(op);
    return {engine_, &op};
  }

  int const size_;
  int team_;
  detail::Engine engine_;
  int const rank_;
};

}  // namespace elastic::transport
