// SPDX-License-Identifier: Apache-2.0
// One connection to one peer: socket, inbox, outbox, and how it ended if it has.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "elastic/transport/detail/tcp_channel.hpp"
#include "elastic/transport/detail/tcp_inbox.hpp"
#include "elastic/transport/detail/tcp_operation.hpp"
#include "elastic/transport/detail/tcp_outbox.hpp"

namespace elastic::transport::detail {

/// Guarded by the engine's mutex, the socket included.
class TcpLink {
 public:
  TcpLink(int peer, Channel connected, std::string host, Traffic& traffic, std::uint64_t const& horizon,
          std::uint64_t process)
      : rank(peer),
        where(std::move(host)),
        incarnation(process),
        channel(std::move(connected)),
        out(traffic),
        in(out, traffic, peer, horizon) {}
  TcpLink(TcpLink const&) = delete;
  TcpLink& operator=(TcpLink const&) = delete;

  /// Nothing more will ever arrive.
  bool ended() const { return ended_; }
  bool wants_to_read() const { return !ended_ && !in.full(); }
  bool wants_to_write() const { return !down && !mute_ && (out.has_work() || channel.unsent()); }

  void pump_in() {
    if (ended_) return;
    error_code error = in.pump(channel);
    while (!error && channel.pending() && wants_to_read() && in.broken() == nullptr)
      error = in.pump(channel.rest());
    if (in.broken() != nullptr) {
      // One bad client of a star is lost like any other; in a mesh the job is at an end.
      fail(incarnation != 0 ? Trouble::lost : Trouble::protocol, in.broken());
      end();
    } else if (in.bye() && !down) {
      fail(Trouble::lost, "it has left the job");
      left = true;
      error_code ignored;
      channel.socket().shutdown(Socket::shutdown_send, ignored);  // lets the peer's farewell end at once
    }
    if (!error || error == asio::error::would_block) return;
    fail(Trouble::lost, error == asio::error::eof ? "its connection was closed without a goodbye"
                        : error == boost::system::errc::bad_message
                            ? "what arrived is not what it encrypted: it was changed on the way"
                            : "its connection broke: " + error.message());
    end();
  }

  void pump_out() {
    if (channel.pending() && wants_to_read()) pump_in();  // the socket will not tell
    if (!wants_to_write()) return;
    error_code error = out.pump(channel);
    if (!error) error = channel.flush();
    // A broken pipe may still hold what the peer said before it left: how it ended is the reader's to say.
    if (error && error != asio::error::would_block) mute_ = true;
  }

  /// Ends the link from this side, whatever the peer said.
  void lose(std::string why) {
    down = {Trouble::lost, rank, where, std::move(why)};
    left = false;
    end();
  }

  /// Calls f(transfer) for everything in flight on this link.
  template <class F>
  void for_each_transfer(F&& f) {
    in.for_each_transfer(f);
    out.for_each_transfer(f);
  }

  int const rank;
  std::string const where;
  std::uint64_t const incarnation;  // of the peer's process, in a star
  Channel channel;
  Outbox out;
  Inbox in;
  Failure down;             // why nothing new can be done on this link
  bool left = false;        // in good order
  bool reported = false;    // wait_message() has told the caller
  bool settled = false;     // its operations know that it is down
  bool touched = false;     // in the engine's list of links to look after,
  bool stale = false;       // of those to arm,
  bool has_mail = false;    // of those with messages
  std::uint64_t mark = 0;   // of the poll that it was last in
  std::uint32_t armed = 0;  // what the engine's set waits for

 private:
  void fail(Trouble kind, std::string why) {
    if (!down) down = {kind, rank, where, std::move(why)};
  }

  void end() {
    ended_ = true;
    channel.close();
  }

  bool ended_ = false;
  bool mute_ = false;
};

}  // namespace elastic::transport::detail
