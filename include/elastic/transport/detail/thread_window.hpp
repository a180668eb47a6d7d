// SPDX-License-Identifier: Apache-2.0
// A window of the Threads transport: plain memory and a mutex for each stripe, so that ThreadSanitizer checks
// those who use it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/span.hpp"
#include "elastic/transport/detail/stripes.hpp"

namespace elastic::transport::detail {

/// Which of a job's windows it is; travels in a message.
struct ThreadWindowHandle {
  std::uint64_t number = 0;
};

/// What the windows of all ranks share.
struct WindowMemory {
  struct Lock {
    std::mutex mutex;  // of `holder`
    std::condition_variable changed;
    int holder = -1;

    bool try_lock(int rank) {
      std::lock_guard const lock(mutex);
      if (holder >= 0) return false;
      holder = rank;
      return true;
    }
    /// Who holds it after waiting for a moment; -1 if it is free.
    int wait() {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, std::chrono::milliseconds(10), [this] { return holder < 0; });
      return holder;
    }
    void unlock() {
      {
        std::lock_guard const lock(mutex);
        holder = -1;
      }
      changed.notify_all();
    }
  };
  WindowMemory(std::size_t n, std::size_t value_bytes)
      : size(n), width(value_bytes), bytes(n * value_bytes), locks(Stripes::of(n, value_bytes).count()) {}
  std::size_t size;
  std::size_t width;
  std::vector<std::byte> bytes;
  std::vector<Lock> locks;
};

/// `Net` says when to give up: check(), which throws, and timeout().
template <class T, class Net>
class ThreadWindow {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Holds a stripe; dropping it lets the stripe go.
  class [[nodiscard]] Guard {
   public:
    Guard(Guard&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)), stripe_(other.stripe_) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (lock_ != nullptr) lock_->unlock();
    }
    Span<T> span() const { return stripe_; }

   private:
    friend ThreadWindow;
    Guard(WindowMemory::Lock& lock, Span<T> stripe) : lock_(&lock), stripe_(stripe) {}
    WindowMemory::Lock* lock_;
    Span<T> stripe_;
  };

  ThreadWindow(Net const& net, std::uint64_t number, std::shared_ptr<WindowMemory> memory)
      : net_(&net),
        number_(number),
        memory_(std::move(memory)),
        stripes_(Stripes::of(memory_->size, sizeof(T))) {}

  ThreadWindowHandle handle() const { return {number_}; }
  std::size_t size() const { return stripes_.size; }
  std::size_t stripes() const { return stripes_.count(); }
  std::size_t first(std::size_t k) const { return stripes_.first(k); }
  Span<T> stripe(std::size_t k) const {
    return {reinterpret_cast<T*>(memory_->bytes.data()) + stripes_.first(k), stripes_.values(k)};
  }
  /// Throws Timeout, naming the rank that holds the stripe, and Aborted.
  Guard lock(std::size_t k) const {
    auto& lock = memory_->locks[k];
    std::string const what = "lock of stripe " + std::to_string(k) + " of a window";
    auto const start = std::chrono::steady_clock::now();
    net_->check(what.c_str());
    while (!lock.try_lock(net_->rank())) {
      int const holder = lock.wait();
      net_->check(what.c_str());
      auto const waited = std::chrono::steady_clock::now() - start;
      if (waited >= net_->timeout()) throw Timeout(holder, "this process", what, waited, "it holds it");
    }
    return {lock, stripe(k)};
  }
  std::optional<Guard> try_lock(std::size_t k) const {
    auto& lock = memory_->locks[k];
    if (!lock.try_lock(net_->rank())) return std::nullopt;
    return Guard(lock, stripe(k));
  }

 private:
  Net const* net_;
  std::uint64_t number_;
  std::shared_ptr<WindowMemory> memory_;
  Stripes stripes_;
};

}  // namespace elastic::transport::detail
