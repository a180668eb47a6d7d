// SPDX-License-Identifier: Apache-2.0
// A transport that loses or repeats one message, to see what the protocol makes of it.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "elastic/concepts.hpp"

namespace support {

enum class Fault { none, drop, repeat };

/// Net, but for the `nth` message (from 0) with tag `tag` that this rank sends.
template <class Net>
class Faulty {
 public:
  static constexpr std::string_view name = Net::name;
  template <class Memory>
  static constexpr bool reaches = Net::template reaches<Memory>;

  Faulty(Net& net, Fault fault, int tag, long nth) : net_(net), fault_(fault), tag_(tag), nth_(nth) {}

  int rank() const { return net_.rank(); }
  int size() const { return net_.size(); }
  elastic::Traffic traffic() const { return net_.traffic(); }
  auto timeout() const { return net_.timeout(); }
  void abort(std::string_view why) { net_.abort(why); }

  template <class T>
  void send(elastic::Span<T> x, int peer, int tag) {
    bool const hit = tag == tag_ && nth_-- == 0;
    if (hit && fault_ == Fault::drop) return;
    net_.send(x, peer, tag);
    if (hit && fault_ == Fault::repeat) net_.send(x, peer, tag);
  }
  template <class T>
  auto start_send(elastic::Span<T> x, int peer, int tag) {
    return net_.start_send(x, peer, tag);
  }
  template <class T>
  auto start_receive(elastic::Span<T> x, int peer, int tag) {
    return net_.start_receive(x, peer, tag);
  }
  template <class T>
  void receive(elastic::Span<T> x, int peer, int tag) {
    net_.receive(x, peer, tag);
  }
  std::optional<elastic::Envelope> probe() { return net_.probe(); }
  elastic::Envelope wait_message() { return net_.wait_message(); }

 private:
  Net& net_;
  Fault fault_;
  int tag_;
  long nth_;
};

}  // namespace support
