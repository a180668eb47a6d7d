// SPDX-License-Identifier: Apache-2.0
// Collectives as sets of transfers: what goes to whom and where what comes from whom belongs. The links do
// the rest, in the background.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elastic/span.hpp"
#include "elastic/transport/detail/chunks.hpp"
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

/// Granting the gather at the start is safe: the owner of a chunk sends sums only of what it has received,
/// and what it has received has left the buffer that the sums overwrite.
template <class T>
TcpOperation* start_all_reduce(Engine& engine, Team team, Span<T> x) {
  auto const lock = engine.lock();
  std::size_t const others = team.others();
  if (others == 0 || x.empty()) return nullptr;
  TcpOperation& op = engine.acquire("all_reduce", 4 * others);
  std::uint64_t const id = engine.next_collective();
  auto const bytes = [&](Chunk c) { return reinterpret_cast<std::byte*>(x.data() + c.first); };
  Chunk const mine = chunk(x.size(), team.ranks, team.rank);

  Reduction& r = op.reduction;
  r.sum = sum_in_rank_order<T>;
  r.own = bytes(mine);
  r.count = mine.count;
  r.element = sizeof(T);
  r.summed = 0;
  r.rank = team.rank;
  r.ranks = team.ranks;
  std::size_t const own = mine.count * sizeof(T);
  if (r.staging.size() < others * own) r.staging.resize(others * own);

  for (std::size_t k = 0; k < others; ++k) {
    int const peer = team.other(k);
    Chunk const theirs = chunk(x.size(), team.ranks, peer);
    if (theirs.count > 0) {
      op.add(k, peer, true, id, bytes(theirs), theirs.count * sizeof(T));
      op.add(3 * others + k, peer, false, id + 1, bytes(theirs), theirs.count * sizeof(T));
    }
    if (mine.count > 0) {
      op.add(others + k, peer, false, id, r.staged(peer), own);
      op.add(2 * others + k, peer, true, id + 1, r.own, own).available = 0;
    }
  }
  engine.launch(op);
  return &op;
}

}  // namespace elastic::transport::detail
