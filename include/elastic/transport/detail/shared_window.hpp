// SPDX-License-Identifier: Apache-2.0
// Memory of a shared-memory job that ranks change in place, and the locks of its stripes. A lock names the
// process that holds it, so that the death of that process is no reason to wait.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "elastic/error.hpp"
#include "elastic/span.hpp"
#include "elastic/transport/detail/shared_job.hpp"
#include "elastic/transport/detail/stripes.hpp"

namespace elastic::transport::detail {

/// Where a window is; travels in a message.
struct SharedWindowHandle {
  std::uint64_t place = 0;  // in the job's object
  std::uint64_t size = 0;   // values
  std::uint64_t width = 0;  // bytes of one
};

/// The lock of one stripe: 0, or the mark of the process that holds it, with the highest bit if somebody waits.
struct alignas(cache_line) StripeLock {
  static constexpr std::uint32_t awaited = std::uint32_t(1) << 31;
  std::atomic<std::uint32_t> word;

  bool try_lock(SharedJob const& job) {
    std::uint32_t nobody = 0;
    return word.load(std::memory_order_relaxed) == 0 && word.compare_exchange_strong(nobody, job.mark());
  }
  void lock(SharedJob const& job, std::size_t stripe) {
    auto const what = [stripe] { return "lock of stripe " + std::to_string(stripe) + " of a window"; };
    if (job.aborted()) job.throw_aborted(what().c_str(), std::chrono::seconds(0));
    if (!try_lock(job)) wait(job, what());
  }
  void unlock(SharedJob const& job) {
    if ((word.exchange(0) & awaited) == 0) return;
    for (int r = 0; r < job.size(); ++r) job.wake(r);
  }

 private:
  void wait(SharedJob const& job, std::string const& what) {
    bool mine = false;
    auto const take = [&] {
      std::uint32_t seen = word.load();
      while (!mine && (seen & awaited) == 0)
        if (seen == 0)
          mine = word.compare_exchange_strong(seen, job.mark());
        else if (word.compare_exchange_strong(seen, seen | awaited))
          break;
      return mine;
    };
    auto const take_over_from_dead = [&]() -> std::optional<std::pair<int, std::string>> {
      std::uint32_t seen = word.load();
      if (seen != 0 && job.gone_mark(seen & ~awaited))
        mine = word.compare_exchange_strong(seen, job.mark() | awaited);
      return std::nullopt;
    };
    try {
      job.wait(
          what.c_str(), [] { return false; }, take, take_over_from_dead,
          [&] { return SharedJob::rank_of(word.load() & ~awaited); });
    } catch (...) {
      if (mine) unlock(job);
      throw;
    }
  }
};

/// Values of a job, in stripes; every rank may change a stripe while it holds its lock. The memory lives until
/// the Window of the rank that made it is dropped; the others must be done with theirs before. It survives the
/// death of its maker, until that rank's place is taken again.
template <class T>
class SharedWindow {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= cache_line);

 public:
  /// Holds a stripe; dropping it lets the stripe go.
  class [[nodiscard]] Guard {
   public:
    Guard(Guard&& other) noexcept
        : job_(other.job_), lock_(std::exchange(other.lock_, nullptr)), stripe_(other.stripe_) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (lock_ != nullptr) lock_->unlock(*job_);
    }
    Span<T> span() const { return stripe_; }

   private:
    friend SharedWindow;
    Guard(SharedJob const& job, StripeLock& lock, Span<T> stripe)
        : job_(&job), lock_(&lock), stripe_(stripe) {}
    SharedJob const* job_;
    StripeLock* lock_;
    Span<T> stripe_;
  };

  /// `n` zeros in the memory of this rank.
  static SharedWindow make(SharedJob& job, std::size_t n) {
    SharedWindow window(job, n);
    window.memory_ = {static_cast<std::byte*>(job.heap().allocate(window.bytes(), huge_page)),
                      Free{&job.heap(), window.bytes()}};
    window.base_ = window.memory_.get();
    Head& head = *reinterpret_cast<Head*>(window.base_);
    head.size = n;
    head.width = sizeof(T);
    head.made.store(Head::yes);
    return window;
  }
  /// The window that `handle` is from. Throws ConfigError for one of other values, ProtocolError for none.
  static SharedWindow open(SharedJob& job, SharedWindowHandle handle) {
    if (handle.width != sizeof(T))
      throw ConfigError("window of values of " + std::to_string(handle.width) + " bytes opened as one of " +
                        std::to_string(sizeof(T)));
    SharedWindow window(job, handle.size);
    alignas(Head) std::array<std::byte, sizeof(Head)> found{};
    bool const there = handle.place % SharedHeap::page == 0 && handle.size < job.bytes() / sizeof(T) &&
                       handle.place < job.bytes() && window.bytes() <= job.bytes() - handle.place;
    if (there) job.read(handle.place, found.data(), found.size());  // a hole, if it is gone, keeps being one
    Head const& head = *reinterpret_cast<Head const*>(found.data());
    if (!there || head.made.load() != Head::yes || head.size != handle.size || head.width != sizeof(T))
      throw ProtocolError(
          -1, "", "open_window", std::chrono::seconds(0),
          "there is no window at " + std::to_string(handle.place) + ": its maker has dropped it");
    window.base_ = job.base() + handle.place;
    return window;
  }

  SharedWindowHandle handle() const {
    return {static_cast<std::uint64_t>(base_ - job_->base()), stripes_.size, sizeof(T)};
  }
  std::size_t size() const { return stripes_.size; }
  std::size_t stripes() const { return stripes_.count(); }
  /// Its value number 0 is value number first(k) of the window.
  std::size_t first(std::size_t k) const { return stripes_.first(k); }
  /// The stripe without its lock.
  Span<T> stripe(std::size_t k) const {
    return {reinterpret_cast<T*>(base_ + values_begin()) + stripes_.first(k), stripes_.values(k)};
  }
  /// Waits for the stripe; a process that died holding it left it as it was then. Throws Timeout, naming the
  /// rank that holds it, and Aborted.
  Guard lock(std::size_t k) const {
    lock_of(k).lock(*job_, k);
    return {*job_, lock_of(k), stripe(k)};
  }
  /// The stripe, if nobody holds it.
  std::optional<Guard> try_lock(std::size_t k) const {
    if (!lock_of(k).try_lock(*job_)) return std::nullopt;
    return Guard(*job_, lock_of(k), stripe(k));
  }

 private:
  struct alignas(cache_line) Head {
    static constexpr std::uint64_t yes = 0x776f646e69772e65;
    std::atomic<std::uint64_t> made;
    std::uint64_t size;
    std::uint64_t width;
  };
  struct Free {
    SharedHeap* heap = nullptr;
    std::size_t bytes = 0;
    void operator()(std::byte* p) const {
      reinterpret_cast<Head*>(p)->made.store(0);
      heap->deallocate(p, bytes, huge_page);
    }
  };

  SharedWindow(SharedJob const& job, std::size_t n) : job_(&job), stripes_(Stripes::of(n, sizeof(T))) {}

  std::size_t values_begin() const {
    std::size_t const bytes = sizeof(Head) + stripes_.count() * sizeof(StripeLock);
    return (bytes + SharedHeap::page - 1) / SharedHeap::page * SharedHeap::page;
  }
  std::size_t bytes() const { return values_begin() + stripes_.size * sizeof(T); }
  StripeLock& lock_of(std::size_t k) const { return reinterpret_cast<StripeLock*>(base_ + sizeof(Head))[k]; }

  SharedJob const* job_;
  Stripes stripes_;
  std::byte* base_ = nullptr;
  std::unique_ptr<std::byte, Free> memory_;  // where it was made
};

}  // namespace elastic::transport::detail
