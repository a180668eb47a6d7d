// SPDX-License-Identifier: Apache-2.0
// What a rank must know to join a job over TCP. Apart from tcp.hpp so that a command line can fill it without
// Boost.Asio and OpenSSL.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace elastic::transport {

/// How one rank finds the others over TCP; `job`, `port`, `size` and the secret are the same on every rank.
struct TcpOptions {
  /// Where rank 0 is found: a name, an IPv4 or an IPv6 address.
  std::string host = "127.0.0.1";
  /// Rank 0's port, 1-65535; `free_port()` finds one for a job on this machine.
  std::uint16_t port = 0;
  /// This rank; -1 in a star: rank 0 gives the lowest free place.
  int rank = 0;
  /// The number of ranks; in a star the number of places, rank 0's included.
  int size = 1;
  /// The longest any call blocks, forming the job included; above zero.
  std::chrono::duration<double> timeout = std::chrono::seconds(60);
  /// The address this rank listens on; beyond loopback the job needs a secret. "0.0.0.0" and "::" mean all.
  std::string bind = "127.0.0.1";
  /// Names the job, 1-63 bytes, so that two jobs that meet on one port do not mix.
  std::string job = "elastic";
  /// At least 16 bytes. Empty: $ELASTIC_SECRET, else the content of the file $ELASTIC_SECRET_FILE names.
  /// Never take it from a command line, where every user of the machine can read it.
  std::string secret = {};
  /// Encrypts every connection with TLS 1.3 under a key made of the secret, which the job must have then.
  bool tls = false;
  /// A job around rank 0: every rank is connected to rank 0 only, and ranks come, go and come back while it
  /// runs. There are no collectives then.
  bool star = false;
  /// Rank 0 of a star: how often it was started before, so that clients that come back know whom they meet.
  std::uint64_t generation = 0;
};

}  // namespace elastic::transport
