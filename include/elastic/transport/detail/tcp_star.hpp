// SPDX-License-Identifier: Apache-2.0
// A job around rank 0, whose other ranks come, go and come back while it runs: who may have a place, and when a
// place changes hands. A client knows nothing of the others.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
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

/// Raises this process's soft limit to `count` descriptors, some for visitors and some for the program; throws ConfigError if the
/// hard limit is lower.
inline void demand_descriptors(std::uint64_t count) {
  constexpr std::uint64_t others = 64 + Door::crowd_limit;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= count + others) return;
  rlim_t const soft = limit.rlim_cur;
  limit.rlim_cur = count + others;
  if (limit.rlim_cur <= limit.rlim_max && ::setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
  throw ConfigError("size=" + std::to_string(count) + " needs " + std::to_string(count + others) +
                    " open files, this process may have " + std::to_string(soft) + " and raise it to " +
                    std::to_string(limit.rlim_max) + " (RLIMIT_NOFILE): raise `ulimit -Hn` or lower size");
}

/// A client's link to rank 0, for use on `home`: its place, and the generation it met, are in `me` from now on.
inline Joined join_star(TcpOptions const& options, Identity& me, asio::io_context& home) {
  using namespace std::chrono_literals;
  asio::io_context io;
  me.begin();
  Joined link = connect_link(io, me, 0, describe(options.host, options.port), RetryPauses(10ms, 1s),
                             [&](std::string& why) { return find_rank0(options, me, why); });
  if (link.place < 1 || link.place >= options.size)
    throw ProtocolError(0, link.where, "joining the job", me.waited(),
                        "it gave a wrong place: " + std::to_string(link.place));
  me.hello.rank = link.place;
  me.hello.generation = link.generation;
  link.channel = std::move(link.channel).on(home);
  return link;
}

/// Rank 0's door, open as long as it lives, and those who wait behind it because the program has not heard yet
/// that their place was lost. The engine's mutex guards it.
class Star {
 public:
  /// What rank 0 knows of a place.
  struct Holder {
    std::uint64_t incarnation = 0;  // 0: nobody
    bool alive = false;
  };
  struct Newcomer {
    Channel channel;
    std::string where;
    std::uint64_t incarnation = 0;
  };
  using Look = std::function<Holder(int place)>;
  using Came = std::function<void(int place)>;

  Star(asio::io_context& io, TcpOptions const& options, Identity& me, std::mutex& mutex, Look look, Came came)
      : me_(me),
        mutex_(mutex),
        look_(std::move(look)),
        came_(std::move(came)),
        waiting_(std::size_t(options.size)),
        acceptor_(io) {
    demand_descriptors(waiting_.size());
    listen(acceptor_, options, me_);
    door_.emplace(
        io, acceptor_, me_, [this](Hello const& hello) { return judge(hello); },
        [this](Hello const& hello, int place, Channel&& channel) {
          admit(hello, place, std::move(channel));
        });
  }

  /// Nobody gets in any more; the reason is for those who try.
  void close(std::string why) { closed_ = std::move(why); }

  /// Who waits for this place, if anybody.
  std::optional<Newcomer> take(int place) { return std::exchange(waiting(place), std::nullopt); }

 private:
  std::optional<Newcomer>& waiting(int place) { return waiting_[static_cast<std::size_t>(place)]; }

  /// The process that has the place or waits for it.
  std::uint64_t owner(int place) {
    if (auto& next = waiting(place); next && alive(next->channel.socket())) return next->incarnation;
    Holder const now = look_(place);
    return now.alive ? now.incarnation : 0;
  }

  Ruling judge(Hello const& hello) {
    std::lock_guard const lock(mutex_);
    if (!closed_.empty()) return {closed_, -1, false};
    if (auto const reason = differs(hello, me_.hello); !reason.empty()) return {reason};
    int const places = me_.hello.size;
    if (hello.rank == -1) {
      int free = -1;
      for (int place = places - 1; place > 0; --place) {
        std::uint64_t const who = owner(place);
        if (who == hello.incarnation) return {{}, place};
        if (who == 0) free = place;
      }
      if (free < 0) return {"all " + std::to_string(places - 1) + " places are taken", -1, false};
      return {{}, free};
    }
    if (hello.rank < 1 || hello.rank >= places)
      return {"there is no place " + std::to_string(hello.rank) + ", only 1 to " +
              std::to_string(places - 1)};
    if (std::uint64_t const who = owner(hello.rank); who != 0 && who != hello.incarnation)
      return {"place " + std::to_string(hello.rank) + " is taken by another live process"};
    return {{}, hello.rank};
  }

  void admit(Hello const& hello, int place, Channel&& channel) {
    error_code ignored;
    std::string where = describe(channel.socket().remote_endpoint(ignored));
    std::lock_guard const lock(mutex_);
    if (!closed_.empty()) return;
    waiting(place).emplace(Newcomer{std::move(channel), std::move(where), hello.incarnation});
    came_(place);
  }

  Identity& me_;
  std::mutex& mutex_;
  Look look_;
  Came came_;
  std::vector<std::optional<Newcomer>> waiting_;
  std::string closed_;
  asio::ip::tcp::acceptor acceptor_;
  std::optional<Door> door_;
};

}  // namespace elastic::transport::detail
