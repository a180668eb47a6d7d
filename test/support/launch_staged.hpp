// SPDX-License-Identifier: Apache-2.0
// Stands for a transport of host memory whose every value makes the way over a device: what is sent is uploaded
// first, and downloaded where it arrives. So Staged has to keep the promises of every transport.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "elastic/transport/staged.hpp"
#include "support/launch.hpp"

namespace support {

template <class Net, class Dev>
class ThroughDevice {
 public:
  static constexpr std::string_view name = Net::name;
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, elastic::memory::Host>;

  explicit ThroughDevice(Net& net) : net_(net), staged_(net, device_, {.piece_bytes = 4096 * 64}) {}

  int rank() const { return net_.rank(); }
  int size() const { return net_.size(); }
  elastic::Traffic traffic() const { return net_.traffic(); }
  auto timeout() const { return net_.timeout(); }
  void abort(std::string_view why) { staged_.abort(why); }
  void team(int ranks) { staged_.team(ranks); }
  void barrier() { staged_.barrier(); }
  auto probe() { return staged_.probe(); }
  auto wait_message() { return staged_.wait_message(); }

  /// Owns the memory on the device, and brings it home when the work is done.
  template <class T, class Inner>
  class Ticket {
   public:
    using Buffer = typename Dev::template Buffer<std::remove_const_t<T>>;
    Ticket(Dev& device, Buffer buffer, std::optional<elastic::Span<T>> home, Inner inner)
        : device_(&device), buffer_(std::move(buffer)), home_(home), inner_(std::move(inner)) {}
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&&) noexcept = default;
    void wait() {
      inner_->wait();
      if constexpr (!std::is_const_v<T>)
        if (home_) device_->download(elastic::read(buffer_->span()), *home_);
      home_.reset();
    }
    bool done() { return inner_->done(); }

   private:
    Dev* device_;
    std::optional<Buffer> buffer_;
    std::optional<elastic::Span<T>> home_;
    std::optional<Inner> inner_;
  };

  template <class T>
  auto start_send(elastic::Span<T> x, int peer, int tag) {
    auto buffer = up(x);
    auto inner = staged_.start_send(elastic::read(buffer.span()), peer, tag);
    return Ticket<T, decltype(inner)>(device_, std::move(buffer), std::nullopt, std::move(inner));
  }
  template <class T>
  void send(elastic::Span<T> x, int peer, int tag) {
    start_send(x, peer, tag).wait();
  }
  template <class T>
  auto start_receive(elastic::Span<T> x, int peer, int tag) {
    auto buffer = device_.template allocate<T>(x.size());
    auto inner = staged_.start_receive(buffer.span(), peer, tag);
    return Ticket<T, decltype(inner)>(device_, std::move(buffer), x, std::move(inner));
  }
  template <class T>
  void receive(elastic::Span<T> x, int peer, int tag) {
    start_receive(x, peer, tag).wait();
  }
  template <class T>
  auto start_all_reduce(elastic::Span<T> x) {
    auto buffer = up(x);
    auto inner = staged_.start_all_reduce(buffer.span());
    return Ticket<T, decltype(inner)>(device_, std::move(buffer), x, std::move(inner));
  }
  template <class T>
  void all_reduce(elastic::Span<T> x) {
    start_all_reduce(x).wait();
  }
  template <class T>
  void broadcast(elastic::Span<T> x, int root) {
    auto buffer = up(x);
    staged_.broadcast(buffer.span(), root);
    device_.download(elastic::read(buffer.span()), x);
  }

 private:
  template <class T>
  auto up(elastic::Span<T> x) {
    using Value = std::remove_const_t<T>;
    auto buffer = device_.template allocate<Value>(x.size());
    device_.upload(elastic::Span<Value const>(x.data(), x.size()), buffer.span());
    return buffer;
  }

  Net& net_;
  Dev device_;
  elastic::transport::Staged<Net, Dev> staged_;
};

template <class Net, class Dev>
struct Launch<ThroughDevice<Net, Dev>> : Launch<Net> {
  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return Launch<Net>::run(
        n,
        [&](Net& net) {
          ThroughDevice<Net, Dev> through(net);
          return body(through);
        },
        timeout);
  }
};

}  // namespace support
