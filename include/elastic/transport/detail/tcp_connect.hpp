// SPDX-License-Identifier: Apache-2.0
// The connecting end of a new link: tries until the deadline, says hello, proves the secret and demands the
// acceptor's proof.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_wire.hpp"

namespace elastic::transport::detail {

/// What a rank says of itself in a handshake, and the secret it shares with the others.
struct Identity {
  Hello hello;
  std::string secret;
  Clock::time_point start;
  Clock::time_point deadline;
  std::chrono::duration<double> timeout;

  Hello fresh_hello() const {
    Hello hello_now = hello;
    hello_now.nonce = random_nonce();
    return hello_now;
  }
  std::chrono::duration<double> waited() const { return Clock::now() - start; }
};

/// Shakes hands with acceptor `rank`. An empty result is success, another one says why to try again; throws
/// when trying again cannot help.
inline std::string greet(asio::io_context& io, Socket& socket, Identity const& me, int rank,
                         std::string const& where) {
  std::string const operation = "joining the job";
  auto const wrong = [&](std::string const& why) -> ProtocolError {
    return {rank, where, operation, me.waited(), why};
  };
  Hello const mine = me.fresh_hello();
  Hello theirs;
  error_code error = write_until(io, socket, &mine, 1, me.deadline);
  if (!error) error = read_until(io, socket, &theirs, 1, me.deadline);
  if (error) return "no answer to the handshake: " + error.message();
  if (theirs.magic != wire_magic) throw wrong("what listens there is not elastic");
  if (theirs.version != wire_version)
    throw wrong("it speaks version " + std::to_string(theirs.version) +
                " of the protocol, this rank version " + std::to_string(wire_version));
  if (theirs.secured != mine.secured)
    throw ConfigError(
        theirs.secured != 0
            ? "the job at " + where + " has a secret and this rank has none: set ELASTIC_SECRET_FILE"
            : "this rank has a secret and the job at " + where + " has none: set it on every rank");

  Bytes32 const proof = connector_proof(me.secret, mine, theirs);
  Verdict verdict;
  error = write_until(io, socket, &proof, 1, me.deadline);
  if (!error) error = read_until(io, socket, &verdict, 1, me.deadline);
  if (error == asio::error::timed_out) return "no answer to the proof of the secret";
  if (error && mine.secured != 0)
    throw wrong("the connection was dropped when this rank proved its secret; is it the same on both?");
  if (error) return "the handshake broke off: " + error.message();
  if (mine.secured != 0 && !same(verdict.proof, acceptor_proof(me.secret, mine, theirs)))
    throw wrong("it could not prove that it knows the job's secret");
  std::string const reason = get_text(verdict.reason);
  if (!reason.empty()) throw wrong("refused: " + reason);
  if (theirs.rank != rank) throw wrong("rank " + std::to_string(theirs.rank) + " answered there");
  return {};
}

/// A link to acceptor `rank`. `find` gives the addresses to try, anew each time: a name may appear late.
inline Socket connect_link(asio::io_context& io, Identity const& me, int rank, std::string const& where,
                           std::function<std::vector<Endpoint>(std::string& why)> const& find) {
  using namespace std::chrono_literals;
  std::string why = "nothing to connect to";
  for (Clock::duration pause = 2ms;; pause = std::min<Clock::duration>(2 * pause, 250ms)) {
    for (Endpoint const& end : find(why)) {
      Socket socket(io);
      // One address that swallows packets must not take the time of the next.
      error_code error =
          connect_until(io, socket, end, std::min(me.deadline, Clock::now() + Clock::duration(5s)));
      error_code ignored;
      // Without a listener, a connect to an ephemeral port can meet itself.
      if (!error && socket.local_endpoint(ignored) == socket.remote_endpoint(ignored))
        error = asio::error::connection_refused;
      if (error) {
        why = error.message();
        continue;
      }
      tune(socket, me.timeout);
      why = greet(io, socket, me, rank, where);
      if (why.empty()) return socket;
    }
    if (Clock::now() + pause >= me.deadline) throw Timeout(rank, where, "joining the job", me.waited(), why);
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace elastic::transport::detail
