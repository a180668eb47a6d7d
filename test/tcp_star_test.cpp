// SPDX-License-Identifier: Apache-2.0
// A star over TCP: ranks come, go and come back while rank 0 runs.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "elastic/transport/tcp.hpp"
#include "support/catch.hpp"
#include "support/tcp_by_hand.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using namespace std::chrono_literals;
using namespace support;
using Catch::Matchers::ContainsSubstring;

TcpOptions star(int rank, int size, std::uint16_t port) {
  auto o = options(rank, size, port);
  o.star = true;
  return o;
}

wire::Hello star_hello(int rank, int size, std::uint64_t incarnation) {
  auto h = hello(rank, size);
  h.star = 1;
  h.incarnation = incarnation;
  return h;
}

/// A client that never answers, as rank 0 sees it.
asio::ip::tcp::socket silent_client(asio::io_context& io, int rank, int size, std::uint16_t port,
                                    std::uint64_t incarnation) {
  auto socket = knock(io, port);
  if (auto const why = shake(socket, star_hello(rank, size, incarnation)); !why.empty())
    throw std::runtime_error(why);
  return socket;
}

void say(Tcp& net, int peer, int value) { net.send(Span<int const>(&value, 1), peer, 1); }

int hear(Tcp& net, int peer) {
  int value = -1;
  net.receive(Span<int>(&value, 1), peer, 1);
  return value;
}

/// What rank 0's next wait_message() is: the message's value, with its source, or the PeerLost's text.
struct News {
  int source = -1;
  int value = -1;
  std::string lost;
};
News news(Tcp& net) {
  try {
    Envelope const e = net.wait_message();
    return {e.source, hear(net, e.source), {}};
  } catch (PeerLost const& lost) {
    return {lost.peer(), -1, lost.what()};
  }
}

TEST_CASE("rank 0 of a star starts alone; clients come and go and get the lowest free place", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 4, port));
  CHECK(server.rank() == 0);
  CHECK(server.incarnation(1) == 0);
  CHECK_THAT(message_of<PeerLost>([&] { say(server, 1, 5); }), ContainsSubstring("send with rank 1"));
  auto first = std::make_unique<Tcp>(star(-1, 4, port));
  Tcp second(star(-1, 4, port));
  Tcp third(star(3, 4, port));
  CHECK(first->rank() == 1);
  CHECK(second.rank() == 2);
  CHECK(third.rank() == 3);
  for (Tcp* client : {first.get(), &second, &third}) {
    say(*client, 0, 10 + client->rank());
    News const n = news(server);
    CHECK(n.source == client->rank());
    CHECK(n.value == 10 + client->rank());
    say(server, client->rank(), 20 + client->rank());
    CHECK(hear(*client, 0) == 20 + client->rank());
  }
  auto const before = server.incarnation(1);
  say(*first, 0, 99);
  first.reset();  // in good order: no error, and its last message is heard
  News const last = news(server);
  CHECK(last.source == 1);
  CHECK(last.value == 99);
  Tcp successor(star(-1, 4, port));
  CHECK(successor.rank() == 1);
  say(successor, 0, 7);
  CHECK(news(server).value == 7);
  CHECK(server.incarnation(1) != before);
  CHECK(server.incarnation(1) != 0);
}

TEST_CASE("a star refuses what it cannot do and says what to do", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 3, port));
  Tcp client(star(1, 3, port));
  float x = 1;
  for (Tcp* net : {&server, &client}) {
    CHECK_THAT(message_of<ConfigError>([&] { net->all_reduce(Span<float>(&x, 1)); }),
               ContainsSubstring("all_reduce") && ContainsSubstring("star = false"));
    CHECK_THAT(message_of<ConfigError>([&] { net->barrier(); }), ContainsSubstring("star = false"));
    CHECK_THAT(message_of<ConfigError>([&] { net->broadcast(Span<float>(&x, 1), 0); }),
               ContainsSubstring("star = false"));
    CHECK_THAT(message_of<ConfigError>([&] { net->team(2); }), ContainsSubstring("star = false"));
  }
  CHECK_THAT(message_of<ConfigError>([&] { say(client, 2, 1); }),
             ContainsSubstring("rank 0 only, not rank 2") && ContainsSubstring("star = false"));
  CHECK_THAT(message_of<ConfigError>([&] { server.rejoin(); }), ContainsSubstring("rejoin"));
  CHECK_THROWS_AS(server.incarnation(3), ConfigError);
}

TEST_CASE("who cannot belong to a star is refused for good", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 3, port));
  Tcp holder(star(1, 3, port));
  auto const refused = [&](auto change, std::string const& text) {
    auto o = star(2, 3, port);
    change(o);
    CHECK_THAT(message_of<ConfigError>([&] { Tcp net(o); }),
               ContainsSubstring("rank 0 on 127.0.0.1:") && ContainsSubstring(text));
  };
  refused([](auto& o) { o.job = "other"; }, "'elastic', not 'other'");
  refused([](auto& o) { o.size = 4; }, "3 ranks, not 4");
  refused([](auto& o) { o.secret = "correct horse battery staple"; }, "secret");
  refused([](auto& o) { o.rank = 1; }, "place 1 is taken by another live process");
  auto mesh = options(2, 3, port);
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(mesh); }), ContainsSubstring("star = true"));
  Tcp second(star(2, 3, port));
  auto late = star(-1, 3, port);
  late.timeout = 100ms;
  CHECK_THAT(message_of<Timeout>([&] { Tcp net(late); }), ContainsSubstring("all 2 places are taken"));
}

TEST_CASE("a star tells a wrong secret from none at once", "[tcp][star]") {
  auto const port = transport::free_port();
  auto mine = star(0, 2, port);
  mine.secret = "correct horse battery staple";
  Tcp server(mine);
  auto theirs = star(1, 2, port);
  theirs.secret = "incorrect horse battery";
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(theirs); }), ContainsSubstring("another secret"));
  theirs.secret = mine.secret;
  Tcp client(theirs);
  say(client, 0, 3);
  CHECK(news(server).value == 3);
}

TEST_CASE("a killed client is reported once, then its place goes to another process", "[tcp][star][fork]") {
  auto const port = transport::free_port();
  auto const client = [&](int value) {
    return std::make_unique<Understudy>(star(1, 3, port), [value](Tcp& net) {
      say(net, 0, value);
      hear(net, 0);
      return true;
    });
  };
  auto const next_client = client(3);
  pid_t const victim = client(1)->start();
  pid_t const witness = fork_rank(star(2, 3, port), [](Tcp& net) {
    say(net, 0, 2);
    return hear(net, 0) == 22;
  });
  Tcp server(star(0, 3, port));
  std::set<int> const both{news(server).value, news(server).value};
  CHECK(both == std::set<int>{1, 2});
  auto const before = server.incarnation(1);
  kill(victim, SIGKILL);
  CHECK(status_of(victim) == 128 + SIGKILL);
  pid_t const successor = next_client->start();  // comes before the loss was reported
  News const lost = news(server);
  CHECK(lost.source == 1);
  CHECK_THAT(lost.lost, ContainsSubstring("waiting for a message with rank 1 on 127.0.0.1:"));
  News const next = news(server);
  CHECK(next.source == 1);
  CHECK(next.value == 3);
  CHECK(server.incarnation(1) != before);
  CHECK_FALSE(server.probe().has_value());
  say(server, 1, 33);
  say(server, 2, 22);
  CHECK(status_of(successor) == 0);
  CHECK(status_of(witness) == 0);
}

TEST_CASE("rank 0 of a star waits for ranks to come", "[tcp][star]") {
  auto mine = star(0, 2, transport::free_port());
  mine.timeout = 100ms;
  Tcp server(mine);
  CHECK_THROWS_AS(server.wait_message(), Timeout);
  { Tcp client(star(1, 2, mine.port)); }
  CHECK_THROWS_AS(server.wait_message(), Timeout);
}

TEST_CASE("clients outlive rank 0 and rejoin its successor", "[tcp][star][fork]") {
  auto const port = transport::free_port();
  auto const serve = [&](std::uint64_t generation) {
    auto o = star(0, 3, port);
    o.generation = generation;
    return std::make_unique<Understudy>(o, [](Tcp& net) {
      for (;;) {
        News const n = news(net);
        if (n.value == 0) return true;
        if (n.value > 0) say(net, n.source, 2 * n.value);
      }
    });
  };
  auto const second_server = serve(5), old_server = serve(3);
  pid_t const first = serve(4)->start();
  Tcp client(star(1, 3, port));
  CHECK(client.generation() == 4);
  say(client, 0, 21);
  CHECK(hear(client, 0) == 42);
  kill(first, SIGKILL);
  CHECK(status_of(first) == 128 + SIGKILL);
  CHECK_THAT(message_of<PeerLost>([&] { hear(client, 0); }), ContainsSubstring("receive with rank 0"));
  CHECK_THROWS_AS(say(client, 0, 1), PeerLost);
  pid_t const second = second_server->start();
  client.rejoin();
  CHECK(client.rank() == 1);
  CHECK(client.generation() == 5);
  say(client, 0, 4);
  CHECK(hear(client, 0) == 8);
  client.rejoin();  // a working connection is replaced as well
  say(client, 0, 5);
  CHECK(hear(client, 0) == 10);
  kill(second, SIGKILL);
  CHECK(status_of(second) == 128 + SIGKILL);
  CHECK_THROWS_AS(hear(client, 0), PeerLost);
  pid_t const old = old_server->start();
  CHECK_THAT(message_of<ConfigError>([&] { client.rejoin(); }),
             ContainsSubstring("generation 3") && ContainsSubstring("generation 5"));
  {
    Tcp last(star(2, 3, port));
    say(last, 0, 0);
  }
  CHECK(status_of(old) == 0);
}

TEST_CASE("rejoin gives up at the deadline", "[tcp][star]") {
  auto const port = transport::free_port();
  auto server = std::make_unique<Tcp>(star(0, 2, port));
  auto mine = star(1, 2, port);
  mine.timeout = 200ms;
  Tcp client(mine);
  say(client, 0, 1);
  CHECK(news(*server).value == 1);
  server.reset();
  CHECK_THAT(message_of<PeerLost>([&] { hear(client, 0); }), ContainsSubstring("left the job"));
  CHECK_THAT(message_of<Timeout>([&] { client.rejoin(); }),
             ContainsSubstring("rank 0 on 127.0.0.1:") && ContainsSubstring("refused (after 0."));
}

TEST_CASE("a half-open connection gives way to a new one of the same process", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 2, port));
  asio::io_context io;
  auto old = silent_client(io, 1, 2, port, 77);
  auto stranger = knock(io, port);
  CHECK_THAT(shake(stranger, star_hello(1, 2, 78)), ContainsSubstring("taken"));
  int value = 0;
  auto pending = server.start_receive(Span<int>(&value, 1), 1, 1);
  auto again = silent_client(io, 1, 2, port, 77);
  CHECK_THAT(message_of<PeerLost>([&] { pending.wait(); }), ContainsSubstring("came back"));
  struct {
    wire::Header header{.kind = wire::Kind::eager, .tag = 1, .length = 4, .id = 1, .total = 4};
    int value = 12;
  } const message;
  asio::write(again, asio::buffer(&message, sizeof(wire::Header) + 4));
  CHECK_THAT(news(server).lost, ContainsSubstring("came back over a new connection"));
  CHECK(news(server).value == 12);
  CHECK(server.incarnation(1) == 77);
}

TEST_CASE("a client's abort is its own, rank 0's is everybody's", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 3, port));
  Tcp survivor(star(2, 3, port));
  {
    Tcp failing(star(1, 3, port));
    failing.abort("its data is gone");
    CHECK_THROWS_AS(say(failing, 0, 1), Aborted);
    CHECK_THROWS_AS(failing.rejoin(), Aborted);
  }
  CHECK_THAT(news(server).lost, ContainsSubstring("rank 1") && ContainsSubstring("its data is gone"));
  say(survivor, 0, 6);
  CHECK(news(server).value == 6);
  server.abort("enough");
  CHECK_THAT(message_of<Aborted>([&] { hear(survivor, 0); }), ContainsSubstring("enough"));
  auto late = star(1, 3, port);
  late.timeout = 100ms;
  CHECK_THAT(message_of<Timeout>([&] { Tcp net(late); }), ContainsSubstring("enough"));
}

TEST_CASE("strangers cost a running star nothing", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 3, port));
  Tcp client(star(1, 3, port));
  asio::io_context io;
  std::vector<asio::ip::tcp::socket> strangers;
  for (int k = 0; k < 40; ++k) {
    strangers.push_back(knock(io, port));
    if (k % 2 == 0) put(strangers.back(), std::array<char, 200>{'G', 'E', 'T', ' ', '/'});
  }
  Tcp second(star(-1, 3, port));
  CHECK(second.rank() == 2);
  say(client, 0, 1);
  CHECK(news(server).value == 1);
  say(second, 0, 2);
  CHECK(news(server).value == 2);
}

TEST_CASE("more silent strangers than are heard at once do not keep a rank waiting", "[tcp][star]") {
  auto const port = transport::free_port();
  Tcp server(star(0, 2, port));
  asio::io_context io;
  std::vector<asio::ip::tcp::socket> strangers;
  for (int k = 0; k < 2 * wire::Door::crowd_limit; ++k) {
    strangers.push_back(knock(io, port));
    if (k % 2 == 0) put(strangers.back(), wire::wire_magic);
  }
  auto mine = star(1, 2, port);
  mine.timeout = 2s;  // less than silence is borne
  Tcp client(mine);
  say(client, 0, 1);
  CHECK(news(server).value == 1);
}

TEST_CASE("a thousand clients of one rank 0 stay served", "[tcp][star]") {
  constexpr int clients = 1000;
  auto const port = transport::free_port();
  auto mine = star(0, clients + 1, port);
  Tcp server(mine);
  asio::io_context io;
  std::vector<asio::ip::tcp::socket> idle;
  for (int k = 1; k < clients; ++k)
    idle.push_back(silent_client(io, k, clients + 1, port, static_cast<std::uint64_t>(k) + 1000));
  Tcp busy(star(-1, clients + 1, port));
  CHECK(busy.rank() == clients);
  for (int k = 0; k < 100; ++k) {
    say(busy, 0, k);
    CHECK(news(server).value == k);
    say(server, clients, k + 1);
    CHECK(hear(busy, 0) == k + 1);
  }
  idle.clear();
  std::set<int> lost;
  while (lost.size() + 1 < clients) lost.insert(news(server).source);
  CHECK(lost.count(clients) == 0);
  say(busy, 0, 5);
  CHECK(news(server).value == 5);
}

TEST_CASE("a star that needs more open files than it may have says so", "[tcp][star][fork]") {
  pid_t const child = fork();
  if (child == 0) {
    rlimit const low{64, 512};
    setrlimit(RLIMIT_NOFILE, &low);
    std::string what;
    {
      Tcp small(star(0, 32, transport::free_port()));  // raises the soft limit
      what = message_of<ConfigError>([] { Tcp big(star(0, 5000, transport::free_port())); });
    }
    _exit(what.find("RLIMIT_NOFILE") != std::string::npos && what.find("5320") != std::string::npos ? 0 : 1);
  }
  CHECK(status_of(child) == 0);
}

}  // namespace
