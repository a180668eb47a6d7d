// SPDX-License-Identifier: Apache-2.0
// The accepting end of new links: every visitor is heard at the same time and for a few seconds at most, so
// that silence or garbage on the port costs the job nothing.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "elastic/transport/detail/tcp_channel.hpp"
#include "elastic/transport/detail/tcp_identity.hpp"

namespace elastic::transport::detail {

/// What an acceptor says to a visitor who has proved itself: a place, or a reason to refuse.
struct Ruling {
  std::string reason;
  int place = -1;
  bool final = true;
};

/// Accepts connections, makes them prove themselves, and hands over those that `judge` has no reason to
/// refuse; nothing comes between the two calls.
class Door {
 public:
  static constexpr int crowd_limit = 256;  // visitors heard at once; more wait in the kernel's queue

  using Judge = std::function<Ruling(Hello const&)>;
  using Admit = std::function<void(Hello const&, int place, Channel&&)>;

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
    explicit Visit(asio::io_context& io) : channel(io), timer(io) {}
    Channel channel;
    asio::steady_timer timer;
    Hello theirs, mine;
    Bytes32 proof{};
    Clock::time_point const since = Clock::now();
  };
  using Guest = std::shared_ptr<Visit> const;

  void accept() {
    auto const guest = std::make_shared<Visit>(io_);
    acceptor_.async_accept(guest->channel.socket(), [this, guest](error_code error) {
      if (error) return rest();  // too many open files, say: that may pass
      guests_.push_back(guest);
      ++visits_;
      hear(guest);
      make_room() ? accept() : rest();
    });
  }

  /// In a crowd whoever has been here longest has to go, unless even that is a moment.
  bool make_room() {
    for (; !guests_.empty(); guests_.pop_front()) {
      auto const first = guests_.front().lock();
      if (!first || !first->channel.socket().is_open()) continue;
      if (visits_ <= crowd_limit) return true;
      if (Clock::now() - first->since < std::chrono::milliseconds(100)) return false;
      turn_away(first, "slowness while others came");
    }
    return true;
  }

  void rest() {
    pause_.expires_after(std::chrono::milliseconds(50));
    pause_.async_wait([this](error_code) { accept(); });
  }

  void hear(Guest& guest) {
    guest->timer.expires_after(std::chrono::seconds(5));
    guest->timer.async_wait([this, guest](error_code error) {
      if (error) return;
      turn_away(guest, "silence");
    });
    tune(guest->channel.socket(), me_.timeout);
    guest->channel.unblock();
    go_on(guest, false, reading(guest->channel, &guest->theirs, sizeof(Hello)),
          [this, guest](error_code error) {
            if (error || guest->theirs.magic != wire_magic) return turn_away(guest, "not an elastic rank");
            answer(guest);
          });
  }

  void answer(Guest& guest) {
    guest->mine = me_.fresh_hello();
    go_on(guest, true, writing(guest->channel, &guest->mine, sizeof(Hello)), [this, guest](error_code error) {
      if (error) return turn_away(guest, error.message());
      if (guest->theirs.version != wire_version) return turn_away(guest, "another version");
      if (guest->theirs.secured != guest->mine.secured)
        return turn_away(guest, "one side has a secret, the other has none");
      if (guest->theirs.tls != guest->mine.tls)
        return turn_away(guest, "one side demands TLS, the other has none");
      guest->mine.tls != 0 ? encrypt(guest) : demand_proof(guest);
    });
  }

  void encrypt(Guest& guest) {
    guest->channel.secure(*me_.tls, true);
    go_on(
        guest, false, [guest] { return guest->channel.shake(); },
        [this, guest](error_code error) {
          if (error) return turn_away(guest, "TLS failed, perhaps for another secret: " + error.message());
          demand_proof(guest);
        });
  }

  void demand_proof(Guest& guest) {
    go_on(guest, false, reading(guest->channel, guest->proof.data(), guest->proof.size()),
          [this, guest](error_code error) {
            if (error) return turn_away(guest, error.message());
            bool const proved = guest->mine.secured == 0 ||
                                same(guest->proof, connector_proof(me_.secret, guest->theirs, guest->mine));
            Ruling const ruling = proved ? judge_(guest->theirs) : Ruling{"it has another secret"};
            if (!tell(*guest, ruling, proved)) return turn_away(guest, "it left before it was answered");
            if (!ruling.reason.empty()) return turn_away(guest, ruling.reason);
            guest->timer.cancel();
            --visits_;
            admit_(guest->theirs, ruling.place, std::move(guest->channel));
          });
  }

  /// A verdict always fits the buffer of a socket that has carried nothing but hellos.
  bool tell(Visit& guest, Ruling const& ruling, bool proved) {
    Verdict verdict;
    put_text(verdict.reason, ruling.reason);
    verdict.final = ruling.final ? 1 : 0;
    verdict.place = ruling.place;
    if (proved) verdict.proof = acceptor_proof(me_.secret, guest.theirs, guest.mine, verdict);
    return !writing(guest.channel, &verdict, sizeof verdict)();
  }

  /// Takes steps until they are done, then calls `then` with how they ended.
  template <class Step, class Then>
  void go_on(Guest& guest, bool writes, Step step, Then then) {
    error_code const error = step();
    if (error != asio::error::would_block) return then(error);
    guest->channel.socket().async_wait(waits_for(guest->channel, writes),
                                       [this, guest, writes, step, then](error_code ended) {
                                         ended ? then(ended) : go_on(guest, writes, step, then);
                                       });
  }

  void turn_away(Guest& guest, std::string const& why) {
    guest->timer.cancel();
    if (!guest->channel.socket().is_open()) return;
    guest->channel.close();
    ++turned_away_;
    last_ = why;
    --visits_;
  }

  asio::io_context& io_;
  asio::ip::tcp::acceptor& acceptor_;
  Identity const& me_;
  Judge judge_;
  Admit admit_;
  asio::steady_timer pause_{io_};
  std::deque<std::weak_ptr<Visit>> guests_;  // and some that have gone, in the order of their coming
  int visits_ = 0;
  int turned_away_ = 0;
  std::string last_;
};

}  // namespace elastic::transport::detail
