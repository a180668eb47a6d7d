// SPDX-License-Identifier: Apache-2.0
// Where the center is handed out: by a server to workers and testers, by the first worker of a collective
// rule to testers.
#pragma once

#include <optional>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/role.hpp"

namespace elastic {

/// Answers pulls with copies of the center. A reply travels while the caller goes on: nobody who is slow to
/// receive delays anybody else.
template <PointToPoint Net, Device Dev, class T>
class CenterDesk {
 public:
  using Memory = typename Dev::memory;
  using View = Span<T const, Memory>;
  CenterDesk(Net& net, Dev& device, Layout layout)
      : net_(net), device_(device), layout_(layout), replies_(std::size_t(layout.size)) {}

  Request receive_request(int from, int tag) {
    Request request{};
    net_.receive(as_bytes(request), from, tag);
    return request;
  }

  /// Sends `status` and a copy of `center` to `to`, whose previous reply has arrived since it asked again. A
  /// tester that is gone is nothing.
  void reply(int to, Status status, View center) {
    for (auto& old : replies_)  // whose bytes have gone needs no buffer any more
      if (old && old->done()) old.reset();
    auto& reply = replies_[std::size_t(to)];
    if (!reply) reply.emplace(device_.template allocate<T>(center.size()));
    try {
      reply->flush();
      reply->status = status;
      device_.copy(center, reply->center.span());
      device_.synchronize();
      reply->head.emplace(net_.start_send(read(as_bytes(reply->status)), to, tag::status));
      reply->body.emplace(net_.start_send(read(reply->center.span()), to, tag::center));
    } catch (PeerLost const&) {
      if (to < layout_.first_tester()) throw;
    }
  }

  /// Tells every tester that training has ended and hands it the last center.
  void end(std::uint64_t version, View center) {
    try {
      for (int tester = layout_.first_tester(); tester < layout_.size; ++tester)
        net_.send(Span<char const>(), tester, tag::ended);
      for (int last = 0; last < layout_.testers; ++last) {
        Envelope const pull = net_.wait_message();
        receive_request(pull.source, pull.tag);
        reply(pull.source, {version, 1}, center);
      }
    } catch (TransportError const&) {  // a tester that is gone or stuck; the center is safe without it
    }
    for (auto& reply : replies_) try {
        if (reply) reply->flush();
      } catch (TransportError const&) {  // likewise
      }
  }

 private:
  using Sending = decltype(std::declval<Net&>().start_send(View(), 0, 0));
  using Heading = decltype(std::declval<Net&>().start_send(Span<char const>(), 0, 0));
  struct Reply {
    explicit Reply(typename Dev::template Buffer<T> buffer) : center(std::move(buffer)) {}
    bool done() { return (!head || head->done()) && (!body || body->done()); }
    void flush() {
      if (head) head->wait();
      if (body) body->wait();
    }
    Status status{};
    typename Dev::template Buffer<T> center;
    std::optional<Heading> head;  // declared last: what travels is finished before its buffers go
    std::optional<Sending> body;
  };

  Net& net_;
  Dev& device_;
  Layout layout_;
  std::vector<std::optional<Reply>> replies_;
};

}  // namespace elastic
