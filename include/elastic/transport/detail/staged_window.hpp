// SPDX-License-Identifier: Apache-2.0
// A window for devices: host memory that they read and write in place, or memory of one device that the others open.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"

namespace elastic::transport::detail {

/// A device whose memory the devices of other ranks can open.
template <class Dev>
concept SharesMemory = OwnMemory<Dev> && requires(Dev& dev, std::size_t n) {
  { dev.template share<float>(n).span() } -> std::same_as<Span<float, typename Dev::memory>>;
  dev.template open<float>(dev.template share<float>(n).handle(), n);
};

/// Begins with the handle of `Net`, and is zeros after it where the values are in its windows.
template <class Net, class Dev>
struct StagedWindowHandle {
  typename Net::WindowHandle host;  // of the values, or of the locks only
  typename Dev::Handle device;
  std::uint64_t size_on_device;
  std::uint64_t on_device;
};

/// `Net` has windows in host memory, which bring the locks.
template <class T, Windowed Net, SharesMemory Dev>
class StagedWindow {
 public:
  using There = Span<T, typename Dev::memory>;
  using Handle = StagedWindowHandle<Net, Dev>;

  class [[nodiscard]] Guard {
   public:
    There span() const { return span_; }

   private:
    friend StagedWindow;
    using Lock = decltype(std::declval<typename Net::template Window<T> const&>().lock(0));
    Guard(Lock lock, There span) : lock_(std::move(lock)), span_(span) {}
    Lock lock_;
    There span_;
  };

  /// `n` zeros.
  static StagedWindow make(Net& net, Dev& device, std::size_t n, bool on_device) {
    if (!on_device) return StagedWindow(device, net.template make_window<T>(n), n);
    constexpr std::size_t locks = 16, lock_values = locks * 4096 / sizeof(T);
    return StagedWindow(net.template make_window<T>(lock_values), device.template share<T>(n), n);
  }
  static StagedWindow open(Net& net, Dev& device, Handle const& handle) {
    auto host = net.template open_window<T>(handle.host);
    if (handle.on_device == 0) {
      std::size_t const n = host.size();
      return StagedWindow(device, std::move(host), n);
    }
    std::size_t const n = handle.size_on_device;
    return StagedWindow(std::move(host), device.template open<T>(handle.device, n), n);
  }

  Handle handle() const {
    if (!shared_) return {host_.handle(), {}, 0, 0};
    return {host_.handle(), shared_->handle(), size_, 1};
  }
  std::size_t size() const { return size_; }
  std::size_t stripes() const { return shared_ ? (size_ + length_ - 1) / length_ : host_.stripes(); }
  std::size_t first(std::size_t k) const { return shared_ ? k * length_ : host_.first(k); }
  There stripe(std::size_t k) const {
    std::size_t const begin = first(k), end = k + 1 < stripes() ? first(k + 1) : size_;
    return whole().part(begin, end - begin);
  }
  Guard lock(std::size_t k) const { return {host_.lock(k), stripe(k)}; }
  std::optional<Guard> try_lock(std::size_t k) const {
    auto held = host_.try_lock(k);
    if (!held) return std::nullopt;
    return Guard(std::move(*held), stripe(k));
  }

 private:
  using Host = typename Net::template Window<T>;
  using Mapped = decltype(std::declval<Dev&>().map(Span<T>()));
  using Shared = decltype(std::declval<Dev&>().template share<T>(1));

  StagedWindow(Dev& device, Host host, std::size_t n) : size_(n), host_(std::move(host)) {
    if (n > 0) mapped_.emplace(device.map(Span<T>(host_.stripe(0).data(), n)));
  }
  /// A stripe for each lock, of whole blocks of an exchange.
  StagedWindow(Host locks, Shared shared, std::size_t n)
      : size_(n), host_(std::move(locks)), shared_(std::move(shared)) {
    std::size_t const share = (n + host_.stripes() - 1) / host_.stripes();
    length_ = std::max<std::size_t>(1, (share + exchange_block - 1) / exchange_block) * exchange_block;
  }
  There whole() const { return shared_ ? shared_->span() : mapped_ ? mapped_->span() : There(); }

  std::size_t size_;
  std::size_t length_ = 0;
  Host host_;
  std::optional<Mapped> mapped_;  // after the memory it maps
  std::optional<Shared> shared_;
};

/// What a wrapper of `Net` offers as windows: nothing where Net has none.
template <class Net, class Dev>
struct WindowOf {
  struct Handle {};
  template <class T>
  using type = Handle;
};
template <Windowed Net, SharesMemory Dev>
struct WindowOf<Net, Dev> {
  using Handle = StagedWindowHandle<Net, Dev>;
  template <class T>
  using type = StagedWindow<T, Net, Dev>;
};

}  // namespace elastic::transport::detail
