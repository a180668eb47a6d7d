// SPDX-License-Identifier: Apache-2.0
// What a rule's server program can say. There is no gradient here, so a server cannot compute one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "elastic/center_desk.hpp"
#include "elastic/concepts.hpp"
#include "elastic/event.hpp"
#include "elastic/plan.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "elastic/state.hpp"

namespace elastic {

template <PointToPoint Net, Device Dev, class T, class... Os>
class Server {
 public:
  using Memory = typename Dev::memory;
  using View = Span<T, Memory>;
  Server(Net& net, Layout layout, Dev& device, View parameters, States<Dev, T>& states, Plan const& plan,
         Os&... os)
      : net_(net),
        layout_(layout),
        device_(device),
        parameters_(parameters),
        states_(states),
        plan_(plan),
        desk_(net, device, layout),
        clients_(std::size_t(layout.size)),
        observers_(os...) {}

  // -- the vocabulary of a server program
  // -----------------------------------------------------------------------------
  View parameters() { return parameters_; }
  View state(std::string_view name, View initial) { return states_.get(name, initial); }
  int workers() const { return layout_.workers(); }
  auto allocate(std::size_t n) { return device_.template allocate<T>(n); }

  template <class F, class... S>
  void for_each(F f, S... views) {
    Stopwatch const running(report_.seconds.exchanging);
    device_.for_each(f, views...);
  }

  /// The next request, first come, first served; none once every worker has left. A delta whose sequence
  /// number has been applied already never gets here.
  std::optional<Wants> next() {
    tell_applied();
    while (left_ < layout_.workers()) {
      Envelope const message = wait();
      auto& client = clients_[std::size_t(message.source)];
      from_ = message.source;
      if (message.tag == tag::pull) {
        client.asked = desk_.receive_request(from_, tag::pull);
        return Wants::center;
      }
      if (message.tag == tag::push && client.asked.sequence > client.applied) return Wants::add_delta;
      if (message.tag == tag::push) {
        discard(message);
      } else if (message.tag == tag::leave) {
        desk_.receive_request(from_, tag::leave);
        ++left_;
      } else {
        throw ProtocolError(from_, "", "serve", {},
                            "message " + std::to_string(message.tag) + " is not for a server");
      }
    }
    return std::nullopt;
  }

  /// Answers a request for the center; returns before the answer has arrived.
  void reply(View center) {
    Stopwatch const running(report_.seconds.exchanging);
    desk_.reply(from_, {report_.exchanges, from_ < layout_.first_tester() && stop_requested() ? 1u : 0u},
                center);
  }

  /// Takes the delta that `next` announced.
  void receive(View delta) {
    Stopwatch const running(report_.seconds.exchanging);
    net_.receive(delta, from_, tag::push);
    auto& client = clients_[std::size_t(from_)];
    client.applied = client.asked.sequence;
    ++report_.exchanges;
    applied_ = true;
  }
  // -------------------------------------------------------------------------------------------------------------------

  /// Ends the testers and returns what happened.
  Report finish(View center) {
    desk_.end(report_.exchanges, center);
    report_.role = Role::server;
    report_.stopped = stop_requested();
    return report_;
  }

 private:
  struct Client {
    Request asked{};            // its last pull
    std::uint64_t applied = 0;  // number of its last delta in the center
  };

  bool stop_requested() const { return plan_.stop && plan_.stop->load(); }

  /// The next message. The loss of a tester is nothing: the training that it watched goes on.
  Envelope wait() {
    Stopwatch const idle(report_.seconds.waiting);
    for (;;) try {
        return net_.wait_message();
      } catch (PeerLost const& lost) {
        if (lost.peer() < layout_.first_tester()) throw;
      }
  }

  void discard(Envelope const& message) {
    std::vector<char> nowhere(message.bytes);
    net_.receive(Span<char>(nowhere), message.source, message.tag);
    ++report_.duplicates;
  }

  void tell_applied() {
    if (!applied_) return;
    applied_ = false;
    auto const& asked = clients_[std::size_t(from_)].asked;
    std::apply(
        [&](auto&... os) {
          notify(event::Applied{from_, long(asked.step), asked.loss, report_.exchanges}, os...);
        },
        observers_);
  }

  Net& net_;
  Layout layout_;
  Dev& device_;
  View parameters_;
  States<Dev, T>& states_;
  Plan const& plan_;
  CenterDesk<Net, Dev, T> desk_;
  std::vector<Client> clients_;
  std::tuple<Os&...> observers_;
  Report report_;
  int from_ = -1;
  int left_ = 0;
  bool applied_ = false;
};

}  // namespace elastic
