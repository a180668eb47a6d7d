// SPDX-License-Identifier: Apache-2.0
// What makes one endpoint go: its links under one mutex, moved by a thread of its own while the program
// computes and by the program itself while it waits. Longer than most headers because all of it is what the one
// mutex guards: waiting, failing and moving are told apart only by the state they share.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/transport/detail/tcp_link.hpp"
#include "elastic/transport/detail/tcp_mesh.hpp"
#include "elastic/transport/detail/tcp_star.hpp"

namespace elastic::transport::detail {

class Engine {
 public:
  using Lock = std::unique_lock<std::mutex>;

  explicit Engine(TcpOptions const& options) : options_(options), me_(checked(options)) {
    links_.resize(static_cast<std::size_t>(options.size));
    if (!options.star) {
      auto seats = Mesh(options, me_, io_).form();
      for (std::size_t r = 0; r < seats.size(); ++r)
        if (seats[r]) seat(r, std::move(seats[r]->socket), std::move(seats[r]->where), 0);
      io_.restart();  // the handshake ran it dry
    } else if (options.rank != 0) {
      meet(join_star(options_, me_, io_));
    } else if (options.size > 1) {
      star_.emplace(
          io_, options_, me_, mutex_, [this](int place) { return holder(place); },
          [this](int place) { came(place); });
    }
    thread_ = std::jthread([this] { run(); });
  }
  Engine(Engine const&) = delete;
  Engine& operator=(Engine const&) = delete;

  /// Says goodbye to everybody and waits briefly until they have heard it: a socket closed too early would
  /// take the last messages with it.
  ~Engine() {
    try {
      Lock lock(mutex_);
      if (star_) star_->close("rank 0 is leaving");
      for (auto const& link : links_) {
        if (!link) continue;
        link->in.discard_all();
        link->out.control(Kind::bye);
      }
      progress();
      auto const patience =
          std::min<std::chrono::duration<double>>(options_.timeout, std::chrono::seconds(2));
      await(lock, Clock::now() + std::chrono::duration_cast<Clock::duration>(patience), [this] {
        return std::all_of(links_.begin(), links_.end(), [](auto const& l) { return !l || l->ended(); });
      });
    } catch (...) {  // the sockets close all the same
    }
    io_.stop();
  }

  Lock lock() const { return Lock(mutex_); }
  std::chrono::duration<double> timeout() const { return options_.timeout; }
  Traffic traffic() const {
    Lock const lock(mutex_);
    return traffic_;
  }

  int rank() const { return me_.hello.rank; }
  bool star() const { return options_.star; }

  /// A client's new connection to rank 0; what was in flight on the old one fails first.
  void rejoin() {
    Lock lock(mutex_);
    if (aborted_) aborted_.raise("rejoin", {});
    if (!links_[0]->down) links_[0]->lose("this rank joins anew");
    push();
    settle();
    Identity me = me_;
    lock.unlock();
    Joined joined = join_star(options_, me, io_);
    lock.lock();
    me_ = std::move(me);
    meet(std::move(joined));
  }

  // The functions below need the mutex locked.

  std::uint64_t generation() const { return me_.hello.generation; }
  /// Whose process has the place; 0 if nobody's.
  std::uint64_t incarnation(int place) const {
    auto const& l = links_[static_cast<std::size_t>(place)];
    return l && !free(*l) ? l->incarnation : 0;
  }
  bool vacant(int place) const { return !links_[static_cast<std::size_t>(place)]; }

  TcpLink& link(int rank) { return *links_[static_cast<std::size_t>(rank)]; }

  /// The id of the next collective; every rank of the team counts alike.
  std::uint64_t next_collective() { return std::exchange(horizon_, horizon_ + 2); }
  /// From now on collectives are numbered anew, above all earlier ones.
  void new_team() { horizon_ = ((horizon_ >> team_shift) + 1) << team_shift; }
  std::uint64_t next_message() { return ++message_id_; }

  /// A cleared operation with `count` transfers; give it back with `finish` or `forget`.
  TcpOperation& acquire(char const* name, std::size_t count) {
    auto& free = count == 1 ? free_messages_ : free_collectives_;
    if (free.empty()) {
      operations_.emplace_back();
      free.push_back(&operations_.back());
    }
    TcpOperation& op = *free.back();
    free.pop_back();
    op.name = name;
    op.transfers.assign(count, Transfer{});
    op.open = 0;
    op.failure = {};
    op.reduction.sum = nullptr;
    op.cancelled = false;
    op.reported = false;
    active_.push_back(&op);
    return op;
  }

  /// Posts what was added to an operation. Receives come first: they tell the peers that they may send.
  void launch(TcpOperation& op) {
    if (aborted_) op.fail(aborted_);
    fail_in_vain(op, true);
    for (bool const outgoing : {false, true})
      for (Transfer& t : op.transfers) {
        if (op.failure || t.finished || t.outgoing != outgoing) continue;
        TcpLink& l = link(t.peer);
        bool const collective = (t.id & Outbox::collective_bit) != 0;
        if (outgoing)
          collective ? l.out.piece(t) : l.out.message(t);
        else
          collective ? l.in.expect(t) : l.in.receive(t);
      }
    fail_in_vain(op, false);
    push();
    settle();
  }

  /// Reads and writes whatever can be read and written now.
  void progress() {
    for (auto const& link : links_)
      if (link) link->pump_in();
    push();
    settle();
  }

  /// Waits until `op` is done and gives it back; throws what went wrong.
  void finish(Lock& lock, TcpOperation& op) {
    auto const start = Clock::now();
    auto const deadline = start + std::chrono::duration_cast<Clock::duration>(options_.timeout);
    if (!await(lock, deadline, [&op] { return op.done(); })) op.fail(late(op));
    Failure failure = op.failure;
    char const* const name = op.name;
    forget(op);
    if (!failure) return;
    if (failure.where.empty() && failure.peer >= 0 && failure.peer != rank())
      failure.where = link(failure.peer).where;
    failure.raise(name, Clock::now() - start);
  }

  /// Waits at most until the deadline; true if `ready()`.
  template <class Ready>
  bool await(Lock& lock, Clock::time_point deadline, Ready ready) {
    if (ready()) return true;
    auto const end = std::min(deadline, Clock::now() + spin_);
    do {
      progress();
      if (ready()) return true;
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    } while (!ready() && Clock::now() < end);
    struct Sleep {
      explicit Sleep(int& count) : sleepers(count) { ++sleepers; }
      ~Sleep() { --sleepers; }
      int& sleepers;
    } const sleep(sleepers_);
    return changed_.wait_until(lock, deadline, ready);
  }

  /// The next message that nobody has claimed, from another source than the last one if there is one. Throws
  /// once for each peer that was lost.
  std::optional<Envelope> peek() {
    if (aborted_) aborted_.raise(waiting, {});
    std::size_t const n = links_.size();
    for (std::size_t k = 1; k <= n; ++k) {
      std::size_t const source = (last_source_ + k) % n;
      auto const found = links_[source] ? links_[source]->in.peek() : std::nullopt;
      if (found) {
        last_source_ = source;
        return found;
      }
      if (auto const l = links_[source]; l && l->down) {
        bool const news = !l->left && !std::exchange(l->reported, true);
        if (star_) replace(source);
        if (news) l->down.raise(waiting, {});
      }
    }
    return {};
  }

  Envelope wait_message(Lock& lock) {
    auto const start = Clock::now();
    std::optional<Envelope> found;
    auto const deadline = start + std::chrono::duration_cast<Clock::duration>(options_.timeout);
    bool const in_time = await(lock, deadline, [&] { return (found = peek()).has_value() || alone(); });
    if (found) return *found;
    auto const waited = Clock::now() - start;
    if (in_time) throw PeerLost(-1, "any host", waiting, waited, "every other rank has left the job");
    throw Timeout(-1, "any host", waiting, waited, "nobody sent one");
  }

  /// Ends the job for everybody who still runs.
  void abort(std::string const& why) {
    end_job(rank(), "this rank", why);
    push();
    settle();
  }

  /// Takes an operation out of the game, whatever its state, and keeps it for the next one.
  void forget(TcpOperation& op) {
    cancel(op);
    std::erase(active_, &op);
    (op.transfers.size() == 1 ? free_messages_ : free_collectives_).push_back(&op);
  }

 private:
  static constexpr int team_shift = 41;
  static constexpr char const* waiting = "waiting for a message";

  bool alone() const {
    return !star_ && std::all_of(links_.begin(), links_.end(), [](auto const& l) { return !l || l->down; });
  }

  void seat(std::size_t r, Socket socket, std::string where, std::uint64_t incarnation) {
    error_code ignored;
    if (socket.local_endpoint(ignored).address() == socket.remote_endpoint(ignored).address()) ++neighbors_;
    bool const crowded = neighbors_ > std::thread::hardware_concurrency();
    spin_ = std::chrono::microseconds(crowded ? 5 : 100);
    links_[r] = std::make_shared<TcpLink>(static_cast<int>(r), std::move(socket), std::move(where), traffic_,
                                          horizon_, incarnation);
    arm(links_[r]);
  }

  void meet(Joined joined) { seat(0, std::move(joined.socket), std::move(joined.where), joined.incarnation); }

  /// Nothing of its last holder is left to tell.
  static bool free(TcpLink const& l) { return l.down && (l.left ? !l.in.peek() : l.reported); }

  Star::Holder holder(int place) const {
    auto const& l = links_[static_cast<std::size_t>(place)];
    if (!l) return {};
    return {l->incarnation, !l->down && alive(l->socket)};
  }

  /// Somebody waits for a place: its last holder's process with a new connection, or another after its end.
  void came(int place) {
    auto const r = static_cast<std::size_t>(place);
    if (auto const& l = links_[r]; l && !l->down) {
      l->pump_in();
      l->lose("it came back over a new connection");
    }
    replace(r);
    push();
    settle();
  }

  /// Gives a free place to whoever waits for it.
  void replace(std::size_t r) {
    if (links_[r] && !free(*links_[r])) return;
    if (auto next = star_->take(static_cast<int>(r)))
      seat(r, std::move(next->socket), std::move(next->where), next->incarnation);
  }

  /// Whoever hears of it passes it on: else a rank could see the others leave before it is told why.
  void end_job(int origin, std::string const& where, std::string const& why) {
    if (aborted_) return;
    aborted_ = {Trouble::aborted, origin, where, why};
    if (star_) star_->close("the job was aborted: " + why);
    for (auto const& l : links_)
      if (l) l->out.abort(origin, why);
  }

  void cancel(TcpOperation& op) {
    if (std::exchange(op.cancelled, true)) return;
    for (Transfer& t : op.transfers) {
      if (t.finished) continue;
      link(t.peer).in.cancel(t);
      link(t.peer).out.cancel(t);
    }
  }

  /// Nothing can be sent to a peer that is gone, but what it sent may be here. Who was lost is to blame
  /// rather than who left, which may be the consequence.
  void fail_in_vain(TcpOperation& op, bool outgoing) {
    for (bool const left : {false, true})
      for (Transfer const& t : op.transfers) {
        if (t.finished || t.outgoing != outgoing) continue;
        if (TcpLink const& l = link(t.peer); l.down && l.left == left) op.fail(l.down);
      }
  }

  static Failure late(TcpOperation const& op) {
    std::string names;
    int first = -1;
    int count = 0;
    for (Transfer const& t : op.transfers) {
      std::string const name = std::to_string(t.peer);
      if (t.finished || (", " + names + ",").find(", " + name + ",") != std::string::npos) continue;
      if (first < 0) first = t.peer;
      names += (count++ == 0 ? "" : ", ") + name;
    }
    return {Trouble::timeout,
            first,
            {},
            count == 1 ? "it did not do its part before the deadline"
                       : "ranks " + names + " did not do their parts before the deadline"};
  }

  void push() {
    for (auto const& l : links_) {
      if (!l) continue;
      l->pump_out();
      arm(l);
    }
  }

  /// Tells operations what happened to their links, and the sleepers that there is news.
  void settle() {
    bool news = false;
    for (auto const& l : links_) {
      if (!l) continue;
      if (l->in.take_news()) news = true;
      if (aborted_ || l->in.aborted().empty()) continue;
      if (star_) {  // one worker's failure is not the job's
        if (!l->settled) l->lose("it failed: " + l->in.aborted());
        continue;
      }
      int const origin = l->in.origin();
      bool const other = origin >= 0 && origin < static_cast<int>(links_.size()) && origin != rank();
      TcpLink const& by = other ? link(origin) : *l;
      end_job(by.rank, by.where, l->in.aborted());
      push();
    }
    if (aborted_) news = true;
    for (bool const left : {false, true})  // as above
      for (auto const& l : links_) {
        if (!l || !l->down || l->settled || l->left != left) continue;
        l->settled = true;
        l->for_each_transfer([&](Transfer& t) { t.operation->fail(aborted_ ? aborted_ : l->down); });
        l->in.forget_unfinished();
        news = true;
      }
    for (TcpOperation* const op : active_) {
      if (aborted_) op->fail(aborted_);
      if (op->failure) cancel(*op);
      if (op->done() && !std::exchange(op->reported, true)) news = true;
    }
    if (news && sleepers_ > 0) changed_.notify_all();
  }

  void arm(std::shared_ptr<TcpLink> const& l) {
    if (!l->reading && l->wants_to_read()) {
      l->reading = true;
      l->socket.async_wait(Socket::wait_read, [this, l](error_code) {
        Lock const lock(mutex_);
        l->reading = false;
        l->pump_in();
        if (l->down && !l->settled) return progress();
        push();
        settle();
      });
    }
    if (!l->writing && l->wants_to_write()) {
      l->writing = true;
      l->socket.async_wait(Socket::wait_write, [this, l](error_code) {
        Lock const lock(mutex_);
        l->writing = false;
        push();
        settle();
      });
    }
  }

  void run() {
    auto const work = asio::make_work_guard(io_);
    for (;;) {
      try {
        io_.run();
        return;
      } catch (std::exception const& error) {
        Lock const lock(mutex_);
        abort(std::string("the transport failed: ") + error.what());
      }
    }
  }

  TcpOptions const options_;
  Identity me_;
  unsigned neighbors_ = 1;  // ranks that are likely to share this machine's cores
  Clock::duration spin_{};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int sleepers_ = 0;
  asio::io_context io_;
  std::uint64_t horizon_ = Outbox::collective_bit;
  std::uint64_t message_id_ = 0;
  std::vector<std::shared_ptr<TcpLink>> links_;  // index = rank, empty at this one and at places never held
  std::size_t last_source_ = 0;
  std::deque<TcpOperation> operations_;
  std::vector<TcpOperation*> active_, free_messages_, free_collectives_;
  Failure aborted_;
  Traffic traffic_;
  std::optional<Star> star_;  // on rank 0 of a star
  std::jthread thread_;
};

}  // namespace elastic::transport::detail
