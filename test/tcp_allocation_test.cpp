// SPDX-License-Identifier: Apache-2.0
// Exchanges and sums over TCP allocate nothing once the first ones have made room: operator new is counted.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "elastic/transport/tcp.hpp"
#include "support/catch.hpp"
#include "support/launch.hpp"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
}  // namespace

// Not inlined, else g++ takes the free of what new has made for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) { return counted(size); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return counted(size); }
[[gnu::noinline]] void* operator new(std::size_t size, std::nothrow_t const&) noexcept {
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace {

using elastic::Span;
using elastic::transport::Tcp;
using Ticket = Tcp::Ticket;

/// The fewest allocations of all threads in ten calls of round(net), which ranks of one process make side by
/// side. What was never needed before may make room once, so several tens are counted; what every call needs
/// shows in all of them.
template <class Round>
long allocations_of(int ranks, Round round) {
  auto const port = elastic::transport::free_port();
  std::barrier together(ranks);
  std::vector<long> counts;
  std::vector<std::jthread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      Tcp net({.port = port, .rank = r, .size = ranks});
      auto run = round(net);
      for (int ten = 0; ten < 6; ++ten) {
        together.arrive_and_wait();
        long const before = allocations;
        together.arrive_and_wait();
        for (int i = 0; i < 10; ++i) run();
        together.arrive_and_wait();
        if (r == 0) counts.push_back(allocations - before);
        together.arrive_and_wait();
      }
    });
  threads.clear();
  return *std::min_element(counts.begin(), counts.end());
}

TEST_CASE("an exchange with a server allocates nothing", "[tcp]") {
  constexpr std::size_t n = 1'000'000, shard = 100'000;  // values: ten shards of 400 kB
  CHECK(allocations_of(2, [](Tcp& net) {
          return [&net, center = support::random_values<float>(n, 1), delta = std::vector<float>(n),
                  out = std::vector<Ticket>(), in = std::vector<Ticket>()]() mutable {
            out.reserve(n / shard);
            in.reserve(n / shard);
            int const peer = 1 - net.rank();
            int ask = 0;
            auto const part = [&](auto& x, std::size_t k) {
              return Span<float>(x.data(), x.size()).part(k * shard, shard);
            };
            if (net.rank() == 0) {
              auto const request = net.wait_message();
              net.receive(Span<int>(&ask, 1), request.source, request.tag);
              for (std::size_t k = 0; k < n / shard; ++k) {
                in.push_back(net.start_receive(part(delta, k), peer, 3));
                out.push_back(net.start_send(part(center, k), peer, 2));
              }
            } else {
              for (std::size_t k = 0; k < n / shard; ++k)
                in.push_back(net.start_receive(part(center, k), peer, 2));
              net.send(Span<int>(&ask, 1), peer, 1);
              for (std::size_t k = 0; k < n / shard; ++k) {
                in[k].wait();
                out.push_back(net.start_send(part(center, k), peer, 3));
              }
            }
            in.clear();
            out.clear();
          };
        }) == 0);
}

TEST_CASE("sums, barriers and broadcasts allocate nothing", "[tcp]") {
  int const ranks = GENERATE(2, 3);
  CHECK(allocations_of(ranks, [](Tcp& net) {
          return [&net, x = support::random_values<float>(500'000, 2)]() mutable {
            for (std::size_t const n : {std::size_t(1), std::size_t(3000), x.size()})
              net.all_reduce(Span<float>(x).part(0, n));
            for (float& v : x) v *= 0.25f;
            net.barrier();
            net.broadcast(Span<float>(x), 0);
          };
        }) == 0);
}

}  // namespace
