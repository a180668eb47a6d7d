// SPDX-License-Identifier: Apache-2.0
// The accepting end of new links: every visitor is heard at the same time and for a few seconds at most, so
// that silence or garbage on the port costs the job nothing.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "elastic/transport/detail/tcp_connect.hpp"

namespace elastic::transport::detail {

/// Accepts connections, makes them prove themselves, and hands over those that `judge` has no reason to
/// refuse.
class Door {
 public:
  using Judge = std::function<std::string(Hello const&)>;  // the reason to refuse, or nothing
  using Admit = std::function<void(Hello const&, Socket&&)>;

  Door(asio::io_context& io, asio::ip::tcp::acceptor& acceptor, Identity const& me, Judge judge, Admit admit)
      : io_(io), acceptor_(acceptor), me_(me), judge_(std::move(judge)), admit_(std::move(admit)) {
    accept();
  }
  Door(Door const&) = delete;
  Door& operator=(Door const&) = delete;

  /// Why visitors were turned away, for the message of whoever waits in vain.
  std::string turned_away() const {
    if (turned_away_ == 0) return {};
    return "; " + std::to_string(turned_away_) + " connection(s) turned away, the last: " + last_;
  }

 private:
  struct Visit {
    explicit Visit(asio::io_context& io) : socket(io), timer(io) {}
    Socket socket;
    asio::steady_timer timer;
    Hello theirs, mine;
    Bytes32 proof{};
    Verdict verdict;
  };
  using Guest = std::shared_ptr<Visit> const;
  static constexpr int crowd_limit = 256;  // visitors heard at once; more wait in the kernel's queue

  void accept() {
    auto const guest = std::make_shared<Visit>(io_);
    acceptor_.async_accept(guest->socket, [this, guest](error_code error) {
      if (error) return rest();
      hear(guest);
      if (++visits_ < crowd_limit) accept();
    });
  }

  /// Too many open files, say: that may pass.
  void rest() {
    pause_.expires_after(std::chrono::milliseconds(50));
    pause_.async_wait([this](error_code) { accept(); });
  }

  void leave() {
    if (visits_-- == crowd_limit) accept();
  }

  void hear(Guest& guest) {
    guest->timer.expires_after(std::chrono::seconds(5));
    guest->timer.async_wait([this, guest](error_code error) {
      if (error) return;
      turn_away(guest, "silence");
    });
    tune(guest->socket, me_.timeout);
    asio::async_read(guest->socket, asio::buffer(&guest->theirs, sizeof(Hello)),
                     [this, guest](error_code error, std::size_t) {
                       if (error || guest->theirs.magic != wire_magic)
                         return turn_away(guest, "not an elastic rank");
                       answer(guest);
                     });
  }

  void answer(Guest& guest) {
    guest->mine = me_.fresh_hello();
    asio::async_write(guest->socket, asio::buffer(&guest->mine, sizeof(Hello)),
                      [this, guest](error_code error, std::size_t) {
                        if (error) return turn_away(guest, error.message());
                        if (guest->theirs.version != wire_version) return turn_away(guest, "another version");
                        if (guest->theirs.secured != guest->mine.secured)
                          return turn_away(guest, "one side has a secret, the other has none");
                        demand_proof(guest);
                      });
  }

  void demand_proof(Guest& guest) {
    asio::async_read(guest->socket, asio::buffer(guest->proof), [this, guest](error_code error, std::size_t) {
      if (error) return turn_away(guest, error.message());
      if (guest->mine.secured != 0 &&
          !same(guest->proof, connector_proof(me_.secret, guest->theirs, guest->mine)))
        return turn_away(guest, "wrong secret");
      std::string const reason = judge_(guest->theirs);
      put_text(guest->verdict.reason, reason);
      guest->verdict.proof = acceptor_proof(me_.secret, guest->theirs, guest->mine);
      asio::async_write(guest->socket, asio::buffer(&guest->verdict, sizeof(Verdict)),
                        [this, guest, reason](error_code failed, std::size_t) {
                          if (failed) return turn_away(guest, failed.message());
                          if (!reason.empty()) return turn_away(guest, reason);
                          guest->timer.cancel();
                          leave();
                          admit_(guest->theirs, std::move(guest->socket));
                        });
    });
  }

  void turn_away(Guest& guest, std::string const& why) {
    error_code ignored;
    guest->timer.cancel();
    if (!guest->socket.is_open()) return;
    guest->socket.close(ignored);
    ++turned_away_;
    last_ = why;
    leave();
  }

  asio::io_context& io_;
  asio::ip::tcp::acceptor& acceptor_;
  Identity const& me_;
  Judge judge_;
  Admit admit_;
  asio::steady_timer pause_{io_};
  int visits_ = 0;
  int turned_away_ = 0;
  std::string last_;
};

}  // namespace elastic::transport::detail
