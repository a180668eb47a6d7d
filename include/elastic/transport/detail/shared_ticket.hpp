// SPDX-License-Identifier: Apache-2.0
// Who holds an operation of a shared-memory endpoint while it is in flight.
#pragma once

#include <exception>
#include <memory>
#include <utility>

namespace elastic::transport::detail {

/// An operation in flight. Destroying it waits, unless an exception is on its way: then the operation is
/// given up, which may end the exchange with that peer.
template <class Net, class Operation>
class [[nodiscard]] SharedTicket {
 public:
  SharedTicket(SharedTicket&&) noexcept = default;
  SharedTicket& operator=(SharedTicket&& other) noexcept {
    settle();
    net_ = other.net_;
    operation_ = std::move(other.operation_);
    return *this;
  }
  ~SharedTicket() { settle(); }

  /// Returns when the buffer may be touched again. Throws ProtocolError, PeerLost, Aborted or Timeout; the
  /// operation is then given up.
  void wait() {
    if (!operation_) return;
    try {
      net_->complete(*operation_);
    } catch (...) {
      forget();
      throw;
    }
    operation_.reset();
  }
  /// Moves what can be moved. Also true when wait() would throw at once.
  bool done() { return !operation_ || net_->settled(*operation_); }

 private:
  friend Net;
  SharedTicket(Net& net, Operation operation)
      : net_(&net), operation_(std::make_unique<Operation>(operation)) {
    net_->start(*operation_);
  }
  void forget() {
    net_->cancel(*operation_);
    operation_.reset();
  }
  void settle() noexcept {
    if (!operation_) return;
    if (std::uncaught_exceptions() > exceptions_) return forget();
    try {
      wait();
    } catch (...) {  // the next call that needs this peer says it again
    }
  }

  Net* net_;
  std::unique_ptr<Operation> operation_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace elastic::transport::detail
