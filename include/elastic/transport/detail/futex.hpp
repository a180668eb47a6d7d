// SPDX-License-Identifier: Apache-2.0
// How a rank waits for memory that another process writes: spin, then yield, then sleep in the kernel.
#pragma once

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>

namespace elastic::transport::detail {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
                  std::atomic<std::uint64_t>::is_always_lock_free,
              "atomics that hide a lock do not work between processes");

/// Sleeps while `word` holds `expected`, at most `limit`. May return early; the caller looks again.
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::chrono::nanoseconds limit) {
  auto const seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  timespec const until{static_cast<time_t>(seconds.count()), static_cast<long>((limit - seconds).count())};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &until, nullptr, 0);
}

inline void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

/// Decides how long to stay awake. A wake through the kernel costs 25 to 40 us between cores, so a rank that
/// should have a core of its own looks for longer than that, yet gives way now and then in case it has not;
/// ranks that certainly share cores give way every time and sleep soon.
class Backoff {
 public:
  explicit Backoff(bool crowded) : burst_(crowded ? 1 : 64), awake_(crowded ? 50 : 5000) {}

  /// True after a short pause; false when it is time to sleep.
  bool pause() {
    if (turn_ >= awake_) return false;
    if (++turn_ % burst_ == 0) {
      ::sched_yield();
    } else {
      rest();
    }
    return true;
  }
  /// The pause between two looks at memory.
  static void rest() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  void reset() { turn_ = 0; }

 private:
  int burst_;
  int awake_;
  int turn_ = 0;
};

/// How long to look before the first yield, learned from the waits before: ranks that turn out to share a core
/// yield at once, and try whether that still holds now and then.
class Patience {
 public:
  explicit Patience(bool crowded) : looks_(crowded ? 1 : most) {}

  int looks() { return ++waits_ % 16 == 0 ? most : looks_; }
  void came_while_looking() { looks_ = most; }
  void came_while_yielding() { looks_ = 1; }

 private:
  static constexpr int most = 100;
  int looks_;
  unsigned waits_ = 0;
};

}  // namespace elastic::transport::detail
