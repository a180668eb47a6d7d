// SPDX-License-Identifier: Apache-2.0
// The exchange where all ranks see one memory: the center lies there, and a worker moves itself and the center
// in one pass, stripe by stripe, without a server in between.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"
#include "elastic/window.hpp"

namespace elastic {

/// Whether rules exchange through a window of this transport.
template <class Net, class Dev>
inline constexpr bool shares_center = Windowed<Net, typename Dev::memory>;

/// The transport that carries messages of host memory: `net`, or the one that it wraps.
template <class Net>
auto& host_transport(Net& net) {
  if constexpr (requires { net.host_transport(); })
    return net.host_transport();
  else
    return net;
}

template <class Net, class Dev, class T>
class CenterWindow {
 public:
  using View = Span<T, typename Dev::memory>;
  /// What lies beside the center, under a lock of its own.
  enum Word : std::size_t { version, stop, words };

  /// The server: makes the memory and puts `center` there, which has seen `exchanges`.
  CenterWindow(Net& net, Dev& device, View center, std::uint64_t exchanges)
      : net_(net),
        device_(device),
        center_(net.template make_window<T>(center.size())),
        words_(host_transport(net).template make_window<std::uint64_t>(words)) {
    pass(0, 1, [&](View c, std::size_t first) { device_.copy(read(center.part(first, c.size())), c); });
    words_.lock(0).span()[version] = exchanges;
  }
  /// A worker: finds it.
  CenterWindow(Net& net, Dev& device, Welcome const& welcome, std::size_t size)
      : net_(net),
        device_(device),
        center_(net.template open_window<T>(handles_in(welcome).center)),
        words_(host_transport(net).template open_window<std::uint64_t>(handles_in(welcome).words)) {
    if (center_.size() != size)
      throw ConfigError(
          "the server's center is in the memory of its device, which this rank has no way to; train "
          "with center_on_device = never, or on a device of the same host");
  }

  /// Tells a worker where to find it.
  void announce(Welcome& welcome) const {
    Handles const handles{words_.handle(), center_.handle()};
    static_assert(sizeof handles <= sizeof welcome.window && std::is_trivially_copyable_v<Handles>);
    std::memcpy(welcome.window.data(), &handles, sizeof handles);
  }

  struct Exchanged {
    Status status;
    std::uint32_t refused = 0;  // blocks that the center did not take
  };

  /// Device::exchange of x and the center, under the lock of each stripe, so that no exchange is lost.
  template <class Move, class Add>
  Exchanged exchange(Move move, Add add, View x, View deltas, double limit) {
    Exchanged result{};
    pass(net_.rank(), net_.size(), [&](View c, std::size_t first) {
      device_.exchange(move, add, x.part(first, c.size()), c,
                       deltas.empty() ? deltas : deltas.part(first, c.size()), limit);
    });
    result.refused = device_.refused();
    auto const told = words_.lock(0);
    result.status = {++told.span()[version], told.span()[stop]};
    return result;
  }

  /// Copies the center as it is, each stripe at once, and returns how many exchanges it has seen at least.
  std::uint64_t snapshot(View to) {
    std::uint64_t const seen = words_.lock(0).span()[version];
    pass(0, 1, [&](View c, std::size_t first) { device_.copy(read(c), to.part(first, c.size())); });
    return seen;
  }

  void ask_to_stop() { words_.lock(0).span()[stop] = 1; }

 private:
  using Host = std::remove_reference_t<decltype(host_transport(std::declval<Net&>()))>;
  struct
      Handles {  // a wrapper's handle begins with that of the transport below: CPUs and devices share a center
    typename Host::WindowHandle words;
    typename Net::WindowHandle center;
  };
  static Handles handles_in(Welcome const& welcome) {
    Handles handles;
    std::memcpy(&handles, welcome.window.data(), sizeof handles);
    return handles;
  }

  template <class F>
  void pass(int part, int parts, F f) {
    if constexpr (OwnMemory<Dev>) {
      constexpr std::size_t run = (std::size_t(4) << 20) / sizeof(T);  // long enough to keep a device busy
      for_each_run(center_, part, parts, run, f, [&] { return device_.mark(); });
    } else {
      for_each_stripe(center_, part, parts, f);
    }
  }

  Net& net_;
  Dev& device_;
  typename Net::template Window<T> center_;
  typename Host::template Window<std::uint64_t> words_;
};

}  // namespace elastic
