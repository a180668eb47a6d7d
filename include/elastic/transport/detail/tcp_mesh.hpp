// SPDX-License-Identifier: Apache-2.0
// Forms the job: everyone meets rank 0, learns where the others are, and connects to every lower rank.
#pragma once

#include <poll.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_accept.hpp"
#include "elastic/transport/detail/tcp_connect.hpp"
#include "elastic/transport/tcp_options.hpp"

namespace elastic::transport::detail {

/// One formed link; `where` is for messages.
struct Seat {
  Socket socket;
  std::string where;
};

inline std::vector<Endpoint> resolve(asio::io_context& io, std::string const& host, std::uint16_t port,
                                     std::string& why) {
  asio::ip::tcp::resolver resolver(io);
  error_code error;
  auto const found = resolver.resolve(host, std::to_string(port), error);
  if (error) why = "the name cannot be resolved: " + error.message();
  std::vector<Endpoint> ends;
  for (auto const& entry : found) ends.push_back(entry.endpoint());
  return ends;
}

inline void demand_secret(bool secured, std::string const& option, std::string const& value) {
  if (secured) return;
  throw ConfigError(
      option + "=" + value +
      " is not loopback, so anyone on that network could join: give every rank the same secret in "
      "ELASTIC_SECRET_FILE (`openssl rand -hex 32 > file; chmod 600 file`) or ELASTIC_SECRET");
}

/// The links of one rank while they form; index = rank, empty at its own.
class Mesh {
 public:
  Mesh(TcpOptions const& options, asio::io_context& home) : options_(options), home_(home), acceptor_(io_) {
    check();
    seats_.resize(static_cast<std::size_t>(options.size));
    put_text(me_.hello.job, options.job);
    me_.secret = find_secret(options.secret);
    me_.hello.secured = me_.secret.empty() ? 0 : 1;
    me_.hello.rank = options.rank;
    me_.hello.size = options.size;
    me_.timeout = options.timeout;
    me_.start = Clock::now();
    me_.deadline = me_.start + std::chrono::duration_cast<Clock::duration>(options.timeout);
  }

  std::vector<std::optional<Seat>> form() && {
    if (options_.size == 1) return std::move(seats_);
    listen();
    if (options_.rank > 0) meet_lower_ranks();
    if (options_.rank + 1 < options_.size) admit_higher_ranks();
    if (options_.rank == 0) tell_addresses();
    return std::move(seats_);
  }

 private:
  std::optional<Seat>& seat(int rank) { return seats_[static_cast<std::size_t>(rank)]; }

  void check() const {
    if (options_.size < 1)
      throw ConfigError("size=" + std::to_string(options_.size) + ", expected at least 1");
    if (options_.rank < 0 || options_.rank >= options_.size)
      throw ConfigError("rank=" + std::to_string(options_.rank) +
                        ", expected 0 to size - 1 = " + std::to_string(options_.size - 1));
    if (options_.port == 0 && options_.size > 1)
      throw ConfigError("port=0: every rank needs rank 0's port, 1 to 65535");
    if (!(options_.timeout.count() > 0) || options_.timeout > std::chrono::hours(24 * 365))
      throw ConfigError("timeout=" + std::to_string(options_.timeout.count()) +
                        " s, expected more than 0 and at most a year");
    if (options_.job.empty() || options_.job.size() > sizeof(Hello::job) - 1)
      throw ConfigError("job='" + options_.job + "', expected 1 to 63 bytes");
  }

  /// Where rank 0 may be; refuses to leave loopback without a secret.
  std::vector<Endpoint> find_rank0(std::string& why) {
    auto ends = resolve(io_, options_.host, options_.port, why);
    for (Endpoint const& end : ends) {
      if (end.address().is_loopback()) continue;
      demand_secret(!me_.secret.empty(), "host", options_.host);
      if (bind_.is_loopback())
        throw ConfigError("host=" + options_.host + " is on a network but bind=" + options_.bind +
                          " is not: set bind to an address of this machine that the other ranks reach");
    }
    return ends;
  }

  void listen() {
    error_code error;
    bind_ = asio::ip::make_address(options_.bind, error);
    if (error) throw ConfigError("bind=" + options_.bind + ", expected a numeric IPv4 or IPv6 address");
    if (!bind_.is_loopback()) demand_secret(!me_.secret.empty(), "bind", options_.bind);
    Endpoint end(bind_, options_.rank == 0 ? options_.port : std::uint16_t{0});
    if (options_.rank == 0 && bind_.is_loopback()) {
      // The machine's own name may be another loopback address, say 127.0.1.1: the others will try that one.
      std::string why;
      auto const ends = find_rank0(why);
      if (ends.empty()) throw ConfigError("host=" + options_.host + ": " + why);
      end = ends.front();
    }
    acceptor_.open(end.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(end, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (!error) end = acceptor_.local_endpoint(error);
    if (error) throw ConfigError("cannot listen on " + describe(end) + ": " + error.message());
    me_.hello.port = end.port();
  }

  void meet_lower_ranks() {
    std::string const where0 = describe(options_.host, options_.port);
    Socket first = connect_link(io_, me_, 0, where0, [this](std::string& why) { return find_rank0(why); });
    Address mine;
    put_text(mine.host, bind_.is_unspecified() ? "" : bind_.to_string());
    mine.port = me_.hello.port;
    std::vector<Address> table(seats_.size());
    error_code error = write_until(io_, first, &mine, 1, me_.deadline);
    if (!error) error = read_until(io_, first, table.data(), table.size(), me_.deadline);
    if (error == asio::error::timed_out)
      throw Timeout(0, where0, "joining the job", me_.waited(), "the other ranks did not all join");
    if (error)
      throw PeerLost(0, where0, "joining the job", me_.waited(),
                     "it gave up before all ranks had joined: " + error.message());
    seat(0) = take(std::move(first), where0);
    for (int rank = 1; rank < options_.rank; ++rank) {
      Address const& there = table[static_cast<std::size_t>(rank)];
      std::string const where = describe(get_text(there.host), there.port);
      auto const address = asio::ip::make_address(get_text(there.host), error);
      if (error || there.port == 0 || there.port > 65535)
        throw ProtocolError(0, where0, "joining the job", me_.waited(), "it gave a wrong address: " + where);
      std::vector<Endpoint> const ends{{address, static_cast<std::uint16_t>(there.port)}};
      seat(rank) = take(connect_link(io_, me_, rank, where, [&](std::string&) { return ends; }), where);
    }
  }

  void admit_higher_ranks() {
    int missing = options_.size - 1 - options_.rank;
    Door door(
        io_, acceptor_, me_,
        [this](Hello const& hello) -> std::string {
          if (hello.job != me_.hello.job)
            return "this is job '" + options_.job + "', not '" + get_text(hello.job) + "'";
          if (hello.size != options_.size)
            return "this job has " + std::to_string(options_.size) + " ranks, not " +
                   std::to_string(hello.size);
          if (hello.rank <= options_.rank || hello.rank >= options_.size)
            return "rank " + std::to_string(hello.rank) + " does not join here";
          if (seat(hello.rank) && alive(seat(hello.rank)->socket))
            return "rank " + std::to_string(hello.rank) + " is taken";
          return {};
        },
        [this, &missing](Hello const& hello, Socket&& socket) {
          if (!seat(hello.rank)) --missing;
          error_code ignored;
          std::string const where = describe(socket.remote_endpoint(ignored));
          seat(hello.rank) = take(std::move(socket), where);
        });
    io_.restart();
    do {
      while (missing > 0 && io_.run_one_until(me_.deadline) != 0) {
      }
      if (missing > 0) break;
      // Before rank 0 has told the addresses, the successor of a rank that died may take its place.
      for (int rank = 1; options_.rank == 0 && rank < options_.size; ++rank)
        if (!alive(seat(rank)->socket)) {
          seat(rank).reset();
          ++missing;
        }
    } while (missing > 0);
    if (missing == 0) return;
    std::string names;
    int first = -1;
    for (int rank = options_.rank + 1; rank < options_.size; ++rank) {
      if (seat(rank)) continue;
      if (first < 0) first = rank;
      names += (names.empty() ? "" : ", ") + std::to_string(rank);
    }
    throw Timeout(first, "", "forming the job", me_.waited(),
                  "rank(s) " + names + " did not connect to " + describe(acceptor_.local_endpoint()) +
                      door.turned_away());
  }

  /// Rank 0 hears where each rank listens, then tells everyone.
  void tell_addresses() {
    auto const lost = [this](int rank, error_code error) {
      throw PeerLost(rank, seat(rank)->where, "forming the job", me_.waited(), error.message());
    };
    std::vector<Address> table(seats_.size());
    for (int rank = 1; rank < options_.size; ++rank) {
      Address& there = table[static_cast<std::size_t>(rank)];
      Socket& socket = seat(rank)->socket;
      if (auto const error = read_until(home_, socket, &there, 1, me_.deadline)) lost(rank, error);
      error_code ignored;
      auto const remote = socket.remote_endpoint(ignored);
      if (there.host[0] == 0) put_text(there.host, remote.address().to_string());
      seat(rank)->where = describe(get_text(there.host), there.port);
    }
    for (int rank = 1; rank < options_.size; ++rank)
      if (auto const error = write_until(home_, seat(rank)->socket, table.data(), table.size(), me_.deadline))
        lost(rank, error);
  }

  /// Moves a socket to the endpoint's own io_context; handshakes that are still open end with this one's.
  Seat take(Socket socket, std::string where) {
    auto const protocol = socket.local_endpoint().protocol();
    return {Socket(home_, protocol, socket.release()), std::move(where)};
  }

  static bool alive(Socket& socket) {
    ::pollfd state{socket.native_handle(), POLLRDHUP, 0};
    return ::poll(&state, 1, 0) == 0;
  }

  TcpOptions const& options_;
  asio::io_context& home_;
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  asio::ip::address bind_;
  Identity me_;
  std::vector<std::optional<Seat>> seats_;
};

}  // namespace elastic::transport::detail
