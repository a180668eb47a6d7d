// SPDX-License-Identifier: Apache-2.0
// What is in flight: a transfer moves one message over one link, an operation is what a ticket waits for.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
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
  std::size_t available = 0;  // bytes that may be sent or received by now
  std::size_t ring = 0;       // receiving: data is a ring of so many bytes; 0: it holds everything
  std::uint64_t id = 0;
  int peer = -1;
  int tag = 0;
  std::uint16_t serial = 0;  // which receive of this link it is, or is sent to
  bool outgoing = false;
  bool granted = false;    // sending: it may go, of a part of a collective more than the beginning
  bool confirmed = false;  // sending: its receive is posted
  bool finished = true;    // an unused slot is
};

/// This rank's part of a sum: the others' values arrive side by side, and each range that has arrived from
/// everybody is added in rank order, so that the bits do not depend on who came first.
struct Reduction {
  void (*sum)(Reduction const&, std::size_t first, std::size_t last) = nullptr;
  std::byte* own = nullptr;        // where the sum goes
  std::vector<std::byte> staging;  // a ring for each of the others, in rank order
  std::size_t ring = 0;            // bytes of one
  std::size_t window = 0;          // bytes that a rank may be ahead of another
  std::size_t count = 0;           // elements of this sum
  std::size_t element = 0;         // bytes of an element
  std::size_t summed = 0;
  int rank = 0;
  int ranks = 0;
  bool whole = false;  // everybody sums everything, else each rank its chunk

  std::byte* staged(int other) { return staging.data() + slot(other) * ring; }
  /// Which of the others' rings that of rank `other` is.
  std::size_t slot(int other) const { return static_cast<std::size_t>(other - (other > rank ? 1 : 0)); }
};

/// own[i] = x_0[i] + x_1[i] + ... for i in [first, last), left to right like a serial loop.
template <class T>
void sum_in_rank_order(Reduction const& r, std::size_t first, std::size_t last) {
  constexpr std::size_t block = 1024;
  T sum[block];
  T* const own = reinterpret_cast<T*>(r.own);
  T const* const staged = reinterpret_cast<T const*>(r.staging.data());
  std::size_t const ring = r.ring / sizeof(T);
  for (std::size_t at = first, n; at < last; at += n) {
    std::size_t const place = at % ring;
    n = std::min({block, last - at, ring - place});
    auto const term = [&](int j) { return j == r.rank ? own + at : staged + r.slot(j) * ring + place; };
    T const* x = term(0);
    for (int j = 1; j < r.ranks; ++j) {
      T const* const y = term(j);
      for (std::size_t i = 0; i < n; ++i) sum[i] = x[i] + y[i];
      x = sum;
    }
    std::copy_n(sum, n, own + at);
  }
}

/// What a ticket waits for. A sum over p ranks has groups of p-1 transfers: values out, values in; and if
/// each rank sums a chunk: sums out, sums in.
struct TcpOperation {
  char const* name = "";
  std::vector<Transfer> transfers;
  std::size_t open = 0;  // transfers that have not finished
  Failure failure;
  Reduction reduction;
  std::vector<TcpOperation*>* changed = nullptr;  // where it enters itself when something happened to it
  bool entered = false;
  bool cancelled = false;
  bool reported = false;   // those who wait have been woken
  std::size_t active = 0;  // its place among those in flight

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
    if (done()) return;
    failure = why;
    enter();
  }

  void finish(Transfer& transfer) {
    transfer.finished = true;
    if (--open == 0) enter();
  }

  /// Called when more of a transfer has been sent or has arrived: adds what can be added, and lets go and lets
  /// come what that allows. Nobody sends more than a window ahead of what has come back from the receiver,
  /// so that rings never overflow; what is overwritten by the sum has been sent.
  void advance() {
    Reduction& r = reduction;
    if (r.sum == nullptr || cancelled) return;
    std::size_t const others = static_cast<std::size_t>(r.ranks - 1);
    Transfer* const out = transfers.data();
    Transfer* const in = out + others;
    std::size_t ready = r.count * r.element;
    for (std::size_t k = 0; k < others; ++k)
      ready = std::min(ready, r.whole ? std::min(in[k].moved, out[k].moved) : in[k].moved);
    ready /= r.element;
    if (ready > r.summed) r.sum(r, r.summed, ready);
    r.summed = ready;
    Transfer* const back = r.whole ? out : in + others;  // what tells the others that they may go on
    Transfer* const news = r.whole ? in : back + others;
    for (std::size_t k = 0; k < others; ++k) {
      if (!r.whole) {
        back[k].available = ready * r.element;
        news[k].available = out[k].moved;
      }
      in[k].available = std::min(in[k].size, back[k].moved + r.ring);
      out[k].available = std::min(out[k].size, news[k].moved + r.window);
    }
    enter();
  }

 private:
  void enter() {
    if (!std::exchange(entered, true)) changed->push_back(this);
  }
};

}  // namespace elastic::transport::detail
