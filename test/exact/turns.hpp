// SPDX-License-Identifier: Apache-2.0
// A random order of arrival that repeats: asynchronous workers of one process take turns, and a turn ends
// when the server has applied the worker's delta.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "elastic/event.hpp"

namespace exact {

class Turns {
 public:
  /// `turns` turns; each belongs to one of the workers, all equally likely.
  Turns(int workers, long turns, unsigned seed) {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<int> any(0, workers - 1);
    for (long t = 0; t < turns; ++t) order_.push_back(any(random));
  }
  explicit Turns(std::vector<int> order) : order_(std::move(order)) {}

  std::vector<int> const& order() const { return order_; }

  /// How many turns this worker has.
  long of(int worker) const {
    long count = 0;
    for (int w : order_) count += w == worker ? 1 : 0;
    return count;
  }

  /// Returns when it is the `nth` turn (from 0) of this worker; throws if that takes a minute.
  void wait_for(int worker, long nth) {
    std::size_t turn = 0;
    for (long before = 0; turn < order_.size() && (order_[turn] != worker || before++ < nth);) ++turn;
    std::unique_lock lock(mutex_);
    auto const mine = [&] { return now_ == turn; };
    if (!changed_.wait_for(lock, std::chrono::minutes(1), mine)) throw std::runtime_error("no turn came");
  }

  /// Observes the server, which shows its center after every exchange (Plan::commit_every): that ends the turn.
  template <class T>
  auto observer() {
    return [this](elastic::event::Center<T> const&) {
      std::lock_guard lock(mutex_);
      ++now_;
      changed_.notify_all();
    };
  }

 private:
  std::vector<int> order_;
  std::size_t now_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

/// Batches that come when it is the worker's turn; a turn is `period` batches.
template <class Data>
class InTurn {
 public:
  InTurn(Data data, Turns& turns, int worker, long period)
      : data_(std::move(data)), turns_(turns), worker_(worker), period_(period) {}
  auto const& next() {
    if (taken_ % period_ == 0) turns_.wait_for(worker_, taken_ / period_);
    ++taken_;
    return data_.next();
  }

 private:
  Data data_;
  Turns& turns_;
  int worker_;
  long period_, taken_ = 0;
};

}  // namespace exact
