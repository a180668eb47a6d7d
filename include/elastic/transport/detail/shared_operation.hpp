// SPDX-License-Identifier: Apache-2.0
// A collective of a shared-memory job in flight, as its rank sees it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/shared_layout.hpp"
#include "elastic/transport/detail/shared_sum.hpp"

namespace elastic::transport::detail {

/// One collective operation in flight.
struct Collective {
  enum Kind { barrier, broadcast, sum };
  /// How a large one goes: through the stages, or on the ranks' buffers where they are.
  enum Path { undecided, staged_path, resident_path };
  using Sum = void (*)(Terms const&, std::size_t);
  using AddSum = void (*)(Terms const&, double gain, std::size_t);

  template <class T>
  static Collective sum_of(T* data, std::size_t n) {
    return {sum, reinterpret_cast<std::byte*>(data), n, sizeof(T), 0, &sum_in_order<T>};
  }
  /// into += gain * sum of all ranks' data, which stays.
  template <class T>
  static Collective adding_sum_of(T* data, std::size_t n, T* into, double gain) {
    Collective c = sum_of(data, n);
    c.into = reinterpret_cast<std::byte*>(into);
    c.gain = gain;
    c.add_into = &add_sum_in_order<T>;
    return c;
  }

  Kind kind = barrier;
  std::byte* data = nullptr;
  std::size_t n = 0;      // values
  std::size_t width = 1;  // bytes of one
  int root = 0;
  Sum add = nullptr;
  std::byte* into = nullptr;  // what a sum is added to, where it does not take its terms' place
  double gain = 1;
  AddSum add_into = nullptr;
  std::vector<std::byte> apart{};  // a copy of the terms, where only their place can be summed in
  std::uint64_t number = 0;        // among the small or the large ones, once it has begun
  Path path = undecided;
  std::size_t share = 0;   // bytes that each rank sums, on the resident path
  std::size_t staged = 0;  // pieces that have passed each phase here
  std::size_t summed = 0;
  std::size_t collected = 0;
  bool finished = false;

  std::size_t bytes() const { return n * width; }
  /// Small ones are added by every rank for itself: one exchange instead of two.
  bool small() const { return kind == barrier || (kind == sum && bytes() <= Cell::bytes); }
  /// Sums in a copy from now on, which complete() adds.
  void set_apart() {
    apart.assign(data, data + bytes());
    data = apart.data();
  }
  void complete() {
    if (apart.empty()) return;
    add_into({{data}, {into}}, gain, n);
    apart.clear();
  }
  /// What every rank must agree on.
  std::uint64_t shape() const {
    return bytes() * 4 + (kind == barrier ? 0 : kind == broadcast ? 1 : width == 4 ? 2 : 3);
  }
  static std::uint64_t bytes_of(std::uint64_t shape) { return shape / 4; }
};

/// The others' part in a collective is not mine.
[[noreturn]] inline void throw_other_shape(int rank, std::uint64_t theirs, Collective const& mine) {
  throw ProtocolError(rank, "", "collective", std::chrono::seconds(0),
                      "it takes part in another operation or with another size (" +
                          std::to_string(Collective::bytes_of(theirs)) + " bytes, here " +
                          std::to_string(mine.bytes()) + ")");
}

}  // namespace elastic::transport::detail
