// SPDX-License-Identifier: Apache-2.0
// A link that is cut in the middle of a message, without a word to either end: in a network namespace of this
// process, where the loopback can be taken down. Apart from the other tests because it needs that namespace.
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "elastic/transport/tcp.hpp"
#include "support/catch.hpp"
#include "support/tcp_by_hand.hpp"

namespace {

using namespace elastic;
using namespace std::chrono_literals;
using namespace support;
using Catch::Matchers::ContainsSubstring;

/// Takes the loopback of this process's namespace up or down; what went wrong, or nothing.
std::string set_link(bool up) {
  int const any = ::socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = static_cast<short>(up ? IFF_UP | IFF_RUNNING : 0);
  int const result = ::ioctl(any, SIOCSIFFLAGS, &request);
  std::string const why = result == 0 ? "" : std::string("the loopback: ") + std::strerror(errno);
  ::close(any);
  return why;
}

/// A network of this process alone, with its loopback up; once, before threads start.
std::string const& no_network() {
  static std::string const why = []() -> std::string {
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
      return std::string("a network namespace: ") + std::strerror(errno);
    return set_link(true);
  }();
  return why;
}

bool possible() {
  if (no_network().empty()) return true;
  std::cout << "skipped: this machine refuses " << no_network() << std::endl;
  return false;
}

/// Moves large messages both ways until something breaks; what did.
std::string exchange_until_cut(Tcp& net, int peer) {
  std::vector<float> out(3'000'000, 1.25f), in(out.size());
  try {
    for (;;) {
      auto receiving = net.start_receive(Span<float>(in), peer, 1);
      net.send(Span<float const>(out), peer, 1);
      receiving.wait();
      if (net.rank() == 0) set_link(false);  // the next message is under way at the other end
    }
  } catch (Timeout const& e) {
    return e.what();
  } catch (PeerLost const& e) {
    return e.what();
  }
}

TEST_CASE("a link of a mesh that is cut is an error on both ends, within the deadline", "[tcp][cut][fork]") {
  if (!possible()) return;
  auto const port = transport::free_port();
  auto theirs = options(1, 2, port);
  theirs.timeout = 2s;
  pid_t const other = fork_rank(theirs, [](Tcp& net) {
    std::string const what = exchange_until_cut(net, 0);
    return what.find("rank 0 on 127.0.0.1:") != std::string::npos;
  });
  auto mine = theirs;
  mine.rank = 0;
  {
    Tcp net(mine);
    CHECK_THAT(exchange_until_cut(net, 1), ContainsSubstring("rank 1 on 127.0.0.1:"));
  }
  CHECK(status_of(other) == 0);
  CHECK(set_link(true) == "");
}

TEST_CASE("a client of a star comes back when the cut is healed", "[tcp][cut][star][fork]") {
  if (!possible()) return;
  auto const port = transport::free_port();
  auto theirs = options(1, 2, port);
  theirs.star = true;
  theirs.timeout = 2s;
  pid_t const client = fork_rank(theirs, [](Tcp& net) {
    exchange_until_cut(net, 0);
    for (;;) try {
        net.rejoin();
        break;
      } catch (Timeout const&) {
      }
    net.send(Span<char const>("b", 1), 0, 2);
    char done;
    net.receive(Span<char>(&done, 1), 0, 2);
    return done == 'd';
  });
  auto mine = theirs;
  mine.rank = 0;
  Tcp net(mine);
  Envelope const first = net.wait_message();
  CHECK(first.source == 1);
  CHECK_THAT(exchange_until_cut(net, 1), ContainsSubstring("rank 1 on 127.0.0.1:"));
  CHECK(set_link(true) == "");
  int lost = 0;
  for (char word = 0; word != 'b';) try {
      Envelope const e = net.wait_message();
      if (e.tag != 2) {  // what is left of the old connection
        std::vector<char> rest(e.bytes);
        net.receive(Span<char>(rest), e.source, e.tag);
      } else {
        net.receive(Span<char>(&word, 1), e.source, e.tag);
      }
    } catch (PeerLost const&) {
      ++lost;
    } catch (Timeout const&) {
    }
  CHECK(lost == 1);
  net.send(Span<char const>("d", 1), 1, 2);
  CHECK(status_of(client) == 0);
}

}  // namespace
