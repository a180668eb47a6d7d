// SPDX-License-Identifier: Apache-2.0
// The exchange where all ranks see one memory: the center lies there, and a worker moves itself and the center
// in one pass, stripe by stripe, without a server in between.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "elastic/concepts.hpp"
#include "elastic/role.hpp"
#include "elastic/window.hpp"

namespace elastic {

/// Whether rules exchange through a window of this transport.
template <class Net, class Dev>
inline constexpr bool shares_center = Windowed<Net>&& std::is_same_v<typename Dev::memory, memory::Host>;

template <class Net, class T>
class CenterWindow {
 public:
  /// What lies beside the center, under a lock of its own.
  enum Word : std::size_t { version, stop, words };

  /// The server: makes the memory and puts `center` there, which has seen `exchanges`.
  CenterWindow(Net& net, Span<T const> center, std::uint64_t exchanges)
      : net_(net),
        center_(net.template make_window<T>(center.size())),
        words_(net.template make_window<std::uint64_t>(words)) {
    for_each_stripe(center_, 0, 1, [&](Span<T> c, std::size_t first) {
      std::copy_n(center.data() + first, c.size(), c.data());
    });
    words_.lock(0).span()[version] = exchanges;
  }
  /// A worker: finds it.
  CenterWindow(Net& net, Welcome const& welcome)
      : net_(net),
        center_(net.template open_window<T>(handles_in(welcome).center)),
        words_(net.template open_window<std::uint64_t>(handles_in(welcome).words)) {}

  /// Tells a worker where to find it.
  void announce(Welcome& welcome) const {
    Handles const handles{center_.handle(), words_.handle()};
    static_assert(sizeof handles <= sizeof welcome.window && std::is_trivially_copyable_v<Handles>);
    std::memcpy(welcome.window.data(), &handles, sizeof handles);
  }

  struct Exchanged {
    Status status;
    std::uint32_t refused = 0;  // blocks that the center did not take
  };

  /// For every element: move(d, x, c), then add(c, d), both under the lock of its stripe, so that no exchange
  /// is lost. Blocks of d with an element that is not finite or beyond `limit` are not added. Writes d to
  /// `deltas` unless that is empty.
  template <class Move, class Add>
  Exchanged exchange(Move move, Add add, Span<T> x, Span<T> deltas, double limit) {
    Exchanged result{};
    for_each_stripe(center_, net_.rank(), net_.size(), [&](Span<T> c, std::size_t first) {
      result.refused += pass(move, add, x.part(first, c.size()), c,
                             deltas.empty() ? deltas : deltas.part(first, c.size()), limit);
    });
    auto const told = words_.lock(0);
    result.status = {++told.span()[version], told.span()[stop]};
    return result;
  }

  /// Copies the center as it is, each stripe at once, and returns how many exchanges it has seen at least.
  std::uint64_t snapshot(Span<T> to) {
    std::uint64_t const seen = words_.lock(0).span()[version];
    for_each_stripe(center_, 0, 1, [&](Span<T> c, std::size_t first) {
      std::copy_n(c.data(), c.size(), to.data() + first);
    });
    return seen;
  }

  void ask_to_stop() { words_.lock(0).span()[stop] = 1; }

 private:
  struct Handles {
    typename Net::WindowHandle center, words;
  };
  static Handles handles_in(Welcome const& welcome) {
    Handles handles;
    std::memcpy(&handles, welcome.window.data(), sizeof handles);
    return handles;
  }

  template <class Move, class Add>
  std::uint32_t pass(Move move, Add add, Span<T> x, Span<T> c, Span<T> deltas, double limit) {
    constexpr std::size_t block = 1024;  // deltas stay in L1 between the check and the sum
    std::array<T, block> d;
    std::uint32_t refused = 0;
    for (std::size_t first = 0; first < c.size(); first += block) {
      std::size_t const n = std::min(block, c.size() - first);
      T* const xs = x.data() + first;
      T* const cs = c.data() + first;
      for (std::size_t i = 0; i < n; ++i) move(d[i], xs[i], cs[i]);
      if (!within(d.data(), n, limit)) {
        ++refused;
      } else {
        for (std::size_t i = 0; i < n; ++i) add(cs[i], d[i]);
      }
      if (!deltas.empty()) std::copy_n(d.data(), n, deltas.data() + first);
    }
    return refused;
  }
  static bool within(T const* d, std::size_t n, double limit) {
    T const most = static_cast<T>(limit);
    int good = 1;
    for (std::size_t i = 0; i < n; ++i) good &= int(d[i] <= most) & int(d[i] >= -most);
    return good != 0;
  }

  Net& net_;
  typename Net::template Window<T> center_;
  typename Net::template Window<std::uint64_t> words_;
};

}  // namespace elastic
