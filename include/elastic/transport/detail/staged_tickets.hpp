// SPDX-License-Identifier: Apache-2.0
// What travels between a device and a transport that reaches only the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <exception>
#include <optional>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/transport/detail/host_pool.hpp"

namespace elastic::transport::detail {

/// A message on its way out: the copy of it on the host, and the transport's ticket.
template <class Dev, class Inner>
class StagedSend {
 public:
  StagedSend(typename HostPool<Dev>::Lease lease, Inner inner)
      : lease_(std::move(lease)), inner_(std::move(inner)) {}
  void wait() { inner_.wait(); }
  bool done() { return inner_.done(); }

 private:
  typename HostPool<Dev>::Lease lease_;  // outlives what is sent from it
  Inner inner_;
};

/// A message on its way in, which wait() hands on to the device.
template <class Dev, class T, class Inner>
class StagedReceive {
 public:
  using There = Span<T, typename Dev::memory>;
  StagedReceive(Dev& device, typename HostPool<Dev>::Lease lease, Inner inner, There to)
      : device_(&device), lease_(std::move(lease)), inner_(std::move(inner)), to_(to) {}
  StagedReceive(StagedReceive&& other) noexcept
      : device_(other.device_),
        lease_(std::move(other.lease_)),
        inner_(std::move(other.inner_)),
        pending_(std::exchange(other.pending_, false)),
        to_(other.to_) {}
  StagedReceive& operator=(StagedReceive&& other) noexcept {
    StagedReceive const finished(std::move(*this));
    device_ = other.device_;
    lease_ = std::move(other.lease_);
    inner_ = std::move(other.inner_);
    pending_ = std::exchange(other.pending_, false);
    to_ = other.to_;
    return *this;
  }
  ~StagedReceive() {
    try {
      if (std::uncaught_exceptions() == exceptions_) wait();
    } catch (...) {  // the wait that mattered was the caller's
    }
  }
  void wait() {
    if (!std::exchange(pending_, false)) return;
    inner_.wait();
    if (lease_) lease_.busy_until(device_->start_upload(read(lease_.template as<T>(to_.size())), to_));
    lease_ = {};
  }
  bool done() { return !pending_ || inner_.done(); }

 private:
  Dev* device_;
  typename HostPool<Dev>::Lease lease_;
  Inner inner_;
  bool pending_ = true;
  There to_;
  int exceptions_ = std::uncaught_exceptions();
};

/// A sum on its way: pieces come down from the device, are summed a few at a time, and go up again.
template <class Dev, class T, class Net>
class StagedSum {
 public:
  using There = Span<T, typename Dev::memory>;

  /// Begins all downloads, in pieces of `each` values.
  StagedSum(Net& net, Dev& device, HostPool<Dev>& pool, There x, std::size_t each)
      : net_(&net), device_(&device) {
    std::size_t first = 0;
    do {
      There const part = x.part(first, std::min(each, x.size() - first));
      auto lease = pool.take(part.size() * sizeof(T));
      auto copy = device.start_download(read(part), lease.template as<T>(part.size()));
      pieces_.push_back({std::move(lease), std::move(copy), part, std::nullopt});
      first += part.size();
    } while (first < x.size());
  }
  StagedSum(StagedSum&& other) noexcept
      : net_(other.net_), device_(other.device_), pieces_(std::exchange(other.pieces_, {})) {}
  StagedSum& operator=(StagedSum&& other) noexcept {
    StagedSum const finished(std::move(*this));
    net_ = other.net_;
    device_ = other.device_;
    pieces_ = std::exchange(other.pieces_, {});
    return *this;
  }
  ~StagedSum() {
    try {
      if (std::uncaught_exceptions() == exceptions_) wait();
    } catch (...) {  // the wait that mattered was the caller's
    }
  }
  void wait() {
    while (!pieces_.empty()) {
      start(true);
      finish();
    }
  }
  bool done() {
    start(false);
    while (!pieces_.empty() && pieces_.front().sum && pieces_.front().sum->done()) {
      finish();
      start(false);
    }
    return pieces_.empty();
  }

 private:
  using Inner = decltype(std::declval<Net&>().start_all_reduce(Span<T>()));
  struct Piece {
    typename HostPool<Dev>::Lease lease;
    decltype(std::declval<Dev&>().mark()) copy;
    There part;
    std::optional<Inner> sum;  // last: it is finished before its memory goes
    Span<T> host() const { return lease.template as<T>(part.size()); }
  };

  /// The sums of the first pieces, in order; waits for the download of the very first.
  void start(bool waits) {
    constexpr std::size_t in_flight = 2;
    for (std::size_t k = 0; k < std::min(in_flight, pieces_.size()); ++k) {
      Piece& piece = pieces_[k];
      if (piece.sum) continue;
      if (waits && k == 0) piece.copy.wait();
      if (!piece.copy.done()) return;
      piece.sum.emplace(net_->start_all_reduce(piece.host()));
    }
  }
  void finish() {
    Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    try {
      piece.sum->wait();
    } catch (...) {
      for (Piece& other : pieces_) other.copy.wait();  // they still read x
      pieces_.clear();
      throw;
    }
    piece.lease.busy_until(device_->start_upload(read(piece.host()), piece.part));
  }

  Net* net_;
  Dev* device_;
  std::deque<Piece> pieces_;
  int exceptions_ = std::uncaught_exceptions();
};

/// One of two tickets.
template <class A, class B>
class Either {
 public:
  explicit Either(A a) : a_(std::move(a)) {}
  explicit Either(B b) : b_(std::move(b)) {}
  void wait() { a_ ? a_->wait() : b_->wait(); }
  bool done() { return a_ ? a_->done() : b_->done(); }

 private:
  std::optional<A> a_;
  std::optional<B> b_;
};

}  // namespace elastic::transport::detail
