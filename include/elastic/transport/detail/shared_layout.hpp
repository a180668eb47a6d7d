// SPDX-License-Identifier: Apache-2.0
// What lies where in the segment of a shared-memory job. Nothing is constructed there: a fresh segment is
// zeros, which is the first value of every counter. Counters only grow; each is written by one rank.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "elastic/transport/detail/shared_object.hpp"

namespace elastic::transport::detail {

inline constexpr std::size_t cache_line = 64;

/// How large the parts of a segment are.
struct Geometry {
  static constexpr std::size_t slots = 4;   // a ring: larger than L2 and smaller than L3 with 512 KiB each
  static constexpr std::size_t stages = 4;  // pieces of an all-reduce in flight

  std::size_t size = 0;         // ranks
  std::size_t slot_bytes = 0;   // one slot of the ring from one rank to another
  std::size_t stage_bytes = 0;  // one piece of a collective
  std::size_t heap_bytes = 0;   // address space of one rank's heap

  /// The largest slots and stages, at most 512 KiB and at least 4 KiB each, whose sum over all ranks
  /// and pairs stays within `memory` bytes (half for each).
  static Geometry fit(std::size_t size, std::size_t memory) {
    Geometry g{size, 512 * 1024, 512 * 1024, 0};
    while (g.slot_bytes > 4096 && size * (size - 1) * slots * g.slot_bytes > memory / 2) g.slot_bytes /= 2;
    while (g.stage_bytes > 4096 && size * stages * g.stage_bytes > memory / 2) g.stage_bytes /= 2;
    return g;
  }
};

/// The start of a message; a short one is all here.
struct alignas(cache_line) Head {
  std::atomic<std::uint64_t> stamp;  // the number of the message, counted from 1, once the rest is written
  std::uint64_t bytes;
  std::int32_t tag;
  static constexpr std::size_t inline_bytes = 232;
  std::array<std::byte, inline_bytes> payload;
};
static_assert(sizeof(Head) == 256);

/// One ordered pair of ranks: the heads of all messages in order, and the payload of long ones in the slots.
struct Link {
  static constexpr std::size_t heads = 32;
  alignas(cache_line) std::atomic<std::uint64_t> heads_read;     // by the receiver
  alignas(cache_line) std::atomic<std::uint64_t> slots_filled;   // by the sender
  alignas(cache_line) std::atomic<std::uint64_t> slots_drained;  // by the receiver
  std::array<Head, heads> head;
};

/// What one rank brings to a small collective. Two take turns: who publishes number k + 1 has read every cell
/// of number k, so a cell of number k may be written again for k + 2.
struct alignas(2 * cache_line) Cell {
  static constexpr std::size_t bytes = 4096;
  std::atomic<std::uint64_t> stamp;  // the number of the collective, counted from 1, once the rest is written
  std::uint64_t shape;
  std::array<std::byte, bytes> payload;  // the first 48 bytes arrive with the stamp
};

/// What one rank brings to a large collective, and how far it is with a sum in place.
struct Offer {
  alignas(cache_line) std::atomic<std::uint64_t> number;  // of the collective, once the rest is written
  std::uint64_t shape;
  std::uint64_t place;              // of its values in the object; 0 if they are in private memory
  std::uint64_t into;               // of what the sum is added to; 0 if it takes the values' place
  std::atomic<std::uint64_t> done;  // blocks it has summed, of any rank's share
  std::atomic<std::uint32_t> busy;  // it is summing one
  alignas(cache_line) std::atomic<std::uint64_t> taken;  // blocks of its share that somebody has begun
};

/// How far the collectives of a rank have come.
struct Counts {
  std::uint64_t small = 0;
  std::uint64_t large = 0;
  std::uint64_t pieces = 0;
};

/// One rank, as the others see it.
struct Member {
  enum State : std::uint32_t { absent, arriving, joined, left, failed };
  static constexpr std::size_t offers = 8;  // large collectives in flight

  alignas(cache_line) std::atomic<std::uint32_t> state;
  ProcessId process;                  // valid from `joined` on
  std::atomic<std::uint32_t> epoch;   // elastic jobs: processes that have had this place, this one included
  std::atomic<std::uint32_t> fallen;  // those of them that ended without leaving, before this one
  alignas(cache_line) std::atomic<std::uint32_t> asleep;
  std::atomic<std::uint32_t> bell;  // what the rank sleeps on
  alignas(cache_line) std::atomic<std::uint64_t> staged;
  std::atomic<std::uint64_t> summed;
  std::atomic<std::uint64_t> collected;
  alignas(cache_line) std::atomic<std::uint64_t> finished;  // large collectives
  std::atomic<std::uint32_t> gave_up;                       // on a collective: no later one can work
  std::atomic<std::uint64_t> regrouped;
  Counts counts;  // valid at a change of team
  std::array<Cell, 2> cell;
  std::array<Offer, offers> offer;
};

/// The start of the segment; the members follow it, so it is as long as their alignment asks.
struct alignas(Member) JobHeader : Owned {
  static constexpr std::uint32_t current_version = 3;
  enum Phase : std::uint32_t { being_made, forming, running };
  enum Abort : std::uint32_t { none, being_written, aborted };

  std::uint32_t version;
  std::uint32_t elastic;  // ranks may come after the others
  Geometry geometry;
  alignas(cache_line) std::atomic<std::uint32_t> phase;
  alignas(cache_line) std::atomic<std::uint32_t> abort;
  std::int32_t abort_rank;
  std::array<char, 512> abort_reason;
};

/// Finds the parts of a mapped segment.
class Layout {
 public:
  explicit Layout(Geometry const& g)
      : geometry_(g),
        links_(sizeof(JobHeader) + g.size * sizeof(Member)),
        stages_(round_up(links_ + g.size * g.size * sizeof(Link))),
        slots_(stages_ + g.size * Geometry::stages * g.stage_bytes),
        total_(slots_ + g.size * (g.size - 1) * Geometry::slots * g.slot_bytes),
        heaps_(round_up(total_, huge_page)) {}

  Geometry const& geometry() const { return geometry_; }
  /// Bytes of the segment, which has pages from the beginning.
  std::size_t total() const { return total_; }
  /// Bytes of the object: the segment, then a heap for each rank.
  std::size_t with_heaps() const { return heaps_ + geometry_.size * geometry_.heap_bytes; }
  std::size_t heap(int rank) const { return heaps_ + at(rank) * geometry_.heap_bytes; }

  static JobHeader& header(std::byte* base) { return *reinterpret_cast<JobHeader*>(base); }
  Member& member(std::byte* base, int rank) const {
    return reinterpret_cast<Member*>(base + sizeof(JobHeader))[rank];
  }
  Link& link(std::byte* base, int from, int to) const {
    return reinterpret_cast<Link*>(base + links_)[at(from) * geometry_.size + at(to)];
  }
  std::byte* stage(std::byte* base, int rank, std::uint64_t piece) const {
    return base + stages_ + (at(rank) * Geometry::stages + piece % Geometry::stages) * geometry_.stage_bytes;
  }
  std::byte* slot(std::byte* base, int from, int to, std::uint64_t number) const {
    std::size_t const pair = at(from) * (geometry_.size - 1) + at(to) - (to > from ? 1 : 0);
    return base + slots_ + (pair * Geometry::slots + number % Geometry::slots) * geometry_.slot_bytes;
  }

 private:
  static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }
  static std::size_t round_up(std::size_t bytes, std::size_t unit = 4096) {
    return (bytes + unit - 1) / unit * unit;
  }

  Geometry geometry_;
  std::size_t links_;
  std::size_t stages_;
  std::size_t slots_;
  std::size_t total_;
  std::size_t heaps_;
};

}  // namespace elastic::transport::detail
