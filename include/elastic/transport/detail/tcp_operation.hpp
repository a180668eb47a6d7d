// SPDX-License-Identifier: Apache-2.0
// What is in flight: a transfer moves one message over one link, an operation is what a ticket waits for.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/traffic.hpp"

namespace elastic::transport::detail {

enum class Trouble { none, timeout, lost, aborted, protocol };

/// Why something cannot go on, and with whom.
struct Failure {
  Trouble kind = Trouble::none;
  int peer = -1;
  std::string where;
  std::string why;

  explicit operator bool() const { return kind != Trouble::none; }

  [[noreturn]] void raise(std::string const& operation, std::chrono::duration<double> waited) const {
    switch (kind) {
      case Trouble::timeout: throw Timeout(peer, where, operation, waited, why);
      case Trouble::aborted: throw Aborted(peer, where, operation, waited, why);
      case Trouble::protocol: throw ProtocolError(peer, where, operation, waited, why);
      case Trouble::lost:
      case Trouble::none: break;
    }
    throw PeerLost(peer, where, operation, waited, why);
  }
};

struct TcpOperation;

/// One message in one direction on one link; the buffer is the caller's and outlives it.
struct Transfer {
  TcpOperation* operation = nullptr;
  std::byte* data = nullptr;  // only read when sending
  std::size_t size = 0;
  std::size_t moved = 0;      // bytes sent or received
  std::size_t available = 0;  // sending: bytes that are final and may go
  std::uint64_t id = 0;
  int peer = -1;
  int tag = 0;
  bool outgoing = false;
  bool granted = false;
  bool finished = true;  // an unused slot is
};

/// This rank's part of a sum: chunks of the others arrive side by side, and each range that has arrived from
/// everybody is added in rank order, so that the bits do not depend on who came first.
struct Reduction {
  void (*sum)(Reduction const&, std::size_t first, std::size_t last) = nullptr;
  std::byte* own = nullptr;        // where the sum goes
  std::vector<std::byte> staging;  // the others' chunks, in rank order
  std::size_t count = 0;           // elements of this chunk
  std::size_t element = 0;         // bytes of an element
  std::size_t summed = 0;
  int rank = 0;
  int ranks = 0;

  std::byte* staged(int other) { return staging.data() + slot(other) * count * element; }
  /// Which of the others' chunks that of rank `other` is.
  std::size_t slot(int other) const { return static_cast<std::size_t>(other - (other > rank ? 1 : 0)); }
};

/// own[i] = x_0[i] + x_1[i] + ... for i in [first, last), left to right like a serial loop.
template <class T>
void sum_in_rank_order(Reduction const& r, std::size_t first, std::size_t last) {
  constexpr std::size_t block = 1024;
  T sum[block];
  T* const own = reinterpret_cast<T*>(r.own);
  T const* const staged = reinterpret_cast<T const*>(r.staging.data());
  for (std::size_t at = first; at < last; at += block) {
    std::size_t const n = std::min(block, last - at);
    for (int j = 0; j < r.ranks; ++j) {
      T const* const x = (j == r.rank ? own : staged + r.slot(j) * r.count) + at;
      if (j == 0)
        std::copy_n(x, n, sum);
      else
        for (std::size_t i = 0; i < n; ++i) sum[i] += x[i];
    }
    std::copy_n(sum, n, own + at);
  }
}

/// What a ticket waits for. An all-reduce over p ranks has 4 groups of p-1 transfers: chunks out, chunks in,
/// sums out, sums in.
struct TcpOperation {
  char const* name = "";
  std::vector<Transfer> transfers;
  std::size_t open = 0;  // transfers that have not finished
  Failure failure;
  Reduction reduction;
  bool cancelled = false;
  bool reported = false;  // those who wait have been woken

  /// Fills slot `k`; slots left empty count as done.
  Transfer& add(std::size_t k, int peer, bool outgoing, std::uint64_t id, std::byte* data, std::size_t size) {
    transfers[k] = {.operation = this,
                    .data = data,
                    .size = size,
                    .available = size,
                    .id = id,
                    .peer = peer,
                    .outgoing = outgoing,
                    .finished = false};
    ++open;
    return transfers[k];
  }

  bool done() const { return open == 0 || failure; }

  void fail(Failure const& why) {
    if (!done()) failure = why;
  }

  void finish(Transfer& transfer) {
    transfer.finished = true;
    --open;
  }

  /// Called when more of an incoming transfer has arrived.
  void arrived() {
    if (reduction.sum == nullptr || reduction.summed == reduction.count) return;
    std::size_t const others = transfers.size() / 4;
    std::size_t ready = reduction.count;
    for (std::size_t k = others; k < 2 * others; ++k)
      ready = std::min(ready, transfers[k].moved / reduction.element);
    constexpr std::size_t piece = 256 << 10;  // still in the cache when it is summed, and worth a frame
    if (ready != reduction.count && (ready - reduction.summed) * reduction.element < piece) return;
    reduction.sum(reduction, reduction.summed, ready);
    reduction.summed = ready;
    for (std::size_t k = 2 * others; k < 3 * others; ++k) transfers[k].available = ready * reduction.element;
  }
};

}  // namespace elastic::transport::detail
