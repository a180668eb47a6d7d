// SPDX-License-Identifier: Apache-2.0
// One rank's place in a shared-memory job: how the ranks find each other, wait for each other, notice that
// one has died, and stop together. What they exchange is the business of shared_messages and
// shared_collectives. One file: joining waits by the same loop as everything else.
#pragma once

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "elastic/error.hpp"
#include "elastic/stall.hpp"
#include "elastic/transport/detail/futex.hpp"
#include "elastic/transport/detail/shared_heap.hpp"
#include "elastic/transport/detail/shared_layout.hpp"
#include "elastic/transport/detail/shared_object.hpp"
#include "elastic/transport/shared_memory_options.hpp"

namespace elastic::transport::detail {

class SharedJob {
 public:
  using Clock = std::chrono::steady_clock;

  explicit SharedJob(SharedMemoryOptions const& options) : options_(checked(options)) {
    crowded_ = static_cast<unsigned>(options.size) > std::max(1u, std::thread::hardware_concurrency());
    if (rank() == 0)
      found();
    else
      join();
  }
  SharedJob(SharedJob const&) = delete;
  SharedJob& operator=(SharedJob const&) = delete;
  ~SharedJob() { leave(); }

  int rank() const { return options_.rank; }
  int size() const { return options_.size; }
  std::chrono::duration<double> timeout() const { return options_.timeout; }
  Layout const& layout() const { return *layout_; }
  std::byte* base() const { return shared_.mapping->data(); }
  std::size_t bytes() const { return shared_.mapping->size(); }
  SharedHeap& heap() { return *heap_; }

  /// Reads `bytes` of the object from byte `place` on without giving a page to what has none.
  void read(std::size_t place, std::byte* to, std::size_t bytes) const {
    if (::pread(shared_.file.get(), to, bytes, static_cast<off_t>(place)) != static_cast<ssize_t>(bytes))
      throw Error("shared memory: cannot read the object of job '" + options_.job +
                  "': " + std::generic_category().message(errno));
  }
  Member& member(int rank) const { return layout_->member(base(), rank); }

  /// Tells `rank` that something it may wait for has been stored. Both that store and this load are
  /// sequentially consistent, as are the sleeper's store of `asleep` and its last look: one of the two sees
  /// the other.
  void wake(int rank) const {
    Member& m = member(rank);
    if (m.asleep.load() == 0) return;
    m.bell.fetch_add(1);
    futex_wake(m.bell);
  }

  void wake_team(int ranks) const {
    for (int r = 0; r < ranks; ++r)
      if (r != rank()) wake(r);
  }
  /// Are there more ranks than cores?
  bool crowded() const { return crowded_; }

  bool elastic() const { return options_.elastic; }
  /// Changes when another process takes the place of an elastic job's rank.
  std::uint32_t epoch(int rank) const { return member(rank).epoch.load(); }

  /// Has this rank ended, with or without saying so? Reads /proc unless the rank has left or is a thread of
  /// this process: not for fast paths.
  std::optional<std::string> gone(int rank) const {
    Member& m = member(rank);
    for (;;) {
      auto const met = m.epoch.load();
      auto const state = m.state.load();
      ProcessId const process = m.process;
      if (m.epoch.load() != met) continue;
      if (state == Member::left) return "it has left the job";
      if (state == Member::failed) return "it has failed";
      if (state == Member::joined && process.pid != ::getpid() && !alive(process))
        return "its process " + std::to_string(process.pid) + " has died";
      return std::nullopt;
    }
  }
  /// How many processes in this place have ended without leaving, so far.
  std::uint32_t deaths(int rank) const {
    return member(rank).fallen.load() + (gone(rank) && !has_left(rank) ? 1u : 0u);
  }
  /// Has a process taken this place? In an elastic job it may have died since.
  bool present(int rank) const { return member(rank).state.load() == Member::joined; }

  /// A number above 0 and below 2^31 for this process in its place, as no process before it had.
  std::uint32_t mark() const {
    return (member(rank()).epoch.load(std::memory_order_relaxed) % (1u << 19)) << 12 |
           std::uint32_t(rank() + 1);
  }
  static int rank_of(std::uint32_t mark) { return int(mark % (1u << 12)) - 1; }
  bool gone_mark(std::uint32_t mark) const {
    int const r = rank_of(mark);
    return member(r).epoch.load() % (1u << 19) != mark >> 12 || gone(r).has_value();
  }

  bool has_left(int rank) const { return member(rank).state.load() == Member::left; }

  /// In an elastic job, the failure of one is the end of that one only, unless it is rank 0.
  void abort(std::string_view why) const {
    if (options_.elastic && rank() != 0) {
      member(rank()).state.store(Member::failed);
      for (int r = 0; r < size(); ++r) wake(r);
      return;
    }
    JobHeader& h = Layout::header(base());
    std::uint32_t expected = JobHeader::none;
    if (h.abort.compare_exchange_strong(expected, JobHeader::being_written)) {
      h.abort_rank = rank();
      why.copy(h.abort_reason.data(), h.abort_reason.size() - 1);
      h.abort.store(JobHeader::aborted);
    }
    for (int r = 0; r < size(); ++r) wake(r);
  }
  bool aborted() const { return Layout::header(base()).abort.load() == JobHeader::aborted; }
  [[noreturn]] void throw_aborted(char const* operation, std::chrono::duration<double> waited) const {
    JobHeader const& h = Layout::header(base());
    throw Aborted(h.abort_rank, "", operation, waited,
                  "it ended the job: " + std::string(h.abort_reason.data()));
  }

  /// Repeats `step` until `done`. Throws Aborted; PeerLost for the rank that `lost` returns, with its reason;
  /// Timeout at the deadline, naming the rank that `late` returns (-1: none in particular).
  template <class Step, class Done, class Lost, class Late>
  void wait(char const* operation, Step step, Done done, Lost lost, Late late) const {
    step();
    if (done()) return;
    auto const start = Clock::now();
    auto const deadline = start + std::chrono::duration_cast<Clock::duration>(options_.timeout);
    auto next_look = start + look_every;
    Backoff backoff(crowded_);
    StallWatch watch(rank(), operation, options_.timeout);
    Member& me = member(rank());
    for (unsigned turn = 1;; ++turn) {
      bool const moved = step();
      if (done()) return;
      if (aborted()) throw_aborted(operation, Clock::now() - start);
      if (moved) backoff.reset();
      bool slept = false;
      if (!backoff.pause()) {
        me.asleep.store(1);
        auto const bell = me.bell.load();
        if (!step() && !done() && !aborted()) {
          futex_wait(me.bell, bell, std::min<std::chrono::nanoseconds>(look_every, deadline - Clock::now()));
          slept = true;
        }
        me.asleep.store(0);
      }
      if (!slept && turn % 64 != 0) continue;
      auto const now = Clock::now();
      if (now >= next_look) {
        next_look = now + look_every;
        watch.look(now - start, late);
        if (std::optional<std::pair<int, std::string>> const who = lost()) {
          step();  // what it did before it went still counts
          if (done()) return;
          if (aborted()) throw_aborted(operation, now - start);
          throw PeerLost(who->first, "", operation, now - start, who->second);
        }
      }
      if (now >= deadline) throw Timeout(late(), "", operation, now - start, "no answer");
    }
  }

 private:
  static constexpr std::chrono::milliseconds look_every{50};
  static constexpr int most_ranks = 4000;  // what a mark can tell apart

  static SharedMemoryOptions const& checked(SharedMemoryOptions const& o) {
    if (o.size < 1 || o.size > most_ranks || o.rank < 0 || o.rank >= o.size)
      throw ConfigError("shared memory: rank " + std::to_string(o.rank) + " of " + std::to_string(o.size) +
                        ": expected a size of at least 1 and at most " + std::to_string(most_ranks) +
                        ", and 0 <= rank < size");
    auto const allowed = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
             c == '_' || c == '-';
    };
    if (o.job.empty() || o.job.size() > 100 || !std::all_of(o.job.begin(), o.job.end(), allowed))
      throw ConfigError("shared memory: job name '" + o.job +
                        "': expected 1 to 100 letters, digits, '.', '_' or '-'");
    if (!(o.timeout.count() > 0 && o.timeout < std::chrono::hours(24 * 365)))
      throw ConfigError("shared memory: timeout of " + std::to_string(o.timeout.count()) +
                        " s: expected more than 0 and less than a year");
    return o;
  }
  std::string object_name() const { return "/elastic-" + std::to_string(::geteuid()) + "-" + options_.job; }

  /// Rank 0: makes the segment, waits until every rank has joined, and takes its name away: from then on
  /// nothing can be left behind, however the ranks end. An elastic job waits for nobody and keeps its name.
  void found() {
    auto geometry = Geometry::fit(static_cast<std::size_t>(size()), options_.memory);
    geometry.heap_bytes = SharedHeap::range(geometry.size);
    layout_.emplace(geometry);
    auto [name, file] =
        NamedObject::create(object_name(), options_.job, layout_->total(), layout_->with_heaps());
    shared_ = std::move(file);
    JobHeader& header = Layout::header(base());
    header.geometry = layout_->geometry();
    header.version = JobHeader::current_version;
    header.elastic = options_.elastic ? 1 : 0;
    header.owner = this_process();
    if (header.owner.started == 0)
      throw Error("shared memory: cannot read /proc/self/stat: is /proc mounted?");
    make_heap();
    member(0).process = header.owner;
    member(0).epoch.store(options_.elastic ? 1 : 0);
    member(0).state.store(Member::joined);
    header.phase.store(JobHeader::forming);
    if (options_.elastic) {
      name_.emplace(std::move(name));
      return;
    }
    try {
      auto const missing = [this] {
        for (int r = 1; r < size(); ++r)
          if (member(r).state.load() < Member::joined) return r;
        return -1;
      };
      wait(
          "waiting to join", [] { return false; }, [&] { return missing() < 0; },
          [this] { return any_gone(); }, missing);
    } catch (...) {
      leave();
      throw;
    }
    header.phase.store(JobHeader::running);
    for (int r = 1; r < size(); ++r) wake(r);
  }

  /// The others: find the segment of a living rank 0, take a place in it, and wait until all have. In an
  /// elastic job the place of a process that has ended is free, and nobody waits for anybody.
  void join() {
    auto const start = Clock::now();
    auto pause = std::chrono::milliseconds(1);
    std::string seen = "it has not started";
    while (!find_living(seen) || !take_place(seen)) {
      if (Clock::now() - start > options_.timeout)
        throw Timeout(0, "", "joining job '" + options_.job + "' in shared memory", Clock::now() - start,
                      seen);
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(20));
    }
    if (options_.elastic) return;
    try {
      wait(
          "waiting for all ranks to join", [] { return false; },
          [&] { return Layout::header(base()).phase.load() == JobHeader::running; },
          [this] { return any_gone(); }, [] { return 0; });
    } catch (...) {
      leave();
      throw;
    }
  }

  /// False while a process that has ended still holds the place.
  bool take_place(std::string& seen) {
    layout_.emplace(Layout::header(base()).geometry);
    Member& me = member(rank());
    auto const place = static_cast<std::size_t>(reinterpret_cast<std::byte*>(&me) - base());
    bool const mine = shared_.take_place(place);
    auto const before = me.state.load();
    if (!mine && options_.elastic && (before != Member::joined || !alive(me.process))) {
      seen = "the process that had rank " + std::to_string(rank()) + " is still ending";
      layout_.reset();
      return false;
    }
    if (!mine || (before != Member::absent && !options_.elastic)) {
      layout_.reset();
      throw ConfigError("shared memory: rank " + std::to_string(rank()) + " of job '" + options_.job +
                        "' has been taken by another process");
    }
    if (options_.elastic) {
      me.state.store(Member::arriving);  // who reads `process` now sees another epoch when it looks again
      me.fallen.fetch_add(before == Member::absent || before == Member::left ? 0 : 1);
      me.epoch.fetch_add(1);
      me.asleep.store(0);
    }
    make_heap();
    me.process = this_process();
    me.state.store(Member::joined);
    for (int r = 0; r < size(); ++r) wake(r);
    return true;
  }

  bool find_living(std::string& seen) {
    auto found = NamedObject::open(object_name());
    if (!found || found->mapping->size() < sizeof(JobHeader)) return false;
    JobHeader const& header = Layout::header(found->mapping->data());
    if (header.phase.load() != JobHeader::forming) return false;
    if (!alive(header.owner)) {
      seen = "found only what dead process " + std::to_string(header.owner.pid) +
             " left (ranks in containers must share a PID namespace)";
      return false;
    }
    if (found->grown()) return false;
    if (header.version != JobHeader::current_version ||
        Layout(header.geometry).with_heaps() != found->mapping->size())
      throw ConfigError("shared memory: rank 0 of job '" + options_.job + "' was built with another elastic");
    if (header.geometry.size != static_cast<std::size_t>(size()))
      throw ConfigError("shared memory: job '" + options_.job + "' has " +
                        std::to_string(header.geometry.size) + " ranks, but rank " + std::to_string(rank()) +
                        " was started with a size of " + std::to_string(size()));
    if ((header.elastic != 0) != options_.elastic)
      throw ConfigError("shared memory: rank 0 of job '" + options_.job +
                        "' was started with elastic = " + (header.elastic != 0 ? "true" : "false") +
                        ", rank " + std::to_string(rank()) + " was not");
    shared_ = std::move(*found);
    return true;
  }
  /// Empty, whatever a process that had this place before kept there.
  void make_heap() {
    if (member(rank()).epoch.load() > 1)
      ::fallocate(shared_.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(layout_->heap(rank())),
                  static_cast<off_t>(layout_->geometry().heap_bytes));
    heap_.emplace(shared_.file.get(), base(), layout_->heap(rank()), layout_->geometry().heap_bytes,
                  options_.job);
  }

  std::optional<std::pair<int, std::string>> any_gone() const {
    for (int r = 0; r < size(); ++r)
      if (auto const why = r == rank() ? std::nullopt : gone(r)) return std::pair{r, *why};
    return std::nullopt;
  }

  void leave() {
    if (!shared_.mapping || !layout_) return;
    name_.reset();  // nobody joins a job without rank 0
    std::uint32_t present = Member::joined;
    member(rank()).state.compare_exchange_strong(present, Member::left);
    for (int r = 0; r < size(); ++r) wake(r);
  }

  SharedMemoryOptions options_;
  bool crowded_ = false;
  SharedFile shared_;
  std::optional<NamedObject> name_;
  std::optional<Layout> layout_;
  std::optional<SharedHeap> heap_;
};

}  // namespace elastic::transport::detail
