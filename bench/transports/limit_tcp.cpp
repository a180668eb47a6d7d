// SPDX-License-Identifier: Apache-2.0
// What the kernel's loopback allows: raw non-blocking sockets, polled, both ways at once, without any layer, check or
// deadline. bench/transports/run compares transport::Tcp with them.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>

#include <cerrno>

#include "rank.hpp"

namespace {

constexpr std::size_t small = 16384;            // bytes up to which everybody sends everything to everybody
constexpr std::size_t call_bytes = 256 * 1024;  // of one send or recv: what a cache keeps until it is added
constexpr std::size_t window = std::size_t(1) << 20;  // what may wait between two stages of a stream

[[noreturn]] void fail(char const* what) { throw std::system_error(errno, std::generic_category(), what); }

/// Two ends of a TCP connection over loopback.
std::pair<int, int> connected() {
  int const listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, at, length) != 0 || ::listen(listener, 1) != 0 ||
      ::getsockname(listener, at, &length) != 0)
    fail("listen");
  int const one_end = ::socket(AF_INET, SOCK_STREAM, 0);
  int const on = 1, buffer = 4 << 20;
  for (int const s : {listener, one_end}) {
    ::setsockopt(s, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    ::setsockopt(s, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  }
  if (::connect(one_end, at, length) != 0) fail("connect");
  int const other_end = ::accept(listener, nullptr, nullptr);
  ::close(listener);
  for (int const s : {one_end, other_end}) ::setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return {one_end, other_end};
}

class Bare {
 public:
  Bare(std::vector<int> sockets, int rank, int ranks)
      : sockets_(std::move(sockets)),
        rank_(rank),
        ranks_(ranks),
        crowded_(ranks > ::sysconf(_SC_NPROCESSORS_ONLN)),
        patience_(crowded_ ? 2 * static_cast<std::size_t>(ranks) : 500),
        stage_(static_cast<std::size_t>(ranks) * window / 4) {}

  /// Everybody sends all to all and adds in rank order: one latency.
  void small_sum(float* x, std::size_t n) {
    std::size_t const bytes = n * 4;
    auto const all = static_cast<std::size_t>(ranks_);
    std::vector<std::size_t>&sent = sent_, &got = got_;
    sent.assign(all, 0);
    got.assign(all, 0);
    for (std::size_t left = 2 * (all - 1) * bytes; left > 0; give_way())
      for (std::size_t r = 0; r < all; ++r) {
        if (r == static_cast<std::size_t>(rank_)) continue;
        std::size_t const out = put(sockets_[r], as_bytes(x) + sent[r], bytes - sent[r]);
        std::size_t const in = get(sockets_[r], stage(r) + got[r], bytes - got[r]);
        sent[r] += out;
        got[r] += in;
        left -= out + in;
      }
    std::copy_n(x, n, floats(static_cast<std::size_t>(rank_)));
    std::copy_n(floats(0), n, x);
    for (std::size_t r = 1; r < all; ++r) {
      float const* const y = floats(r);
      for (std::size_t i = 0; i < n; ++i) x[i] += y[i];
    }
  }

  /// Two ranks: each sends all of its own and adds what comes in where its own has left.
  void whole(float* x, std::size_t n) {
    if (n * 4 <= small) return small_sum(x, n);
    int const peer = sockets_[static_cast<std::size_t>(1 - rank_)];
    std::size_t const bytes = n * 4;
    std::size_t sent = 0, got = 0, added = 0;
    for (; sent < bytes || added < bytes; give_way()) {
      sent += put(peer, as_bytes(x) + sent, bytes - sent);
      got += into_window(peer, stage(0), got, added, bytes);
      std::size_t const until = std::min(sent, got) / 4;
      std::size_t const first = added / 4;
      float const* const y = floats(0);
      for (std::size_t i = first; i < until;) {
        std::size_t const at = i % (window / 4), run = std::min(until - i, window / 4 - at);
        for (std::size_t k = 0; k < run; ++k) x[i + k] += y[at + k];
        i += run;
      }
      added = std::max(added, until * 4);
    }
  }

  /// Rank j sums share j as the others' parts come in, and streams the sums back behind the parts it still sends.
  void shares(float* x, std::size_t n) {
    if (n * 4 <= small) return small_sum(x, n);
    struct Stream {
      std::size_t sent = 0, got = 0;  // parts of the sums' owner first, then sums
    };
    auto const all = static_cast<std::size_t>(ranks_), me = static_cast<std::size_t>(rank_);
    auto const first = [&](std::size_t r) { return r == all ? n : n / all * r; };
    std::vector<Stream> streams(all);
    float* const own = x + first(me);
    std::size_t const own_bytes = (first(me + 1) - first(me)) * 4;
    std::size_t summed = 0;
    for (bool busy = true; busy; give_way()) {
      busy = summed < own_bytes;
      std::size_t ready = own_bytes;
      for (std::size_t r = 0; r < all; ++r) {
        if (r == me) continue;
        Stream& s = streams[r];
        std::size_t const part = (first(r + 1) - first(r)) * 4;
        if (s.sent < part) {
          s.sent += put(sockets_[r], as_bytes(x + first(r)) + s.sent, part - s.sent);
        } else {
          s.sent += put(sockets_[r], as_bytes(own) + (s.sent - part), summed - (s.sent - part));
        }
        if (s.got < own_bytes) {
          s.got += into_window(sockets_[r], stage(r), s.got, summed, own_bytes);
        } else {
          s.got += get(sockets_[r], as_bytes(x + first(r)) + (s.got - own_bytes), part - (s.got - own_bytes));
        }
        ready = std::min(ready, s.got);
        busy = busy || s.sent < part + own_bytes || s.got < own_bytes + part;
      }
      for (std::size_t i = summed / 4; i < ready / 4;) {
        std::size_t const at = i % (window / 4), run = std::min(ready / 4 - i, window / 4 - at);
        add_in_rank_order(own + i, at, run);
        i += run;
      }
      summed = std::max(summed, ready / 4 * 4);
    }
  }

  /// Rank 0 holds the center: streams it, and adds the deltas that come back. Rank 1 asks, moves, streams back.
  void exchange(float* x, std::size_t n) {
    int const peer = sockets_[static_cast<std::size_t>(1 - rank_)];
    std::size_t const bytes = n * 4;
    std::size_t sent = 0, got = 0, done = 0;
    char request[24] = {};
    if (rank_ == 0) {
      for (std::size_t in = 0; in < sizeof request; give_way())
        in += get(peer, request + in, sizeof request - in);
      for (; sent < bytes || done < bytes; give_way()) {
        sent += put(peer, as_bytes(x) + sent, bytes - sent);
        got += into_window(peer, stage(0), got, done, bytes);
        done = over_window(done, got, [&](std::size_t i, std::size_t at, std::size_t run) {
          float const* const d = floats(0) + at;
          for (std::size_t k = 0; k < run; ++k) x[i + k] += d[k];
        });
      }
    } else {
      for (std::size_t out = 0; out < sizeof request; give_way())
        out += put(peer, request + out, sizeof request - out);
      for (; sent < bytes; give_way()) {
        got += into_window(peer, stage(0), got, sent, bytes);
        done = over_window(done, got, [&](std::size_t i, std::size_t at, std::size_t run) {
          float* __restrict const cd = floats(0) + at, * __restrict const y = x + i;
          for (std::size_t k = 0; k < run; ++k) {
            float const d = 0.25f * (y[k] - cd[k]);
            y[k] -= d;
            cd[k] = d;
          }
        });
        std::size_t const at = sent % window;
        sent += put(peer, stage(0) + at, std::min(done - sent, window - at));
      }
    }
  }

  /// Only the bytes of an exchange, both ways at once.
  void stream(float* x, std::size_t n) {
    int const peer = sockets_[static_cast<std::size_t>(1 - rank_)];
    std::size_t const bytes = n * 4;
    for (std::size_t sent = 0, got = 0; sent < bytes || got < bytes; give_way()) {
      sent += put(peer, as_bytes(x) + sent, bytes - sent);
      got += into_window(peer, stage(0), got, got, bytes);
    }
  }

 private:
  /// Bytes moved by one non-blocking call, 0 if there is nothing to move.
  std::size_t moved(ssize_t n, int socket, short event) {
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) fail("socket");
    if (n > 0) {
      fruitless_.clear();
      return static_cast<std::size_t>(n);
    }
    if (fruitless_.size() < 20 * patience_) fruitless_.push_back({socket, event, 0});
    return 0;
  }
  std::size_t put(int socket, void const* data, std::size_t bytes) {
    if (bytes == 0) return 0;
    return moved(::send(socket, data, std::min(bytes, call_bytes), MSG_DONTWAIT | MSG_NOSIGNAL), socket,
                 POLLOUT);
  }
  std::size_t get(int socket, void* data, std::size_t bytes) {
    if (bytes == 0) return 0;
    return moved(::recv(socket, data, std::min(bytes, call_bytes), MSG_DONTWAIT), socket, POLLIN);
  }

  static char* as_bytes(float* x) { return reinterpret_cast<char*>(x); }
  float* floats(std::size_t r) { return stage_.data() + r * window / 4; }
  char* stage(std::size_t r) { return as_bytes(floats(r)); }
  /// Lets others run after many calls that moved nothing; ranks that outnumber the cores sleep in the end until one
  /// can.
  void give_way() {
    if (fruitless_.size() <= patience_) return;
    if (!crowded_ || fruitless_.size() < 20 * patience_) {
      ::sched_yield();
      return;
    }
    ::poll(fruitless_.data(), patience_, 100);
    fruitless_.clear();
  }

  /// Receives what fits of `total` bytes into a ring of `window` bytes whose bytes before `used` are free again.
  std::size_t into_window(int socket, char* ring, std::size_t got, std::size_t used, std::size_t total) {
    std::size_t const at = got % window;
    return get(socket, ring + at, std::min({total - got, window - at, used + window - got}));
  }
  /// f(first float, its place in the ring, count) for the whole floats in [done, got); the new `done`.
  template <class F>
  static std::size_t over_window(std::size_t done, std::size_t got, F f) {
    std::size_t const until = got / 4;
    for (std::size_t i = done / 4; i < until;) {
      std::size_t const at = i % (window / 4), run = std::min(until - i, window / 4 - at);
      f(i, at, run);
      i += run;
    }
    return until * 4;
  }
  void add_in_rank_order(float* own, std::size_t at, std::size_t count) {
    if (ranks_ == 2) {
      float const* const y = floats(static_cast<std::size_t>(1 - rank_)) + at;
      for (std::size_t k = 0; k < count; ++k) own[k] += y[k];
      return;
    }
    std::copy_n(own, count, floats(static_cast<std::size_t>(rank_)) + at);
    std::copy_n(floats(0) + at, count, own);
    for (int r = 1; r < ranks_; ++r) {
      float const* const y = floats(static_cast<std::size_t>(r)) + at;
      for (std::size_t k = 0; k < count; ++k) own[k] += y[k];
    }
  }

  std::vector<int> sockets_;
  int rank_, ranks_;
  bool crowded_;
  std::size_t patience_;
  std::vector<pollfd> fruitless_;  // calls since the last one that moved something
  bench::Floats stage_;
  std::vector<std::size_t> sent_, got_;
};

}  // namespace

int main(int argc, char** argv) {
  std::string const group = bench::argument(argc, argv, "group");
  int const ranks = std::stoi(bench::argument(argc, argv, "ranks", "2"));
  auto const all = static_cast<std::size_t>(ranks);
  std::vector<std::vector<int>> sockets(all, std::vector<int>(all, -1));
  for (std::size_t i = 0; i < all; ++i)
    for (std::size_t j = 0; j < i; ++j) std::tie(sockets[i][j], sockets[j][i]) = connected();

  return bench::fork_ranks(ranks, [&](int rank) {
    Bare bare(sockets[static_cast<std::size_t>(rank)], rank, ranks);
    bench::Cases cases;
    auto const summing = [&](auto sum) {
      return [&bare, rank, ranks, sum](std::size_t bytes) {
        auto const x = std::make_shared<bench::Floats>(bytes / 4);
        return bench::Case{
            [=] { bench::fill(x->data(), x->size(), rank); },
            [=, &bare] { (bare.*sum)(x->data(), x->size()); },
            [=](int calls) { return bench::is_all_reduced(x->data(), x->size(), ranks, calls); },
            bench::all_reduces_in_range(ranks)};
      };
    };
    auto const moving = [&](auto move) {
      return [&bare, rank, move](std::size_t bytes) {
        auto const x = std::make_shared<bench::Floats>(bytes / 4);
        return bench::Case{[=] { bench::fill(x->data(), x->size(), rank); },
                           [=, &bare] { (bare.*move)(x->data(), x->size()); },
                           {},
                           100,
                           [=] { return bench::sum(x->data(), x->size()); }};
      };
    };
    if (ranks == 2) {
      cases["whole"] = summing(&Bare::whole);
      cases["exchange"] = moving(&Bare::exchange);
      cases["stream"] = moving(&Bare::stream);
    }
    cases["shares"] = summing(&Bare::shares);
    bench::serve(group, rank, ranks, cases);
  });
}
