// SPDX-License-Identifier: Apache-2.0
// Ranks are processes (or threads) of one machine that exchange through a segment of shared memory. One file,
// for it is the whole interface: what the calls mean, what they check, and what they throw.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/transport/detail/shared_collectives.hpp"
#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/shared_messages.hpp"
#include "elastic/transport/detail/shared_ticket.hpp"
#include "elastic/transport/detail/shared_window.hpp"

namespace elastic::transport {

/// An endpoint of a shared-memory job; models Transport, Collective and PointToPoint.
///
/// Constructing it waits until all ranks have; from then on nothing of the job is visible in /dev/shm. Used
/// by one thread. Transfers advance inside its calls: done() and every wait move all that is in flight, so
/// two ranks may send each other any amount with start_send and start_receive. A rank whose process dies is a
/// PeerLost at those who wait for it, within about a tenth of a second.
///
/// Memory: with the default `memory`, rings of 4 slots of 512 KiB per ordered pair up to 6 ranks, less for
/// more (8 KiB slots for 64), and per rank 4 stages of 512 KiB; besides, 8 KiB per ordered pair for heads.
class SharedMemory {
 public:
  static constexpr std::string_view name = "shared_memory";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Host>;

  /// Joins the job. Throws ConfigError for options that cannot work, a live job of the same name, or too
  /// small a /dev/shm; Timeout or PeerLost if a rank does not come.
  explicit SharedMemory(SharedMemoryOptions const& options)
      : job_(options), messages_(job_, traffic_), collectives_(job_, traffic_) {}

  int rank() const { return job_.rank(); }
  int size() const { return job_.size(); }
  std::chrono::duration<double> timeout() const { return job_.timeout(); }

  /// What this rank has moved. An all-reduce counts as the direct algorithm: of n values, a rank sends the
  /// others' shares and then its own p - 1 times, 2 (p - 1) n over all ranks; a broadcast as p - 1 messages.
  Traffic traffic() const { return traffic_; }

  /// Do ranks come and go while the job runs (SharedMemoryOptions::elastic)?
  bool elastic() const { return job_.elastic(); }

  /// Ends the job: every wait of every rank throws Aborted with this reason (its first 511 bytes). In an
  /// elastic job a rank other than 0 ends only itself.
  void abort(std::string_view why) { job_.abort(why); }

  template <class Operation>
  using Ticket = detail::SharedTicket<SharedMemory, Operation>;

  /// Returns when `x` may be reused: it is in the ring or with the peer. Any trivially copyable T.
  template <class T>
  void send(Span<T> x, int peer, int tag) {
    detail::Send operation = outgoing(x, peer, tag);
    run(operation);
  }
  template <class T>
  Ticket<detail::Send> start_send(Span<T> x, int peer, int tag) {
    return {*this, outgoing(x, peer, tag)};
  }
  /// Waits for the next message from `peer` with `tag`; it must fill `x` exactly.
  template <class T>
  void receive(Span<T> x, int peer, int tag) {
    detail::Receive operation = incoming(x, peer, tag);
    run(operation);
  }
  template <class T>
  Ticket<detail::Receive> start_receive(Span<T> x, int peer, int tag) {
    return {*this, incoming(x, peer, tag)};
  }

  /// A message that no receive has been posted for, if one has arrived; sources take turns. The death of a
  /// peer is reported once, as PeerLost, within about a tenth of a second and whatever else arrives.
  std::optional<Envelope> probe() {
    progress();
    if (job_.aborted()) job_.throw_aborted("probe", std::chrono::seconds(0));
    report_deaths();
    return messages_.probe();
  }
  /// The same, waiting. In an elastic job somebody else may take the place of a rank that has died.
  Envelope wait_message() {
    report_deaths();
    std::optional<Envelope> found;
    auto const lost = [this]() -> std::optional<std::pair<int, std::string>> {
      if (auto const dead = next_dead()) return dead;
      for (int r = 0; r < size(); ++r)
        if (r != rank() && !job_.gone(r) && (!elastic() || r == 0)) return std::nullopt;
      if (elastic() && rank() == 0) return std::nullopt;  // somebody may come
      return std::pair{-1, std::string("every peer has left or died")};
    };
    try {
      job_.wait(
          "wait_message", [this] { return progress(); },
          [&] { return found || (found = messages_.probe()).has_value(); }, lost,
          [this] { return size() == 2 ? 1 - rank() : -1; });
    } catch (PeerLost const& dead) {
      mourn(dead.peer());
      throw;
    }
    return *found;
  }

  /// Limits the collectives to ranks 0 .. ranks-1; every rank of the job calls it, with nothing in flight.
  void team(int ranks) {
    check_fixed();
    if (ranks < 1 || ranks > size())
      throw ConfigError("team of " + std::to_string(ranks) + " ranks: expected 1 to " +
                        std::to_string(size()));
    collectives_.tell_counts();
    all_regroup();
    auto const counts = collectives_.furthest();
    all_regroup();
    collectives_.regroup(ranks, counts);
  }
  void barrier() {
    detail::Collective operation = in_team({});
    run(operation);
  }
  template <class T>
  void broadcast(Span<T> x, int root) {
    if (root < 0 || root >= collectives_.team())
      throw ConfigError("broadcast from rank " + std::to_string(root) + ": expected 0 to " +
                        std::to_string(collectives_.team() - 1));
    detail::Collective operation =
        in_team({detail::Collective::broadcast, bytes_of(x), x.size(), sizeof(T), root});
    run(operation);
  }
  /// x becomes the sum over the team, added in rank order: the same bits everywhere.
  template <std::floating_point T>
  void all_reduce(Span<T> x) {
    detail::Collective operation = in_team(detail::Collective::sum_of(x.data(), x.size()));
    run(operation);
  }
  /// Several may be in flight; every rank starts them in the same order.
  template <std::floating_point T>
  Ticket<detail::Collective> start_all_reduce(Span<T> x) {
    return {*this, in_team(detail::Collective::sum_of(x.data(), x.size()))};
  }
  /// into += gain * sum of x over the team, added in rank order; x stays. The same on every rank. Between resident()
  /// vectors one pass of all ranks together.
  template <std::floating_point T>
  Ticket<detail::Collective> start_add_sum(Span<T> into, double gain, Span<T> x) {
    if (into.size() != x.size())
      throw ConfigError("sum of " + std::to_string(x.size()) +
                        " values: expected as many to add it to, found " + std::to_string(into.size()));
    return {*this, in_team(detail::Collective::adding_sum_of(x.data(), x.size(), into.data(), gain))};
  }

  template <class T>
  using Window = detail::SharedWindow<T>;
  using WindowHandle = detail::SharedWindowHandle;

  /// `n` zeros that every rank may change, one locked stripe at a time. Throws ConfigError where /dev/shm is
  /// full.
  template <class T>
  Window<T> make_window(std::size_t n) {
    return Window<T>::make(job_, n);
  }
  template <class T>
  Window<T> open_window(WindowHandle handle) {
    if (job_.aborted()) job_.throw_aborted("open_window", std::chrono::seconds(0));
    return Window<T>::open(job_, handle);
  }

  /// Memory of this rank that its peers reach in place: vectors, in whole pages. The endpoint must outlive what
  /// is allocated there. allocate() throws ConfigError where /dev/shm is full.
  std::pmr::memory_resource& resident() { return job_.heap(); }

 private:
  template <class Net, class Operation>
  friend class detail::SharedTicket;

  template <class T>
  static std::byte* bytes_of(Span<T> x) {
    static_assert(std::is_trivially_copyable_v<T>);
    return reinterpret_cast<std::byte*>(x.data());
  }
  template <class T>
  detail::Send outgoing(Span<T> x, int peer, int tag) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return {reinterpret_cast<std::byte const*>(x.data()), x.size() * sizeof(T), checked(peer), tag};
  }
  template <class T>
  detail::Receive incoming(Span<T> x, int peer, int tag) const {
    return {bytes_of(x), x.size() * sizeof(T), checked(peer), tag};
  }
  int checked(int peer) const {
    if (peer < 0 || peer >= size() || peer == rank())
      throw ConfigError("rank " + std::to_string(rank()) + " of " + std::to_string(size()) + " has no peer " +
                        std::to_string(peer));
    return peer;
  }
  detail::Collective in_team(detail::Collective operation) const {
    check_fixed();
    if (rank() >= collectives_.team())
      throw ConfigError("rank " + std::to_string(rank()) + " is outside the team of " +
                        std::to_string(collectives_.team()) + " ranks and takes no part in its collectives");
    return operation;
  }

  /// A rank that has died, has not been reported, and has left nothing to be received.
  std::optional<std::pair<int, std::string>> next_dead() {
    for (int r = 0; r < size(); ++r) {
      if (r == rank() || job_.deaths(r) <= mourned_[static_cast<std::size_t>(r)]) continue;
      auto const why = job_.gone(r);
      if (!why) return std::pair{r, std::string("its process has died, and another one has its place")};
      if (!messages_.holds_from(r)) return std::pair{r, *why};
    }
    return std::nullopt;
  }
  void mourn(int dead) {
    if (dead >= 0) mourned_[static_cast<std::size_t>(dead)] = job_.deaths(dead);
  }
  void report_deaths() {
    auto const now = detail::SharedJob::Clock::now();
    if (now < next_mourning_) return;
    next_mourning_ = now + std::chrono::milliseconds(50);
    if (!next_dead()) return;
    progress();  // what it sent before it went still counts
    auto const dead = next_dead();
    if (!dead) return;
    mourn(dead->first);
    throw PeerLost(dead->first, "", "waiting for a message", std::chrono::seconds(0), dead->second);
  }

  void check_fixed() const {
    if (elastic())
      throw ConfigError(
          "shared memory: an elastic job has no collectives, for its ranks come and go; start it with "
          "elastic = false");
  }

  bool progress() {
    bool const summed = collectives_.progress();
    return messages_.progress() || summed;
  }

  template <class Operation>
  void run(Operation& operation) {
    try {
      start(operation);
      complete(operation);
    } catch (...) {
      cancel(operation);
      throw;
    }
  }

  void start(detail::Send& s) {
    if (messages_.broken(s.peer))
      throw ProtocolError(s.peer, "", "send", std::chrono::seconds(0),
                          "an earlier message to it was given up half-way");
    if (job_.aborted()) job_.throw_aborted("send", std::chrono::seconds(0));
    if (job_.has_left(s.peer))
      throw PeerLost(s.peer, "", "send", std::chrono::seconds(0), "it has left the job");
    if (elastic() && !job_.present(s.peer))
      throw PeerLost(s.peer, "", "send", std::chrono::seconds(0), "nobody has its place now");
    messages_.start(s);
  }
  void start(detail::Receive& r) { messages_.start(r); }
  void start(detail::Collective& c) {
    check_collectives();
    collectives_.start(c);
  }
  void check_collectives() const {
    if (collectives_.broken())
      throw ProtocolError(rank(), "", "collective", std::chrono::seconds(0),
                          "an earlier one was given up half-way");
  }

  void cancel(detail::Collective& c) { collectives_.cancel(c); }
  template <class Message>
  void cancel(Message& m) {
    messages_.cancel(m);
  }

  bool awaits(detail::Send const& s, int r) const { return r == s.peer; }
  bool awaits(detail::Receive const& receive, int r) const { return r == receive.peer; }
  bool awaits(detail::Collective const& c, int r) const { return collectives_.waits_for(c, r); }

  void complete(detail::Send& s) {
    wait_for("send", s);
    check_met(s, "send");
  }
  void complete(detail::Receive& r) {
    wait_for("receive", r);
    check_met(r, "receive");
    if (r.wrong_size)
      throw ProtocolError(r.peer, "", "receive", std::chrono::seconds(0),
                          "its message with tag " + std::to_string(r.tag) + " has " +
                              std::to_string(*r.wrong_size) + " bytes, expected " + std::to_string(r.bytes));
  }
  void complete(detail::Collective& c) {
    if (!c.finished) {
      check_collectives();
      collectives_.linger(c);
      wait_for("collective", c);
    }
    c.complete();
  }
  template <class Message>
  static void check_met(Message const& m, char const* what) {
    if (m.lost)
      throw PeerLost(m.peer, "", what, std::chrono::seconds(0),
                     "its process has ended, and another one has its place");
  }
  template <class Operation>
  void wait_for(char const* what, Operation const& operation) {
    auto const awaited = [&](int r) { return awaits(operation, r); };
    job_.wait(
        what, [this] { return progress(); }, [&] { return operation.finished; },
        [&] {
          if constexpr (std::same_as<Operation, detail::Collective>)
            if (int const r = first([&](int other) { return awaited(other) && collectives_.gave_up(other); });
                r >= 0)
              throw ProtocolError(r, "", what, std::chrono::seconds(0),
                                  "it gave up on this one or an earlier one");
          return first_gone(awaited);
        },
        [&] { return first(awaited); });
  }
  template <class Operation>
  bool settled(Operation const& operation) {
    try {
      progress();
    } catch (ProtocolError const&) {  // wait() will say it
      return true;
    }
    if (operation.finished || job_.aborted() || collectives_.broken()) return true;
    auto const now = detail::SharedJob::Clock::now();
    if (now < next_look_) return false;
    next_look_ = now + std::chrono::milliseconds(50);
    return first_gone([&](int r) { return awaits(operation, r); }).has_value();
  }

  template <class WaitsFor>
  int first(WaitsFor waits_for) const {
    for (int r = 0; r < size(); ++r)
      if (waits_for(r)) return r;
    return -1;
  }
  template <class WaitsFor>
  std::optional<std::pair<int, std::string>> first_gone(WaitsFor waits_for) const {
    for (int r = 0; r < size(); ++r)
      if (waits_for(r))
        if (auto const why = job_.gone(r)) return std::pair{r, *why};
    return std::nullopt;
  }

  /// Rank 0 of an elastic job has missed none.
  std::vector<std::uint32_t> deaths_so_far() const {
    std::vector<std::uint32_t> deaths;
    for (int r = 0; r < size(); ++r) deaths.push_back(elastic() && rank() != 0 ? job_.deaths(r) : 0);
    return deaths;
  }

  void all_regroup() {
    collectives_.announce_regroup();
    auto const absent = [this](int r) { return !collectives_.regrouped(r); };
    job_.wait(
        "team", [this] { return progress(); }, [&] { return first(absent) < 0; },
        [&] { return first_gone(absent); }, [&] { return first(absent); });
  }

  detail::SharedJob job_;
  Traffic traffic_;
  detail::SharedMessages messages_;
  detail::SharedCollectives collectives_;
  std::vector<std::uint32_t> mourned_ = deaths_so_far();  // deaths of each rank that have been reported
  detail::SharedJob::Clock::time_point next_look_{};
  detail::SharedJob::Clock::time_point next_mourning_ = detail::SharedJob::Clock::now();
};

}  // namespace elastic::transport
