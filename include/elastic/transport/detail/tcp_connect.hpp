// SPDX-License-Identifier: Apache-2.0
// The connecting end of a new link: tries until the deadline, says hello, proves the secret and demands the
// acceptor's proof.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_channel.hpp"
#include "elastic/transport/detail/tcp_identity.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_wire.hpp"

namespace elastic::transport::detail {

/// A link that has passed the handshake, at the connecting end.
struct Joined {
  Channel channel;
  std::string where;
  int place = -1;                // what the acceptor calls this rank
  std::uint64_t generation = 0;  // the acceptor's
  std::uint64_t incarnation = 0;
};

/// Shakes hands with acceptor `rank`. An empty result is success, another one says why to try again; throws
/// when trying again cannot help.
inline std::string greet(asio::io_context& io, Joined& link, Identity const& me, int rank) {
  std::string const operation = "joining the job";
  std::string const& where = link.where;
  auto const wrong = [&](std::string const& why) -> ProtocolError {
    return {rank, where, operation, me.waited(), why};
  };
  auto const refused = [&](std::string const& why) -> ConfigError {
    return ConfigError(operation + " with rank " + std::to_string(rank) + " on " + where + ": " + why);
  };
  Hello const mine = me.fresh_hello();
  Hello theirs;
  error_code error = write_until(io, link.channel, &mine, 1, me.deadline);
  if (!error) error = read_until(io, link.channel, &theirs, 1, me.deadline);
  if (error) return "no answer to the handshake: " + error.message();
  if (theirs.magic != wire_magic) throw wrong("what listens there is not elastic");
  if (theirs.version != wire_version)
    throw wrong("it speaks version " + std::to_string(theirs.version) +
                " of the protocol, this rank version " + std::to_string(wire_version));
  if (theirs.secured != mine.secured)
    throw refused(theirs.secured != 0 ? "the job has a secret and this rank has none: set ELASTIC_SECRET_FILE"
                                      : "this rank has a secret and the job has none: set it on every rank");

  if (theirs.tls != mine.tls)
    throw refused(theirs.tls != 0
                      ? "the job is encrypted and this rank is not: set tls = true"
                      : "this rank demands encryption and the job has none: set tls on every rank");
  if (mine.tls != 0) {
    link.channel.secure(*me.tls, false);
    error = finish_until(io, link.channel, me.deadline, false, [&] { return link.channel.shake(); });
    if (error == boost::system::errc::bad_message) throw refused("TLS failed: it has another secret");
    if (error) return "the TLS handshake broke off: " + error.message();
  }

  Bytes32 const proof = connector_proof(me.secret, mine, theirs);
  Verdict verdict;
  error = write_until(io, link.channel, &proof, 1, me.deadline);
  if (!error) error = read_until(io, link.channel, &verdict, 1, me.deadline);
  if (error == asio::error::timed_out) return "no answer to the proof of the secret";
  if (error) return "the handshake broke off: " + error.message();
  std::string const reason = get_text(verdict.reason);
  bool const proved =
      mine.secured == 0 || same(verdict.proof, acceptor_proof(me.secret, mine, theirs, verdict));
  // Who has another secret cannot prove its refusal; to believe it costs no more than a closed connection.
  if (!reason.empty() && verdict.final != 0) throw refused("refused: " + reason);
  if (!reason.empty()) return reason;
  if (!proved) throw wrong("it could not prove that it knows the job's secret");
  if (theirs.rank != rank) throw wrong("rank " + std::to_string(theirs.rank) + " answered there");
  if (theirs.generation < mine.generation)
    throw refused("it is of generation " + std::to_string(theirs.generation) +
                  ", this rank has already met generation " + std::to_string(mine.generation));
  link.place = verdict.place;
  link.generation = theirs.generation;
  link.incarnation = theirs.incarnation;
  return {};
}

/// The pauses between attempts: doubling, and a part of them random so that clients of a server that comes
/// back do not come all at once.
class RetryPauses {
 public:
  RetryPauses(Clock::duration first, Clock::duration longest) : pause_(first), longest_(longest) {}

  /// Shorter pauses towards the deadline; false when it has come.
  bool wait(Clock::time_point deadline) {
    Clock::duration const left = deadline - Clock::now();
    if (left < std::chrono::milliseconds(1)) return false;
    auto const pause = pause_ * (0.5 + 0.5 * double(random_() % 1024) / 1024);
    pause_ = std::min(2 * pause_, longest_);
    std::this_thread::sleep_for(std::min<std::chrono::duration<double, std::nano>>(pause, left / 2));
    return true;
  }

 private:
  Clock::duration pause_;
  Clock::duration longest_;
  std::minstd_rand random_{std::random_device{}()};
};

/// A link to acceptor `rank`. `find` gives the addresses to try, anew each time: a name may appear late.
inline Joined connect_link(asio::io_context& io, Identity const& me, int rank, std::string const& where,
                           RetryPauses backoff,
                           std::function<std::vector<Endpoint>(std::string& why)> const& find) {
  std::string why;
  auto const failed =
      [&](std::string const& reason) {  // the deadline itself tells less than what came before
        if (why.empty() || Clock::now() < me.deadline) why = reason;
      };
  do {
    std::string unknown = "nothing to connect to";
    auto const ends = find(unknown);
    if (ends.empty()) failed(unknown);
    for (Endpoint const& end : ends) {
      Joined link{Channel(io), where};
      Socket& socket = link.channel.socket();
      // One address that swallows packets must not take the time of the next.
      error_code error =
          connect_until(io, socket, end, std::min(me.deadline, Clock::now() + std::chrono::seconds(5)));
      error_code ignored;
      // Without a listener, a connect to an ephemeral port can meet itself.
      if (!error && socket.local_endpoint(ignored) == socket.remote_endpoint(ignored))
        error = asio::error::connection_refused;
      if (error) {
        failed(error.message());
        continue;
      }
      tune(socket, me.timeout);
      link.channel.unblock();
      auto const reason = greet(io, link, me, rank);
      if (reason.empty()) return link;
      failed(reason);
    }
  } while (backoff.wait(me.deadline));
  throw Timeout(rank, where, "joining the job", me.waited(), why);
}

}  // namespace elastic::transport::detail
