// SPDX-License-Identifier: Apache-2.0
// A few threads that do a number of like tasks together and wait for more: how a batch is prepared in parallel.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace elastic::data::detail {

/// `size` workers, of which the caller of run() is the first.
class Crew {
 public:
  explicit Crew(int size) {
    try {
      for (int member = 1; member < size; ++member)
        threads_.emplace_back([this, member] { serve(static_cast<std::size_t>(member)); });
    } catch (...) {
      dismiss();
      throw;
    }
  }
  Crew(Crew const&) = delete;
  Crew& operator=(Crew const&) = delete;
  ~Crew() { dismiss(); }

  /// Calls `task(i, member)` for i = 0 ... tasks-1, each once, on any worker (member: 0 ... size-1), and
  /// returns when all are done. If some throw, the rest is not begun and the exception of the first of them,
  /// in the order of i, is thrown: the same one whatever the size.
  void run(std::size_t tasks, std::function<void(std::size_t i, std::size_t member)> const& task) {
    {
      std::lock_guard lock(mutex_);
      task_ = &task;
      end_ = tasks;
      next_ = 0;
      error_ = nullptr;
      busy_ = threads_.size();
      ++round_;
    }
    changed_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve(std::size_t member) {
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = 0;;) {
      changed_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      lock.unlock();
      work(member);
      lock.lock();
      if (--busy_ == 0) changed_.notify_all();
    }
  }

  void work(std::size_t member) {
    for (std::size_t i; (i = next_++) < end_;) try {
        (*task_)(i, member);
      } catch (...) {
        std::lock_guard lock(mutex_);
        next_ = end_;  // all before i are begun, so that the first that throws is among those that run
        if (!error_ || i < failed_) {
          error_ = std::current_exception();
          failed_ = i;
        }
      }
  }

  void dismiss() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<std::size_t> next_ = 0;
  std::function<void(std::size_t, std::size_t)> const* task_ = nullptr;  // guarded by mutex_, as the rest
  std::size_t end_ = 0;  // like task_, does not change while a round runs
  std::size_t busy_ = 0;
  std::uint64_t round_ = 0;
  std::exception_ptr error_;
  std::size_t failed_ = 0;
  bool stop_ = false;
};

}  // namespace elastic::data::detail
