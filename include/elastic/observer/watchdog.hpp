// SPDX-License-Identifier: Apache-2.0
// Says when nothing happens: a gradient, a reader or a transport that hangs cannot say it itself.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "elastic/event.hpp"

namespace elastic::observer {

/// Observes any role; a thread of its own tells once of every silence longer than `patience` after the last
/// event: who has been silent since when, and after what. On stderr unless `tell` is given. Nothing is ended:
/// waits have their deadlines, and a long gradient may be healthy.
class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Watchdog(
      int rank, std::chrono::duration<double> patience,
      std::function<void(std::string const&)> tell =
          [](std::string const& text) { std::fprintf(stderr, "%s\n", text.c_str()); })
      : rank_(rank),
        patience_(std::chrono::duration_cast<Clock::duration>(patience)),
        tell_(std::move(tell)),
        thread_([this] { watch(); }) {}
  Watchdog(Watchdog const&) = delete;
  Watchdog& operator=(Watchdog const&) = delete;
  ~Watchdog() {
    {
      std::lock_guard const lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void operator()(event::Step const& e) { note("the gradient of step " + std::to_string(e.step)); }
  void operator()(event::Exchange const& e) { note("the exchange of step " + std::to_string(e.step)); }
  void operator()(event::Applied const& e) { note("a delta of rank " + std::to_string(e.worker)); }
  void operator()(event::Snapshot const& e) { note("snapshot " + std::to_string(e.version)); }

 private:
  void note(std::string what) {
    std::lock_guard const lock(mutex_);
    last_ = std::move(what);
    since_ = Clock::now();
    told_ = false;
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!ended_) {
      auto const silent = Clock::now() - since_;
      if (!told_ && silent >= patience_) {
        told_ = true;
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.0f", std::chrono::duration<double>(silent).count());
        std::string const text = "elastic: nothing has happened on rank " + std::to_string(rank_) + " for " +
                                 seconds + " s, since " + last_;
        lock.unlock();
        tell_(text);
        lock.lock();
      }
      if (ended_) return;
      changed_.wait_until(lock, told_ ? Clock::now() + patience_ : since_ + patience_);
    }
  }

  int rank_;
  Clock::duration patience_;
  std::function<void(std::string const&)> tell_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string last_ = "the start";
  Clock::time_point since_ = Clock::now();
  bool told_ = false;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace elastic::observer
