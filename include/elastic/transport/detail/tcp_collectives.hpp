// SPDX-License-Identifier: Apache-2.0
// Collectives as sets of transfers: what goes to whom and where what comes from whom belongs. The links do
// the rest, in the background.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "elastic/chunks.hpp"
#include "elastic/span.hpp"
#include "elastic/transport/detail/tcp_engine.hpp"
#include "elastic/transport/detail/tcp_operation.hpp"

namespace elastic::transport::detail {

/// This rank among those that take part.
struct Team {
  int rank;
  int ranks;

  std::size_t others() const { return static_cast<std::size_t>(ranks - 1); }
  /// The other ranks, 0 <= k < others().
  int other(std::size_t k) const { return static_cast<int>(k) + (static_cast<int>(k) < rank ? 0 : 1); }
};

/// Sums of at most so many bytes go whole to everybody: one latency instead of two for p / 2 times the bytes.
inline constexpr std::size_t whole_limit = 8 << 10;
/// How far each rank of a sum may be ahead of another: as much as stays in the cache, the kernel's copy
/// included, and a few frames at least; but on a long way all that 10 Gbit/s have under way in a round trip.
constexpr std::size_t window(std::size_t others, double round_trip) {
  std::size_t const cached = std::max<std::size_t>((std::size_t{1} << 20) / (1 + others), 128 << 10);
  auto const under_way = static_cast<std::size_t>(1.25e9 * std::min(round_trip, 1.0));
  return std::max(cached, under_way) / 64 * 64;
}
static_assert(window(1, 100e-6) == 512 << 10 && window(7, 0) == 128 << 10);
static_assert(window(1, 50e-3) == 62'500'000 / 64 * 64);

/// Whether a sum of so many bytes over so many ranks goes whole to everybody.
constexpr bool sums_whole(std::size_t bytes, int ranks) { return ranks == 2 || bytes <= whole_limit; }

// Each function returns nullptr if there is nothing to wait for.

/// Everybody sends everybody an empty frame.
inline TcpOperation* start_barrier(Engine& engine, Team team) {
  auto const lock = engine.lock();
  if (team.others() == 0) return nullptr;
  TcpOperation& op = engine.acquire("barrier", 2 * team.others());
  std::uint64_t const id = engine.next_collective();
  for (std::size_t k = 0; k < team.others(); ++k) {
    op.add(2 * k, team.other(k), true, id, nullptr, 0);
    op.add(2 * k + 1, team.other(k), false, id, nullptr, 0);
  }
  engine.launch(op);
  return &op;
}

inline TcpOperation* start_broadcast(Engine& engine, Team team, std::byte* data, std::size_t size, int root) {
  auto const lock = engine.lock();
  if (team.others() == 0 || size == 0) return nullptr;
  bool const sends = team.rank == root;
  TcpOperation& op = engine.acquire("broadcast", sends ? team.others() : 1);
  std::uint64_t const id = engine.next_collective();
  for (std::size_t k = 0; k < op.transfers.size(); ++k)
    op.add(k, sends ? team.other(k) : root, sends, id, data, size);
  engine.launch(op);
  return &op;
}

/// Two ranks, and any number of them if x is small, send each other all of it and both add. Else rank j adds
/// chunk j and sends the sum back; nobody waits to be asked for a sum, for its chunk has come from there.
template <class T>
TcpOperation* start_all_reduce(Engine& engine, Team team, Span<T> x) {
  auto const lock = engine.lock();
  std::size_t const others = team.others();
  if (others == 0 || x.empty()) return nullptr;
  bool const whole = sums_whole(x.size() * sizeof(T), team.ranks);
  TcpOperation& op = engine.acquire("all_reduce", (whole ? 2 : 4) * others);
  std::uint64_t const id = engine.next_collective();
  auto const part = [&](int rank) { return whole ? Chunk{0, x.size()} : chunk(x.size(), team.ranks, rank); };
  auto const bytes = [&](Chunk c) { return reinterpret_cast<std::byte*>(x.data() + c.first); };
  Chunk const mine = part(team.rank);
  std::size_t const own = mine.count * sizeof(T);

  Reduction& r = op.reduction;
  r.sum = sum_in_rank_order<T>;
  r.own = bytes(mine);
  r.count = mine.count;
  r.element = sizeof(T);
  r.summed = 0;
  r.rank = team.rank;
  r.ranks = team.ranks;
  r.whole = whole;
  r.window = window(others, engine.round_trip());
  r.ring = std::min(r.window, (own + 63) / 64 * 64);
  if (r.staging.size() < others * r.ring) r.staging.resize(others * r.ring);

  for (std::size_t k = 0; k < others; ++k) {
    int const peer = team.other(k);
    Chunk const theirs = part(peer);
    if (theirs.count > 0) op.add(k, peer, true, id, bytes(theirs), theirs.count * sizeof(T));
    if (mine.count > 0) op.add(others + k, peer, false, id, r.staged(peer), own).ring = r.ring;
    if (whole) continue;
    if (mine.count > 0) op.add(2 * others + k, peer, true, id + 1, r.own, own);
    if (theirs.count > 0)
      op.add(3 * others + k, peer, false, id + 1, bytes(theirs), theirs.count * sizeof(T));
  }
  op.advance();
  engine.launch(op);
  return &op;
}

}  // namespace elastic::transport::detail
