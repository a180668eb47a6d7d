// SPDX-License-Identifier: Apache-2.0
// Carries the memory of a device over a transport that reaches only the host's. A little long: every call of every
// kind of transport is here twice, for the host's memory and for the device's.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/options.hpp"
#include "elastic/transport/detail/host_pool.hpp"
#include "elastic/transport/detail/sharing_check.hpp"
#include "elastic/transport/detail/staged_tickets.hpp"
#include "elastic/transport/detail/staged_window.hpp"

namespace elastic::transport {

/// Whether something is used: where it works, or whatever happens.
enum class Use { never, where_possible, always };

constexpr auto names(Use) {
  return std::array{std::pair{std::string_view("never"), Use::never},
                    std::pair{std::string_view("auto"), Use::where_possible},
                    std::pair{std::string_view("always"), Use::always}};
}

struct StagedOptions {
  /// Hand device memory to the transport as it is, without a copy on the host: a CUDA-aware MPI takes it.
  Use direct = Use::where_possible;
  /// The center of a rule with a server lies in the memory of the server's device, and the workers' devices change it
  /// there (CUDA IPC): fastest where all ranks are on one host. Checked with data at the start; `auto` goes back to
  /// host memory when the check fails, `always` throws. Not where a rank has no device: all ranks are Staged, with
  /// the same option.
  Use center_on_device = Use::never;
  /// Sums travel in pieces of this many bytes, so that copies run beside the sums; 0: whole. The same on all ranks of
  /// a collective; 0 where some of them are not Staged.
  std::size_t piece_bytes = std::size_t(4) << 20;

  static constexpr auto options = std::tuple{
      Option{"direct", &StagedOptions::direct,
             "hand device memory to MPI as it is: never, auto (if MPI can), always"},
      Option{"center_on_device", &StagedOptions::center_on_device,
             "the center in the server's device memory, through CUDA IPC: never, auto (if a check passes), "
             "always"},
      Option{"piece_bytes", &StagedOptions::piece_bytes, "sums travel in pieces of so many bytes; 0: whole",
             0.0},
  };
};

/// `Net` for one device: host memory as ever, and `Dev`'s memory through pinned copies that run beside the device's
/// work. Models what Net models. Both, and this, outlive what it has started.
template <Transport Net, OwnMemory Dev>
class Staged {
 public:
  static constexpr std::string_view name = Net::name;
  using Memory = typename Dev::memory;
  template <class Other>
  static constexpr bool reaches = std::same_as<Other, Memory> || Net::template reaches<Other>;

  /// Throws ConfigError where `always` asks for what cannot be. With center_on_device every rank takes part in a
  /// check, unless ranks come and go.
  Staged(Net& net, Dev device, StagedOptions const& options = {})
      : net_(net), device_(std::move(device)), options_(options), pool_(device_) {
    direct_ = decide_direct();
    decide_center();
  }
  Staged(Staged const&) = delete;
  Staged& operator=(Staged const&) = delete;

  Net& host_transport() { return net_; }
  /// Whether device memory goes to the transport as it is.
  bool direct() const { return direct_; }
  /// Whether the center lies in device memory, and why not if that was wanted.
  bool center_on_device() const { return center_on_device_; }
  std::string const& why_not() const { return why_not_; }

  int rank() const { return net_.rank(); }
  int size() const { return net_.size(); }
  std::chrono::duration<double> timeout() const { return net_.timeout(); }
  Traffic traffic() const { return net_.traffic(); }
  void abort(std::string_view why) { net_.abort(why); }

  void team(int ranks) requires Collective<Net> { net_.team(ranks); }
  void barrier() requires Collective<Net> { net_.barrier(); }
  template <class T>
  void broadcast(Span<T> x, int root) requires Collective<Net> {
    net_.broadcast(x, root);
  }
  template <class T>
  void all_reduce(Span<T> x) requires Collective<Net> {
    net_.all_reduce(x);
  }
  template <class T>
  [[nodiscard("wait() on it")]] auto start_all_reduce(Span<T> x) requires Collective<Net> {
    return net_.start_all_reduce(x);
  }

  template <class T>
  void broadcast(Span<T, Memory> x, int root) requires Collective<Net> {
    if (direct_) {
      device_.synchronize();
      return net_.broadcast(as_it_is(x), root);
    }
    auto lease = pool_.take(x.size() * sizeof(T));
    auto const host = lease.template as<T>(x.size());
    if (root == rank()) device_.start_download(read(x), host).wait();
    net_.broadcast(host, root);
    if (root != rank()) lease.busy_until(device_.start_upload(read(host), x));
  }
  template <std::floating_point T>
  void all_reduce(Span<T, Memory> x) requires Collective<Net> {
    start_all_reduce(x).wait();
  }
  template <std::floating_point T>
  [[nodiscard("wait() on it")]] auto start_all_reduce(Span<T, Memory> x) requires Collective<Net> {
    using Direct = decltype(net_.start_all_reduce(as_it_is(x)));
    using Sum = detail::StagedSum<Dev, T, Net>;
    if (direct_) {
      device_.synchronize();
      return detail::Either<Direct, Sum>(net_.start_all_reduce(as_it_is(x)));
    }
    std::size_t const each = options_.piece_bytes / sizeof(T);
    return detail::Either<Direct, Sum>(
        Sum(net_, device_, pool_, x, each > 0 ? each : std::max<std::size_t>(x.size(), 1)));
  }

  std::optional<Envelope> probe() requires PointToPoint<Net> { return net_.probe(); }
  Envelope wait_message() requires PointToPoint<Net> { return net_.wait_message(); }
  template <class T>
  void send(Span<T> x, int peer, int tag) requires PointToPoint<Net> {
    net_.send(x, peer, tag);
  }
  template <class T>
  auto start_send(Span<T> x, int peer, int tag) requires PointToPoint<Net> {
    return net_.start_send(x, peer, tag);
  }
  template <class T>
  void receive(Span<T> x, int peer, int tag) requires PointToPoint<Net> {
    net_.receive(x, peer, tag);
  }
  template <class T>
  auto start_receive(Span<T> x, int peer, int tag) requires PointToPoint<Net> {
    return net_.start_receive(x, peer, tag);
  }

  template <class T>
  void send(Span<T, Memory> x, int peer, int tag) requires PointToPoint<Net> {
    start_send(x, peer, tag).wait();
  }
  /// The copy to the host is complete when this returns.
  template <class T>
  auto start_send(Span<T, Memory> x, int peer, int tag) requires PointToPoint<Net> {
    using Value = std::remove_const_t<T>;
    Span<Value const> from(x.data(), x.size());
    typename detail::HostPool<Dev>::Lease lease;
    if (direct_) {
      device_.synchronize();
    } else {
      lease = pool_.take(x.size() * sizeof(T));
      auto const host = lease.template as<Value>(x.size());
      device_.start_download(Span<Value const, Memory>(x.data(), x.size()), host).wait();
      from = read(host);
    }
    auto inner = net_.start_send(from, peer, tag);
    return detail::StagedSend<Dev, decltype(inner)>(std::move(lease), std::move(inner));
  }
  template <class T>
  void receive(Span<T, Memory> x, int peer, int tag) requires PointToPoint<Net> {
    start_receive(x, peer, tag).wait();
  }
  template <class T>
  auto start_receive(Span<T, Memory> x, int peer, int tag) requires PointToPoint<Net> {
    typename detail::HostPool<Dev>::Lease lease;
    Span<T> to = as_it_is(x);
    if (direct_) {
      device_.synchronize();
    } else {
      lease = pool_.take(x.size() * sizeof(T));
      to = lease.template as<T>(x.size());
    }
    auto inner = net_.start_receive(to, peer, tag);
    return detail::StagedReceive<Dev, T, decltype(inner)>(device_, std::move(lease), std::move(inner), x);
  }

  // -- where Net has windows: the center of asynchronous rules
  template <class T>
  using Window = typename detail::WindowOf<Net, Dev>::template type<T>;
  using WindowHandle = typename detail::WindowOf<Net, Dev>::Handle;
  template <class T>
  Window<T> make_window(std::size_t n) requires Windowed<Net> {
    return Window<T>::make(net_, device_, n, center_on_device_);
  }
  template <class T>
  Window<T> open_window(WindowHandle const& handle) requires Windowed<Net> {
    return Window<T>::open(net_, device_, handle);
  }

  // -- where ranks of Net come and go
  bool elastic() const requires requires(Net const& net) { net.elastic(); }
  { return net_.elastic(); }
  void rejoin() requires requires(Net& net) { net.rejoin(); }
  { net_.rejoin(); }

  /// What the ranks of a collective must have in common; nothing where sums travel whole, as on the CPU.
  std::string terms() const {
    bool const whole = direct_ || options_.piece_bytes == 0;
    return whole ? "" : "piece_bytes=" + std::to_string(options_.piece_bytes) + "\n";
  }

 private:
  /// Device memory under the type that the transport asks for; it only passes the address on.
  template <class T>
  static Span<T> as_it_is(Span<T, Memory> x) {
    return {x.data(), x.size()};
  }

  bool decide_direct() const {
    bool possible = false;
    if constexpr (requires { net_.takes_device_memory(); }) possible = net_.takes_device_memory();
    if (options_.direct == Use::always && !possible)
      throw ConfigError("direct = always: this " + std::string(name) +
                        " cannot take device memory; use a CUDA-aware MPI, or direct = auto");
    return possible && options_.direct != Use::never;
  }

  void decide_center() {
    if (options_.center_on_device == Use::never) return;
    bool const always = options_.center_on_device == Use::always;
    if constexpr (Windowed<Net> && Collective<Net> && detail::SharesMemory<Dev>) {
      bool moves = false;
      if constexpr (requires { net_.elastic(); }) moves = net_.elastic();
      if (moves)
        why_not_ = always ? "" : "ranks come and go, so that not all can be asked at the start";
      else
        why_not_ = detail::why_not_shared(net_, device_);
    } else {
      why_not_ = std::string(name) + " has no memory that all ranks see";
    }
    if (always && !why_not_.empty()) throw ConfigError("center_on_device = always: " + why_not_);
    center_on_device_ = why_not_.empty();
  }

  Net& net_;
  Dev device_;
  StagedOptions options_;
  detail::HostPool<Dev> pool_;
  bool direct_ = false;
  bool center_on_device_ = false;
  std::string why_not_;
};

}  // namespace elastic::transport
