// SPDX-License-Identifier: Apache-2.0
// Forms the job: everyone meets rank 0, learns where the others are, and connects to every lower rank.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_accept.hpp"
#include "elastic/transport/detail/tcp_connect.hpp"
#include "elastic/transport/detail/tcp_identity.hpp"
#include "elastic/transport/tcp_options.hpp"

namespace elastic::transport::detail {

/// One formed link; `where` is for messages.
struct Seat {
  Channel channel;
  std::string where;
};

/// The links of one rank while they form; index = rank, empty at its own.
class Mesh {
 public:
  Mesh(TcpOptions const& options, Identity& me, asio::io_context& home)
      : options_(options), home_(home), acceptor_(io_), me_(me), seats_(std::size_t(options.size)) {}

  std::vector<std::optional<Seat>> form() && {
    if (options_.size == 1) return std::move(seats_);
    listen(acceptor_, options_, me_);
    if (options_.rank > 0) meet_lower_ranks();
    if (options_.rank + 1 < options_.size) admit_higher_ranks();
    if (options_.rank == 0) tell_addresses();
    return std::move(seats_);
  }

 private:
  std::optional<Seat>& seat(int rank) { return seats_[static_cast<std::size_t>(rank)]; }

  void meet_lower_ranks() {
    using namespace std::chrono_literals;
    auto const bind = bind_address(options_, me_);
    std::string const where0 = describe(options_.host, options_.port);
    auto const find0 = [&](std::string& why) {
      auto ends = find_rank0(options_, me_, why);
      for (Endpoint const& end : ends) demand_route(options_, end, bind);
      return ends;
    };
    Channel first = connect_link(io_, me_, 0, where0, RetryPauses(2ms, 250ms), find0).channel;
    Address mine;
    put_text(mine.host, bind.is_unspecified() ? "" : bind.to_string());
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
      auto link =
          connect_link(io_, me_, rank, where, RetryPauses(2ms, 250ms), [&](std::string&) { return ends; });
      seat(rank) = take(std::move(link.channel), where);
    }
  }

  void admit_higher_ranks() {
    int missing = options_.size - 1 - options_.rank;
    Door door(
        io_, acceptor_, me_,
        [this](Hello const& hello) -> Ruling {
          if (auto const reason = differs(hello, me_.hello); !reason.empty()) return {reason};
          if (hello.rank <= options_.rank || hello.rank >= options_.size)
            return {"rank " + std::to_string(hello.rank) + " does not join here"};
          if (seat(hello.rank) && alive(seat(hello.rank)->channel.socket()))
            return {"rank " + std::to_string(hello.rank) + " is taken"};
          return {{}, hello.rank};
        },
        [this, &missing](Hello const&, int rank, Channel&& channel) {
          if (!seat(rank)) --missing;
          error_code ignored;
          std::string const where = describe(channel.socket().remote_endpoint(ignored));
          seat(rank) = take(std::move(channel), where);
        });
    io_.restart();
    do {
      while (missing > 0 && io_.run_one_until(me_.deadline) != 0) {
      }
      if (missing > 0) break;
      // Before rank 0 has told the addresses, the successor of a rank that died may take its place.
      for (int rank = 1; options_.rank == 0 && rank < options_.size; ++rank)
        if (!alive(seat(rank)->channel.socket())) {
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
      Channel& channel = seat(rank)->channel;
      if (auto const error = read_until(home_, channel, &there, 1, me_.deadline)) lost(rank, error);
      error_code ignored;
      auto const remote = channel.socket().remote_endpoint(ignored);
      if (there.host[0] == 0) put_text(there.host, remote.address().to_string());
      seat(rank)->where = describe(get_text(there.host), there.port);
    }
    for (int rank = 1; rank < options_.size; ++rank)
      if (auto const error =
              write_until(home_, seat(rank)->channel, table.data(), table.size(), me_.deadline))
        lost(rank, error);
  }

  /// On the endpoint's own io_context; handshakes that are still open end with this one's.
  Seat take(Channel channel, std::string where) { return {std::move(channel).on(home_), std::move(where)}; }

  TcpOptions const& options_;
  asio::io_context& home_;
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  Identity& me_;
  std::vector<std::optional<Seat>> seats_;
};

}  // namespace elastic::transport::detail
