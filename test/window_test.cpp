// SPDX-License-Identifier: Apache-2.0
// Windows: every rank sees the same memory, nothing is lost between locks, and a holder that dies, stops or is
// late has the consequence that is promised.
#include "elastic/window.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "elastic/role.hpp"
#include "support/catch.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using support::Forked;
using support::Launch;
using transport::SharedMemory;
using transport::Threads;

static_assert(Windowed<SharedMemory> && Windowed<Threads>);

/// Rank 0's window of `n` zeros, opened by all.
template <class T, class Net>
auto shared_window(Net& net, std::size_t n) {
  using Handle = typename Net::WindowHandle;
  Handle handle;
  if (net.rank() == 0) {
    auto window = net.template make_window<T>(n);
    handle = window.handle();
    net.broadcast(as_bytes(handle), 0);
    return window;
  }
  net.broadcast(as_bytes(handle), 0);
  return net.template open_window<T>(handle);
}

TEMPLATE_TEST_CASE("a window is the same memory on every rank, cut into stripes", "", Threads, SharedMemory,
                   Forked<SharedMemory>) {
  for (std::size_t const n :
       {std::size_t(0), std::size_t(1), std::size_t(1000), std::size_t(100'000), std::size_t(3'000'001)}) {
    auto const answers = Launch<TestType>::run(3, [n](auto& net) -> std::vector<double> {
      auto window = shared_window<float>(net, n);
      double wrong = double(window.size() != n);
      std::size_t next = 0;
      for (std::size_t k = 0; k < window.stripes(); ++k) {
        auto const stripe = window.stripe(k);
        wrong += window.first(k) != next || stripe.size() == 0;
        wrong += reinterpret_cast<std::uintptr_t>(stripe.data()) % 64 !=
                 reinterpret_cast<std::uintptr_t>(window.stripe(0).data()) % 64;
        if (net.rank() == 0)
          for (float const v : stripe) wrong += v != 0;
        next += stripe.size();
      }
      wrong += next != n;
      net.barrier();
      for_each_stripe(window, net.rank(), net.size(), [](Span<float> stripe, std::size_t first) {
        for (std::size_t i = 0; i < stripe.size(); ++i) stripe[i] += float((first + i) % 1000);
      });
      net.barrier();
      for (std::size_t k = 0; k < window.stripes(); ++k) {
        auto const stripe = window.lock(k);
        for (std::size_t i = 0; i < stripe.span().size(); ++i)
          wrong += stripe.span()[i] != float(net.size()) * float((window.first(k) + i) % 1000);
      }
      net.barrier();
      return {wrong};
    });
    CHECK(answers == support::Answers(3, {0}));
  }
}

TEST_CASE("stripes are some 256 KiB, fewer in a small window") {
  using transport::detail::Stripes;
  CHECK(Stripes::of(61'000'000, 4).count() == 931);
  CHECK(Stripes::of(351'946, 4).count() == 16);
  CHECK(Stripes::of(4096, 4).count() == 4);
  CHECK(Stripes::of(10, 4).count() == 1);
  CHECK(Stripes::of(0, 4).count() == 0);
}

/// Elastic exchanges of `net`'s worker with the center, in doubles that have room for every bit; returns what
/// center and workers come to, less what they were.
template <class Net>
double conserve(Net& net, std::size_t n, int exchanges) {
  auto window = shared_window<double>(net, n);
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = double((i * 37 + std::size_t(net.rank()) * 11) % 64);
  auto sum = x;
  net.all_reduce(Span<double>(sum));
  for (int k = 0; k < exchanges; ++k)
    for_each_stripe(window, net.rank(), net.size(), [&](Span<double> center, std::size_t first) {
      for (std::size_t i = 0; i < center.size(); ++i) {
        double const d = 0.5 * (x[first + i] - center[i]);
        x[first + i] -= d;
        center[i] += d;
      }
    });
  net.all_reduce(Span<double>(x));
  double wrong = 0;
  for (std::size_t k = 0; k < window.stripes(); ++k)
    for (std::size_t i = 0; i < window.stripe(k).size(); ++i)
      wrong += x[window.first(k) + i] + window.stripe(k)[i] != sum[window.first(k) + i];
  net.barrier();
  return wrong;
}
TEMPLATE_TEST_CASE("center and workers are conserved to the last bit", "", Threads, SharedMemory,
                   Forked<SharedMemory>) {
  for (int const p : {2, 4, 8}) {
    auto const answers = Launch<TestType>::run(
        p, [p](auto& net) -> std::vector<double> { return {conserve(net, 100'003, 40 / p)}; });
    CHECK(answers == support::Answers(std::size_t(p), {0}));
  }
}

TEST_CASE("a worker that is killed leaves what it had added, and nobody hangs") {
  constexpr std::size_t n = 200'000;
  constexpr int p = 4, rounds = 30;
  std::size_t const count = transport::detail::Stripes::of(n, sizeof(double)).count();
  std::mt19937 random(7);
  for (int trial = 0; trial < 5; ++trial) {
    auto const make = support::shared_memory_maker(p, std::chrono::seconds(30));
    auto const dies_after = std::uniform_int_distribution<std::size_t>(1, count * rounds - 1)(random);
    std::vector<support::Child> ranks;
    for (int r = 0; r < p; ++r)
      ranks.push_back(support::start_process([&]() -> std::vector<double> {
        SharedMemory net = make(r);
        auto window = shared_window<double>(net, n);
        std::size_t stripes = 0;
        for (int k = 0; k < rounds; ++k)
          for_each_stripe(window, r, p, [&](Span<double> stripe, std::size_t) {
            bool const last = r == p - 1 && ++stripes == dies_after;
            for (std::size_t i = 0; i < stripe.size(); ++i) {
              stripe[i] += double(std::int64_t(1) << (8 * r));  // a digit for each rank
              if (last && i == stripe.size() / 2) ::raise(SIGKILL);
            }
          });
        if (r != 0) {
          char done = 1;
          net.send(read(as_bytes(done)), 0, 1);
          return {};
        }
        char done = 0;
        for (int other = 1; other < p - 1; ++other) net.receive(as_bytes(done), other, 1);
        CHECK_THROWS_AS(net.receive(as_bytes(done), p - 1, 1), PeerLost);
        double wrong = 0, added = 0;
        for (std::size_t k = 0; k < window.stripes(); ++k) {
          auto const stripe = window.lock(k);
          for (double const value : stripe.span()) {
            auto digits = std::int64_t(value);
            for (int other = 0; other < p - 1; ++other, digits >>= 8) wrong += (digits & 255) != rounds;
            added += double(digits);
          }
        }
        return {wrong, added};
      }));
    auto const answer = support::finish_process(ranks[0]);
    for (std::size_t r = 1; r < p - 1; ++r) support::finish_process(ranks[r]);
    CHECK_THROWS_WITH(support::finish_process(ranks[p - 1]), "killed by signal 9");
    CHECK(answer[0] == 0);
    auto const whole = double((dies_after - 1) / count * n);
    CHECK(answer[1] > whole);
    CHECK(answer[1] < whole + double(n));
  }
}

TEST_CASE("the stripe of a stopped process is a Timeout that names it; it may go on afterwards") {
  auto const make = support::shared_memory_maker(2, std::chrono::milliseconds(300));
  auto const child = support::start_process([&]() -> std::vector<double> {
    SharedMemory net = make(1);
    auto window = shared_window<float>(net, 1000);
    {
      auto const stripe = window.lock(0);
      stripe.span()[0] = 5;
      char held = 1;
      net.send(read(as_bytes(held)), 0, 1);
      ::raise(SIGSTOP);
      stripe.span()[0] = 6;
    }
    auto const again = window.lock(0);
    return {double(again.span()[0])};
  });
  SharedMemory net = make(0);
  auto window = shared_window<float>(net, 1000);
  char held = 0;
  net.receive(as_bytes(held), 1, 1);
  int status = 0;
  ::waitpid(child.pid, &status, WUNTRACED);
  REQUIRE(WIFSTOPPED(status));
  CHECK_FALSE(window.try_lock(0));
  try {
    auto const stripe = window.lock(0);
    FAIL("locked what another process holds");
  } catch (Timeout const& e) {
    CHECK(e.peer() == 1);
    CHECK_THAT(e.what(), ContainsSubstring("lock of stripe 0 of a window with rank 1"));
  }
  ::kill(child.pid, SIGCONT);
  CHECK(support::finish_process(child) == std::vector<double>{6});
  CHECK(window.lock(0).span()[0] == 6);
}

TEMPLATE_TEST_CASE("who waits for a stripe is told when the job is ended, and who holds it when time is up",
                   "", Threads, SharedMemory, Forked<SharedMemory>) {
  auto const answers = Launch<TestType>::run(
      2,
      [](auto& net) -> std::vector<double> {
        auto window = shared_window<float>(net, 1000);
        if (net.rank() == 0) {
          auto const stripe = window.lock(0);
          net.barrier();
          char late = 0;
          while (!net.probe()) sched_yield();  // the other one's deadline comes first
          net.receive(as_bytes(late), 1, 1);
          net.barrier();
          net.abort("enough");
          return {double(late)};
        }
        net.barrier();
        char late = 0;
        try {
          auto const stripe = window.lock(0);
        } catch (Timeout const& e) {
          late = char(e.peer() == 0);
        }
        net.send(read(as_bytes(late)), 0, 1);
        net.barrier();
        try {
          for (;;) auto const stripe = window.lock(0);
        } catch (Aborted const& e) {
          return {double(e.peer() == 0)};
        } catch (Timeout const&) {
          return {-1};
        }
      },
      std::chrono::seconds(1));
  CHECK(answers[0] == std::vector<double>{1});
}

TEMPLATE_TEST_CASE("a handle opens its own window and nothing else", "", Threads, SharedMemory) {
  Launch<TestType>::run(1, [](auto& net) -> std::vector<double> {
    using Handle = typename std::remove_reference_t<decltype(net)>::WindowHandle;
    Handle handle;
    {
      auto const window = net.template make_window<float>(5000);
      handle = window.handle();
      CHECK(net.template open_window<float>(handle).size() == 5000);
      CHECK_THROWS_AS(net.template open_window<double>(handle), ConfigError);
    }
    CHECK_THROWS_AS(net.template open_window<float>(handle), ProtocolError);
    std::mt19937_64 random(3);
    for (int i = 0; i < 1000; ++i) {
      for (std::size_t at = 0; at + 8 <= sizeof handle; at += 8) {
        auto const junk = random() >> (random() % 64);
        std::memcpy(reinterpret_cast<char*>(&handle) + at, &junk, 8);
      }
      CHECK_THROWS_AS(net.template open_window<float>(handle), Error);
    }
    return {};
  });
}

/// Twenty stripes of which somebody else holds some; counts what is asked of it.
struct Crowded {
  static constexpr std::size_t width = 10;
  std::vector<int>& held;  // by us
  std::vector<bool> busy;  // somebody else has it until lock() waits
  std::vector<float>& values;
  bool& waited_with_locks;

  struct Guard {
    std::vector<int>* held;
    std::size_t k;
    Span<float> values;
    Guard(std::vector<int>& h, std::size_t stripe, Span<float> v) : held(&h), k(stripe), values(v) { ++h[k]; }
    Guard(Guard&& other) noexcept
        : held(std::exchange(other.held, nullptr)), k(other.k), values(other.values) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (held != nullptr) --(*held)[k];
    }
    Span<float> span() const { return values; }
  };
  std::size_t stripes() const { return held.size(); }
  std::size_t first(std::size_t k) const { return k * width; }
  Span<float> stripe(std::size_t k) const { return Span<float>(values).part(first(k), width); }
  Guard lock(std::size_t k) const {
    for (int const mine : held) waited_with_locks = waited_with_locks || mine != 0;
    return {held, k, stripe(k)};
  }
  std::optional<Guard> try_lock(std::size_t k) const {
    if (busy[k]) return std::nullopt;
    return Guard(held, k, stripe(k));
  }
};

TEST_CASE(
    "a device passes every stripe once, in runs, waits with empty hands, and lets go when its work is done") {
  for (std::size_t const run : {std::size_t(1), std::size_t(25), std::size_t(1000)}) {
    for (int const part : {0, 3}) {
      std::vector<int> held(20);
      std::vector<bool> busy(20);
      for (std::size_t const k : {0u, 7u, 8u, 13u, 19u}) busy[k] = true;
      std::vector<float> values(200);
      bool waited_with_locks = false;
      Crowded const window{held, busy, values, waited_with_locks};
      int open = 0, most = 0;
      bool unlocked = false;
      struct Work {
        int* open;
        void wait() { --*open; }
        bool done() { return false; }
      };
      for_each_run(
          window, part, 5, run,
          [&](Span<float> stripes, std::size_t first) {
            for (std::size_t i = 0; i < stripes.size(); ++i) {
              stripes[i] += float(first + i + 1);
              unlocked = unlocked || held[(first + i) / Crowded::width] != 1;
            }
          },
          [&] {
            most = std::max(most, ++open);
            return Work{&open};
          });
      std::vector<float> once(200);
      std::iota(once.begin(), once.end(), 1.f);
      CHECK(values == once);
      CHECK(held == std::vector<int>(20));
      CHECK_FALSE(unlocked);
      CHECK_FALSE(waited_with_locks);
      CHECK(open == 0);
      CHECK(most >= (run == 1 ? 3 : 1));  // several at a time
    }
  }
}

}  // namespace
