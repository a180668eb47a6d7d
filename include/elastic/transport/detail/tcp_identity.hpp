// SPDX-License-Identifier: Apache-2.0
// What a rank needs before its first connection: checked options, who it is, where rank 0 is, where it listens.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_tls.hpp"
#include "elastic/transport/detail/tcp_wire.hpp"
#include "elastic/transport/tcp_options.hpp"

namespace elastic::transport::detail {

/// Throws ConfigError for what cannot work.
inline TcpOptions const& checked(TcpOptions const& o) {
  if (o.size < 1) throw ConfigError("size=" + std::to_string(o.size) + ", expected at least 1");
  int const least = o.star ? -1 : 0;
  if (o.rank < least || o.rank >= o.size)
    throw ConfigError("rank=" + std::to_string(o.rank) + ", expected " + std::to_string(least) +
                      " to size - 1 = " + std::to_string(o.size - 1));
  if (o.port == 0 && o.size > 1) throw ConfigError("port=0: every rank needs rank 0's port, 1 to 65535");
  if (!(o.timeout.count() > 0) || o.timeout > std::chrono::hours(24 * 365))
    throw ConfigError("timeout=" + std::to_string(o.timeout.count()) +
                      " s, expected more than 0 and at most a year");
  if (o.job.empty() || o.job.size() > sizeof(Hello::job) - 1)
    throw ConfigError("job='" + o.job + "', expected 1 to 63 bytes");
  return o;
}

/// What a rank says of itself in a handshake, and the secret it shares with the others.
struct Identity {
  explicit Identity(TcpOptions const& options)
      : secret(find_secret(options.secret)), timeout(options.timeout) {
    put_text(hello.job, options.job);
    hello.secured = secret.empty() ? 0 : 1;
    hello.star = options.star ? 1 : 0;
    hello.tls = options.tls ? 1 : 0;
    if (options.tls && secret.empty())
      throw ConfigError(
          "tls=true: its key comes from the job's secret: set ELASTIC_SECRET_FILE on every rank");
    if (options.tls) tls = std::make_shared<TlsKey const>(secret, options.job);
    hello.rank = options.rank;
    hello.size = options.size;
    hello.generation = options.generation;
    Bytes32 const random = random_nonce();
    std::memcpy(&hello.incarnation, random.data(), sizeof hello.incarnation);
    hello.incarnation |= 1;  // 0 means nobody
    begin();
  }

  /// A new attempt to join, with a deadline of its own.
  void begin() {
    start = Clock::now();
    deadline = start + std::chrono::duration_cast<Clock::duration>(timeout);
  }
  Hello fresh_hello() const {
    Hello hello_now = hello;
    hello_now.nonce = random_nonce();
    return hello_now;
  }
  std::chrono::duration<double> waited() const { return Clock::now() - start; }

  Hello hello;
  std::string secret;
  std::shared_ptr<TlsKey const> tls;
  Clock::time_point start;
  Clock::time_point deadline;
  std::chrono::duration<double> timeout;
};

/// Why `theirs` cannot belong to the job of `mine`, or nothing.
inline std::string differs(Hello const& theirs, Hello const& mine) {
  if (theirs.job != mine.job)
    return "this is job '" + get_text(mine.job) + "', not '" + get_text(theirs.job) + "'";
  if (theirs.star != mine.star)
    return mine.star != 0 ? "this job is a star: set star = true" : "this job is no star: set star = false";
  if (theirs.size != mine.size)
    return "this job has " + std::to_string(mine.size) + " ranks, not " + std::to_string(theirs.size);
  return {};
}

/// The addresses of a host, or none and why. A resolver can block for longer than anybody wants to wait: it
/// has a thread of its own, which nobody waits for past the deadline.
inline std::vector<Endpoint> resolve(std::string const& host, std::uint16_t port, Clock::time_point deadline,
                                     std::string& why) {
  error_code error;
  auto const address = asio::ip::make_address(host, error);
  if (!error) return {{address, port}};
  struct Answer {
    std::mutex mutex;
    std::condition_variable ready;
    bool done = false;
    error_code error;
    std::vector<Endpoint> ends;
  };
  auto const answer = std::make_shared<Answer>();
  std::thread([answer, host, port] {
    asio::io_context io;
    error_code failed;
    auto const found = asio::ip::tcp::resolver(io).resolve(host, std::to_string(port), failed);
    std::lock_guard const lock(answer->mutex);
    for (auto const& entry : found) answer->ends.push_back(entry.endpoint());
    answer->error = failed;
    answer->done = true;
    answer->ready.notify_one();
  }).detach();
  std::unique_lock lock(answer->mutex);
  if (!answer->ready.wait_until(lock, deadline, [&] { return answer->done; }))
    why = "the name was not resolved in time";
  else if (answer->error)
    why = "the name cannot be resolved: " + answer->error.message();
  return answer->ends;
}

inline void demand_secret(bool secured, std::string const& option, std::string const& value) {
  if (secured) return;
  throw ConfigError(
      option + "=" + value +
      " is not loopback, so anyone on that network could join: give every rank the same secret in "
      "ELASTIC_SECRET_FILE (`openssl rand -hex 32 > file; chmod 600 file`) or ELASTIC_SECRET");
}

/// Where rank 0 may be; refuses to leave loopback without a secret.
inline std::vector<Endpoint> find_rank0(TcpOptions const& options, Identity const& me, std::string& why) {
  auto ends = resolve(options.host, options.port, me.deadline, why);
  for (Endpoint const& end : ends)
    if (!end.address().is_loopback()) demand_secret(!me.secret.empty(), "host", options.host);
  return ends;
}

inline asio::ip::address bind_address(TcpOptions const& options, Identity const& me) {
  error_code error;
  auto const bind = asio::ip::make_address(options.bind, error);
  if (error) throw ConfigError("bind=" + options.bind + ", expected a numeric IPv4 or IPv6 address");
  if (!bind.is_loopback()) demand_secret(!me.secret.empty(), "bind", options.bind);
  return bind;
}

/// A rank on loopback cannot be reached by those for whom rank 0 is on a network.
inline void demand_route(TcpOptions const& options, Endpoint const& rank0, asio::ip::address const& bind) {
  if (rank0.address().is_loopback() || !bind.is_loopback()) return;
  throw ConfigError("host=" + options.host + " is on a network but bind=" + options.bind +
                    " is not: set bind to an address of this machine that the other ranks reach");
}

/// Opens the port of this rank: rank 0's is the job's, another's any.
inline void listen(asio::ip::tcp::acceptor& acceptor, TcpOptions const& options, Identity& me) {
  auto const bind = bind_address(options, me);
  Endpoint end(bind, options.rank == 0 ? options.port : std::uint16_t{0});
  if (options.rank == 0 && bind.is_loopback()) {
    // The machine's own name may be another loopback address, say 127.0.1.1: the others will try that one.
    std::string why;
    auto const ends = find_rank0(options, me, why);
    if (ends.empty()) throw ConfigError("host=" + options.host + ": " + why);
    end = ends.front();
    demand_route(options, end, bind);
  }
  error_code error;
  acceptor.open(end.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(end, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) end = acceptor.local_endpoint(error);
  if (error) throw ConfigError("cannot listen on " + describe(end) + ": " + error.message());
  me.hello.port = end.port();
}

}  // namespace elastic::transport::detail
