// SPDX-License-Identifier: Apache-2.0
// What makes one endpoint go: its links under one mutex, moved by whoever waits for them and else by a thread of
// its own while the program computes. Longer than most headers because all of it is what the one mutex guards:
// waiting, failing and moving are told apart only by the state they share.
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/stall.hpp"
#include "elastic/transport/detail/tcp_link.hpp"
#include "elastic/transport/detail/tcp_mesh.hpp"
#include "elastic/transport/detail/tcp_star.hpp"

namespace elastic::transport::detail {

/// The links stand in an epoll set of the engine. A caller that waits moves them itself: it polls the links of
/// its operation for a moment, then sleeps on the set. While callers do so the thread only looks after them
/// every half millisecond; when it finds nobody, it watches the set until a caller waits again.
class Engine {
 public:
  using Lock = std::unique_lock<std::mutex>;

  explicit Engine(TcpOptions const& options) : options_(options), me_(checked(options)) {
    links_.resize(static_cast<std::size_t>(options.size));
    for (auto* const list : {&touched_, &stale_, &focus_, &mail_}) list->reserve(links_.size());
    add_bell();
    if (!options.star) {
      auto seats = Mesh(options, me_, io_).form();
      for (std::size_t r = 0; r < seats.size(); ++r)
        if (seats[r]) seat(r, std::move(seats[r]->channel), std::move(seats[r]->where), 0);
      io_.restart();  // the handshake ran it dry
    } else if (options.rank != 0) {
      meet(join_star(options_, me_, io_));
    } else if (options.size > 1) {
      star_.emplace(
          io_, options_, me_, mutex_, [this](int place) { return holder(place); },
          [this](int place) { came(place); });
    }
    watch();
    thread_ = std::jthread([this] { run(); });
  }
  Engine(Engine const&) = delete;
  Engine& operator=(Engine const&) = delete;

  /// Says goodbye to everybody and waits briefly until they have heard it: a socket closed too early would
  /// take the last messages with it.
  ~Engine() {
    try {
      Lock lock = this->lock();
      if (star_) star_->close("rank 0 is leaving");
      for (auto const& link : links_) {
        if (!link) continue;
        link->in.discard_all();
        link->out.control(Kind::bye);
        touch(*link);
      }
      settle();
      auto const patience =
          std::min<std::chrono::duration<double>>(options_.timeout, std::chrono::seconds(2));
      await(lock, "leaving", patience, nullptr, [this] {
        return std::all_of(links_.begin(), links_.end(), [](auto const& l) { return !l || l->ended(); });
      });
    } catch (...) {  // the sockets close all the same
    }
    io_.stop();
    thread_.join();
    if (watcher_.is_open()) watcher_.release();  // the set closes itself
  }

  Lock lock() const {
    wanted_.fetch_add(1, std::memory_order_relaxed);
    Lock lock(mutex_);
    wanted_.fetch_sub(1, std::memory_order_relaxed);
    return lock;
  }
  std::chrono::duration<double> timeout() const { return options_.timeout; }
  Traffic traffic() const {
    Lock const lock = this->lock();
    return traffic_;
  }

  int rank() const { return me_.hello.rank; }
  bool star() const { return options_.star; }

  /// A client's new connection to rank 0; what was in flight on the old one fails first.
  void rejoin() {
    Lock lock = this->lock();
    if (aborted_) aborted_.raise("rejoin", {});
    if (!links_[0]->down) links_[0]->lose("this rank joins anew");
    touch(*links_[0]);
    settle();
    Identity me = me_;
    lock.unlock();
    Joined joined = join_star(options_, me, io_);
    lock = this->lock();
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

  /// Seconds to the farthest rank on another machine and back, as they were when it came; 0 if all are on this one.
  double round_trip() const { return round_trip_; }

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
      operations_.back().changed = &changed_;
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
    op.active = active_.size();
    active_.push_back(&op);
    return op;
  }

  /// Posts what was added to an operation. Receives come first: they tell the peers that they may send.
  void launch(TcpOperation& op) {
    if (aborted_) op.fail(aborted_);
    fail_in_vain(op, true);
    std::size_t const first_sum =
        op.reduction.sum != nullptr && !op.reduction.whole ? op.transfers.size() / 2 : op.transfers.size();
    for (bool const outgoing : {false, true})
      for (std::size_t k = 0; k < op.transfers.size(); ++k) {
        Transfer& t = op.transfers[k];
        if (op.failure || t.finished || t.outgoing != outgoing) continue;
        TcpLink& l = link(t.peer);
        bool const collective = (t.id & Outbox::collective_bit) != 0;
        bool const awaited = k < first_sum;  // a sum comes only from who has had values
        if (outgoing)
          collective ? l.out.piece(t, !awaited) : l.out.message(t);
        else
          collective ? l.in.expect(t, awaited) : l.in.receive(t);
        touch(l);
      }
    fail_in_vain(op, false);
    settle();
  }

  /// Reads and writes what can be read and written now, for this operation or for all.
  void progress(TcpOperation const* op = nullptr) {
    ++polls_;
    if (driven_) return;
    focus(op);
    poll();
  }

  /// Waits until `op` is done and gives it back; throws what went wrong.
  void finish(Lock& lock, TcpOperation& op) {
    auto const start = Clock::now();
    if (!await(lock, op.name, options_.timeout, &op, [&op] { return op.done(); })) op.fail(late(op));
    Failure failure = op.failure;
    char const* const name = op.name;
    forget(op);
    if (!failure) return;
    if (failure.where.empty() && failure.peer >= 0 && failure.peer != rank())
      failure.where = link(failure.peer).where;
    failure.raise(name, Clock::now() - start);
  }

  /// The next message that nobody has claimed, from another source than the last one if there is one. Throws
  /// once for each peer that was lost.
  std::optional<Envelope> peek() {
    if (aborted_) aborted_.raise(waiting, {});
    while (!mail_.empty()) {
      mail_turn_ %= mail_.size();
      TcpLink& l = *mail_[mail_turn_];
      if (auto const found = l.in.peek()) {
        ++mail_turn_;
        return found;
      }
      l.has_mail = false;
      mail_.erase(mail_.begin() + static_cast<std::ptrdiff_t>(mail_turn_));
      if (!l.down) continue;
      bool const news = !l.left && !std::exchange(l.reported, true);
      Failure const lost = l.down;
      if (star_) replace(static_cast<std::size_t>(l.rank));
      if (news) lost.raise(waiting, {});
    }
    return {};
  }

  Envelope wait_message(Lock& lock) {
    auto const start = Clock::now();
    std::optional<Envelope> found;
    bool const in_time = await(lock, waiting, options_.timeout, nullptr,
                               [&] { return (found = peek()).has_value() || (!star_ && up_ == 0); });
    if (found) return *found;
    auto const waited = Clock::now() - start;
    if (in_time) throw PeerLost(-1, "any host", waiting, waited, "every other rank has left the job");
    throw Timeout(-1, "any host", waiting, waited, "nobody sent one");
  }

  /// Ends the job for everybody who still runs.
  void abort(std::string const& why) {
    end_job(rank(), "this rank", why);
    settle();
  }

  /// Takes an operation out of the game, whatever its state, and keeps it for the next one.
  void forget(TcpOperation& op) {
    cancel(op);
    active_[op.active] = active_.back();
    active_[op.active]->active = op.active;
    active_.pop_back();
    (op.transfers.size() == 1 ? free_messages_ : free_collectives_).push_back(&op);
  }

 private:
  static constexpr int team_shift = 41;
  static constexpr char const* waiting = "waiting for a message";
  static constexpr std::uint64_t bell_key = ~std::uint64_t{0};
  static constexpr auto look_interval = std::chrono::microseconds(500);
  static constexpr auto stall_interval = std::chrono::milliseconds(500);
  static constexpr std::size_t focus_limit = 4;  // links that are cheaper to poll one by one

  struct Descriptor {
    explicit Descriptor(int opened) : fd(opened) {
      if (fd < 0) throw std::system_error(errno, std::generic_category(), "transport::Tcp: epoll");
    }
    ~Descriptor() { ::close(fd); }
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    int fd;
  };

  // -- coming and going

  /// Takes a connected peer in. Its socket leaves the reactor of the thread, which would wake for all that comes.
  void seat(std::size_t r, Channel channel, std::string where, std::uint64_t incarnation) {
    error_code ignored;
    Socket const& socket = channel.socket();
    if (socket.local_endpoint(ignored).address() == socket.remote_endpoint(ignored).address())
      ++neighbors_;
    else
      round_trip_ = std::max(round_trip_, detail::round_trip(socket));
    crowded_ = neighbors_ > std::thread::hardware_concurrency();
    if (links_[r])
      for (auto* const list : {&touched_, &stale_, &focus_, &mail_}) std::erase(*list, links_[r].get());
    links_[r] = std::make_unique<TcpLink>(static_cast<int>(r), std::move(channel).on(idle_io_),
                                          std::move(where), traffic_, horizon_, incarnation);
    ++up_;
    touch(*links_[r]);
    settle();
  }

  void meet(Joined joined) {
    seat(0, std::move(joined.channel), std::move(joined.where), joined.incarnation);
  }

  /// Nothing of its last holder is left to tell.
  static bool free(TcpLink const& l) { return l.down && (l.left ? !l.in.peek() : l.reported); }

  Star::Holder holder(int place) const {
    auto const& l = links_[static_cast<std::size_t>(place)];
    if (!l) return {};
    return {l->incarnation, !l->down && alive(l->channel.socket())};
  }

  /// Somebody waits for a place: its last holder's process with a new connection, or another after its end.
  void came(int place) {
    auto const r = static_cast<std::size_t>(place);
    if (auto const& l = links_[r]; l && !l->down) {
      step(*l);
      l->lose("it came back over a new connection");
      touch(*l);
    }
    settle();
    replace(r);
  }

  /// Gives a free place to whoever waits for it.
  void replace(std::size_t r) {
    if (links_[r] && !free(*links_[r])) return;
    if (auto next = star_->take(static_cast<int>(r)))
      seat(r, std::move(next->channel), std::move(next->where), next->incarnation);
  }

  // -- waiting

  /// Waits until ready(), at most `patience`; true if it is. The caller moves the links meanwhile, unless another
  /// one does already.
  template <class Ready>
  bool await(Lock& lock, char const* operation, std::chrono::duration<double> patience,
             TcpOperation const* op, Ready ready) {
    if (ready()) return true;
    auto const start = Clock::now();
    auto const deadline = start + std::chrono::duration_cast<Clock::duration>(patience);
    StallWatch watch(rank(), operation, patience);
    for (;;) {
      if (!driven_) {
        Drive const drive(*this);
        if (spin(lock, deadline, op, ready)) return true;
        while (Clock::now() < deadline) {
          sleep(lock, std::min(deadline, Clock::now() + stall_interval));
          if (ready() || spin(lock, deadline, op, ready)) return true;
          if (Clock::now() < deadline) stall(lock, watch, start, op);
        }
        return false;
      }
      struct Sleep {
        explicit Sleep(int& count) : sleepers(count) { ++sleepers; }
        ~Sleep() { --sleepers; }
        int& sleepers;
      } const asleep(sleepers_);
      news_.wait_until(lock, std::min(deadline, Clock::now() + stall_interval),
                       [&] { return !driven_ || ready(); });
      if (ready()) return true;
      if (Clock::now() >= deadline) return false;
      stall(lock, watch, start, op);
    }
  }

  /// The thread that moves the links; the next one takes over when it goes.
  struct Drive {
    explicit Drive(Engine& moved) : engine(moved) { engine.driven_ = true; }
    ~Drive() {
      engine.driven_ = false;
      ++engine.polls_;
      if (engine.sleepers_ > 0) engine.news_.notify_all();
    }
    Drive(Drive const&) = delete;
    Drive& operator=(Drive const&) = delete;
    Engine& engine;
  };

  /// Polls as long as something moves and a little longer.
  template <class Ready>
  bool spin(Lock& lock, Clock::time_point deadline, TcpOperation const* op, Ready ready) {
    auto const patience = crowded_ ? std::chrono::microseconds(50) : std::chrono::microseconds(100);
    Clock::time_point idle_since{};
    unsigned idle = 0;
    std::size_t open = 0;
    for (unsigned round = 1;; ++round) {
      if (op == nullptr || op->open != open) {
        focus(op);
        if (op != nullptr) open = op->open;
      }
      bool const moved = poll(round % 16 == 0);
      if (ready()) return true;
      idle = moved ? 0 : idle + 1;
      if (idle == 1) idle_since = Clock::now();
      if (idle % 8 == 0 && idle > 0 && Clock::now() >= std::min(deadline, idle_since + patience))
        return false;
      if (wanted_.load(std::memory_order_relaxed) > 0 || (!moved && (crowded_ || idle % 8 == 0)))
        give_way(lock);
    }
  }

  /// Lets other threads have the mutex, or the core.
  void give_way(Lock& lock) {
    lock.unlock();
    std::this_thread::yield();
    for (int k = 0; k < 100 && wanted_.load(std::memory_order_relaxed) > 0; ++k) std::this_thread::yield();
    lock.lock();
  }

  void sleep(Lock& lock, Clock::time_point until) {
    arm_all();
    asleep_ = true;
    lock.unlock();
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    take_events(static_cast<int>(std::max<std::int64_t>(left, 0)));
    lock.lock();
    asleep_ = false;
    serve_events();
  }

  void stall(Lock& lock, StallWatch& watch, Clock::time_point start, TcpOperation const* op) {
    int missing = -1;
    if (op != nullptr)
      for (Transfer const& t : op->transfers)
        if (!t.finished && missing < 0) missing = t.peer;
    lock.unlock();
    watch.look(Clock::now() - start, [missing] { return missing; });
    lock.lock();
  }

  // -- moving

  /// The links to poll one by one: those that the operation waits for.
  void focus(TcpOperation const* op) {
    focus_.clear();
    ++focus_mark_;
    auto const add = [this](TcpLink& l) {
      if (std::exchange(l.mark, focus_mark_) != focus_mark_ && focus_.size() <= focus_limit)
        focus_.push_back(&l);
    };
    if (op == nullptr && links_.size() <= focus_limit + 1) {
      for (auto const& l : links_)
        if (l) add(*l);
    } else if (op != nullptr) {
      for (Transfer const& t : op->transfers)
        if (!t.finished && focus_.size() <= focus_limit) add(link(t.peer));
    }
    focused_ = !focus_.empty() && focus_.size() <= focus_limit;
  }

  /// One round over the links in focus, or over all that have something; true if anything moved.
  bool poll(bool all = true) {
    bool moved = false;
    if (focused_)
      for (TcpLink* const l : focus_)
        if (step(*l)) moved = true;
    if (!focused_ || (all && focus_.size() < up_)) {
      arm_all();
      take_events(0);
      if (serve_events()) return true;
    }
    if (moved || !touched_.empty()) settle();
    return moved;
  }

  /// Reads from and writes to one link; true if anything happened.
  bool step(TcpLink& l) {
    auto const before = l.in.taken() + l.out.given();
    l.pump_in();
    l.pump_out();
    if (l.in.taken() + l.out.given() == before && !(l.down && !l.settled)) return false;
    touch(l);
    return true;
  }

  void take_events(int timeout_ms) {
    events_taken_ = ::epoll_wait(set_.fd, events_.data(), static_cast<int>(events_.size()), timeout_ms);
  }

  /// Serves the links that the last `take_events` found.
  bool serve_events() {
    bool moved = false;
    for (int k = 0; k < events_taken_; ++k) {
      std::uint64_t const key = events_[static_cast<std::size_t>(k)].data.u64;
      if (key == bell_key) {
        std::uint64_t rings;
        [[maybe_unused]] auto const read = ::read(bell_.fd, &rings, sizeof rings);
      } else if (auto const& l = links_[key]; l && step(*l)) {
        moved = true;
      }
    }
    events_taken_ = 0;
    settle();
    return moved;
  }

  /// To be called when a link has something to send, to tell, or has changed.
  void touch(TcpLink& l) {
    if (!std::exchange(l.touched, true)) touched_.push_back(&l);
  }

  /// Writes what has become ready, tells operations what happened to their links, and the waiters that there
  /// is news.
  void settle() {
    bool fallen = false;
    do {
      if (std::exchange(fallen, false)) settle_fallen();
      while (!touched_.empty() || !changed_.empty()) {
        if (!changed_.empty()) {
          TcpOperation& op = *changed_.back();
          changed_.pop_back();
          settle(op);
        } else {
          TcpLink& l = *touched_.back();
          touched_.pop_back();
          settle(l);
          if (l.down && !l.settled) fallen = true;
        }
      }
    } while (fallen);
    if (!std::exchange(fresh_, false)) return;
    if (sleepers_ > 0) news_.notify_all();
    if (asleep_) ring();
  }

  void settle(TcpOperation& op) {
    op.entered = false;
    if (op.failure) cancel(op);
    for (Transfer const& t : op.transfers)
      if (t.outgoing && !t.finished) touch(link(t.peer));
    if (op.done() && !std::exchange(op.reported, true)) fresh_ = true;
  }

  void settle(TcpLink& l) {
    l.touched = false;
    l.pump_out();
    if (l.in.take_news()) {
      fresh_ = true;
      if (!std::exchange(l.has_mail, true)) mail_.push_back(&l);
    }
    if (star_ && !l.in.aborted().empty()) {  // one worker's failure is not the job's
      if (!l.settled) l.lose("it failed: " + l.in.aborted());
    } else if (!aborted_ && !l.in.aborted().empty()) {
      int const origin = l.in.origin();
      bool const other = origin >= 0 && origin < static_cast<int>(links_.size()) && origin != rank() &&
                         links_[static_cast<std::size_t>(origin)];
      TcpLink const& by = other ? link(origin) : l;
      end_job(by.rank, by.where, l.in.aborted());
    }
    arm(l);
  }

  /// Fails what was in flight on links that have gone. Who was lost is to blame rather than who left, which may
  /// be the consequence, so all links are asked first; in a star no loss has one.
  void settle_fallen() {
    for (auto const& l : links_)
      if (l && !options_.star) step(*l);
    fresh_ = true;
    for (bool const left : {false, true})
      for (auto const& l : links_) {
        if (!l || !l->down || l->settled || l->left != left) continue;
        l->settled = true;
        --up_;
        if (!std::exchange(l->has_mail, true)) mail_.push_back(l.get());
        l->for_each_transfer([&](Transfer& t) { t.operation->fail(aborted_ ? aborted_ : l->down); });
        l->in.forget_unfinished();
      }
  }

  // -- the set

  void add_bell() {
    ::epoll_event event{.events = EPOLLIN, .data = {.u64 = bell_key}};
    if (::epoll_ctl(set_.fd, EPOLL_CTL_ADD, bell_.fd, &event) != 0)
      throw std::system_error(errno, std::generic_category(), "transport::Tcp: epoll");
  }

  bool watched() const { return asleep_ || watching_; }

  /// Makes the set wait for what the link wants; later if nobody sleeps on it.
  void arm(TcpLink& l) {
    std::uint32_t const want = (l.wants_to_read() ? EPOLLIN : 0u) | (l.wants_to_write() ? EPOLLOUT : 0u);
    if (want == l.armed) return;
    if (!watched()) {
      if (!std::exchange(l.stale, true)) stale_.push_back(&l);
      return;
    }
    ::epoll_event event{.events = want, .data = {.u64 = static_cast<std::uint64_t>(l.rank)}};
    int const what = l.armed == 0 ? EPOLL_CTL_ADD : want == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (!l.ended())
      ::epoll_ctl(set_.fd, what, l.channel.socket().native_handle(), &event);  // closing takes it out
    l.armed = want;
  }

  void arm_all() {
    bool const before = std::exchange(asleep_, true);
    for (TcpLink* const l : stale_) {
      l->stale = false;
      arm(*l);
    }
    stale_.clear();
    asleep_ = before;
  }

  void ring() {
    std::uint64_t const one = 1;
    [[maybe_unused]] auto const written = ::write(bell_.fd, &one, sizeof one);
  }

  // -- the thread

  /// Watches the set, from the thread or before it starts.
  void watch() {
    watching_ = true;
    arm_all();
    watcher_.assign(set_.fd);
    watch_on();
  }

  void watch_on() {
    watcher_.async_wait(asio::posix::stream_descriptor::wait_read, [this](error_code) {
      Lock const lock(mutex_);
      if (callers_moved()) {
        watching_ = false;
        watcher_.release();
        return look_later();
      }
      take_events(0);
      serve_events();
      watch_on();
    });
  }

  void look_later() {
    timer_.expires_after(look_interval);
    timer_.async_wait([this](error_code) {
      Lock const lock(mutex_, std::try_to_lock);
      if (!lock || callers_moved()) return look_later();
      watch();
    });
  }

  /// Whether callers move the links, or have since the last call.
  bool callers_moved() { return driven_ || std::exchange(polls_seen_, polls_) != polls_; }

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

  // -- failing

  /// Whoever hears of it passes it on: else a rank could see the others leave before it is told why.
  void end_job(int origin, std::string const& where, std::string const& why) {
    if (aborted_) return;
    aborted_ = {Trouble::aborted, origin, where, why};
    if (star_) star_->close("the job was aborted: " + why);
    fresh_ = true;
    for (auto const& l : links_) {
      if (!l) continue;
      l->out.abort(origin, why);
      touch(*l);
    }
    for (TcpOperation* const op : active_) op->fail(aborted_);
  }

  void cancel(TcpOperation& op) {
    if (std::exchange(op.cancelled, true)) return;
    for (Transfer& t : op.transfers) {
      if (t.finished) continue;
      link(t.peer).in.cancel(t);
      link(t.peer).out.cancel(t);
      touch(link(t.peer));
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

  TcpOptions const options_;
  Identity me_;
  double round_trip_ = 0;   // seconds, of the farthest rank on another machine
  unsigned neighbors_ = 1;  // ranks that are likely to share this machine's cores
  bool crowded_ = false;    // more ranks than cores
  mutable std::mutex mutex_;
  mutable std::atomic<int> wanted_{0};  // callers that wait for the mutex
  std::condition_variable news_;
  int sleepers_ = 0;                 // callers that wait for news
  std::atomic<bool> driven_{false};  // a caller moves the links,
  bool asleep_ = false;              // by sleeping on the set
  bool watching_ = false;            // the thread does
  std::uint64_t polls_ = 0;
  std::uint64_t polls_seen_ = 0;
  Descriptor set_{::epoll_create1(EPOLL_CLOEXEC)};
  Descriptor bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::array<::epoll_event, 64> events_{};
  int events_taken_ = 0;
  std::uint64_t horizon_ = Outbox::collective_bit;
  std::uint64_t message_id_ = 0;
  asio::io_context io_;
  asio::io_context idle_io_;                     // nobody runs it
  std::vector<std::unique_ptr<TcpLink>> links_;  // index = rank, empty at this one and at places never held
  std::size_t up_ = 0;                           // links that are not down
  std::vector<TcpLink*> touched_, stale_;        // links to look after, to arm
  std::vector<TcpLink*> focus_;                  // links to poll one by one
  std::uint64_t focus_mark_ = 0;
  bool focused_ = false;
  std::vector<TcpLink*> mail_;  // links that have messages, or have gone
  std::size_t mail_turn_ = 0;
  bool fresh_ = false;  // something that waiters must hear of
  std::deque<TcpOperation> operations_;
  std::vector<TcpOperation*> active_, changed_, free_messages_, free_collectives_;
  Failure aborted_;
  Traffic traffic_;
  asio::posix::stream_descriptor watcher_{io_};
  asio::steady_timer timer_{io_};
  std::optional<Star> star_;  // on rank 0 of a star
  std::jthread thread_;
};

}  // namespace elastic::transport::detail
