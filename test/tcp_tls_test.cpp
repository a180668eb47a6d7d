// SPDX-License-Identifier: Apache-2.0
// What somebody on the path between two ranks can see, change and replay: with TLS and without.
// timeout: 300
#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "conformance/transport.hpp"
#include "elastic/transport/tcp.hpp"
#include "support/catch.hpp"
#include "support/launch_tcp.hpp"
#include "support/tcp_by_hand.hpp"
#include "support/temp_folder.hpp"

/// Stands for Tcp with encrypted links, for the tests that every transport passes.
struct TcpTls;

namespace support {

template <>
struct Launch<TcpTls> : Launch<elastic::transport::Tcp> {
  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    auto const make = [port = elastic::transport::free_port(), n, timeout](int rank) {
      return elastic::transport::Tcp({.port = port,
                                      .rank = rank,
                                      .size = n,
                                      .timeout = timeout,
                                      .secret = "correct horse battery staple",
                                      .tls = true});
    };
    return run_threads(n, make, body);
  }
};

}  // namespace support

namespace {

using namespace elastic;
using namespace std::chrono_literals;
using namespace support;
using Catch::Matchers::ContainsSubstring;

std::string const secret = "correct horse battery staple";

TEST_CASE("tls: messages") { conformance::messages<TcpTls>(); }
TEST_CASE("tls: collectives") { conformance::collectives<TcpTls>(); }
TEST_CASE("tls: traffic") { conformance::traffic<TcpTls>(); }
TEST_CASE("tls: failures") { conformance::failures<TcpTls>(); }

TcpOptions star(int rank, std::uint16_t port, bool tls, std::string const& shared = secret) {
  auto o = options(rank, 2, port);
  o.star = true;
  o.tls = tls;
  o.secret = shared;
  return o;
}

/// Somebody on the path of one connection to `target`: keeps what passes, and may change it.
class Tap {
 public:
  /// `change(to_server, offset, data)` may alter a block before it goes on.
  using Change = std::function<void(bool to_server, std::size_t offset, std::string& data)>;

  explicit Tap(
      std::uint16_t target, Change change = [](bool, std::size_t, std::string&) {})
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}) {
    thread_ = std::jthread([this, target, change](std::stop_token stop) {
      asio::ip::tcp::socket ends[2] = {asio::ip::tcp::socket(io_), asio::ip::tcp::socket(io_)};
      boost::system::error_code error;
      acceptor_.accept(ends[0], error);
      ends[1].connect({asio::ip::make_address("127.0.0.1"), target}, error);
      while (!stop.stop_requested()) {
        std::array<pollfd, 2> wanted{pollfd{ends[0].native_handle(), POLLIN, 0},
                                     pollfd{ends[1].native_handle(), POLLIN, 0}};
        ::poll(wanted.data(), wanted.size(), 20);
        for (std::size_t k : {0u, 1u}) {
          if (wanted[k].revents == 0) continue;
          std::string block(65536, 0);
          block.resize(ends[k].read_some(asio::buffer(block), error));
          if (error) return;
          change(k == 0, passed_[k].size(), block);
          passed_[k] += block;
          asio::write(ends[1 - k], asio::buffer(block), error);
          if (error) return;
        }
      }
    });
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  /// Everything that has passed, when the connection has ended.
  std::array<std::string, 2> const& end() {
    thread_.request_stop();
    thread_.join();
    return passed_;
  }

 private:
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  std::array<std::string, 2> passed_;
  std::jthread thread_;
};

/// 40,000 bytes with a pattern that random ones do not show.
std::string const& payload() {
  static std::string const text = [] {
    std::string t;
    while (t.size() < 40'000) t += "gradient 0.125 of the model; ";
    return t;
  }();
  return text;
}

void exchange(Tcp& server, Tcp& client) {
  std::string got(payload().size(), 0);
  auto receiving = server.start_receive(Span<char>(got.data(), got.size()), 1, 1);
  client.send(Span<char const>(payload().data(), payload().size()), 0, 1);
  receiving.wait();
  CHECK(got == payload());
  server.send(Span<char const>(payload().data(), payload().size()), 1, 2);
  client.receive(Span<char>(got.data(), got.size()), 0, 2);
  CHECK(got == payload());
}

TEST_CASE("who listens on the path sees neither payload nor secret under TLS", "[tcp][tls]") {
  bool const tls = GENERATE(true, false);
  auto const port = transport::free_port();
  Tap tap(port);
  {
    Tcp server(star(0, port, tls));
    Tcp client(star(1, tap.port(), tls));
    while (server.incarnation(1) == 0) std::this_thread::yield();
    exchange(server, client);
  }
  for (std::string const& seen : tap.end()) {
    CHECK(seen.size() > payload().size());
    CHECK((seen.find("gradient") == std::string::npos) == tls);  // plaintext shows it: the search can find it
    CHECK(seen.find(secret) == std::string::npos);
    CHECK(seen.find("battery") == std::string::npos);
  }
}

TEST_CASE("a byte that is changed on the way ends the link under TLS", "[tcp][tls]") {
  bool const to_server = GENERATE(true, false);
  std::size_t const where = GENERATE(std::size_t{5'000}, std::size_t{30'001});
  auto const port = transport::free_port();
  Tap tap(port, [&](bool up, std::size_t offset, std::string& data) {
    if (up == to_server && offset <= where && where < offset + data.size())
      data[where - offset] = static_cast<char>(data[where - offset] ^ 0x10);
  });
  Tcp server(star(0, port, true));
  Tcp client(star(1, tap.port(), true));
  while (server.incarnation(1) == 0) std::this_thread::yield();
  std::string got(payload().size(), 0);
  Tcp& sender = to_server ? client : server;
  Tcp& receiver = to_server ? server : client;
  auto receiving = receiver.start_receive(Span<char>(got.data(), got.size()), sender.rank(), 1);
  auto sending = sender.start_send(Span<char const>(payload().data(), payload().size()), receiver.rank(), 1);
  CHECK_THAT(message_of<PeerLost>([&] { receiving.wait(); }), ContainsSubstring("changed on the way"));
}

TEST_CASE("a handshake that is changed on the way does not join", "[tcp][tls]") {
  bool const tls = GENERATE(true, false);
  bool const to_server = GENERATE(true, false);
  // The job's name, a nonce, TLS or the proof.
  std::size_t const where = GENERATE(std::size_t{60}, std::size_t{120}, std::size_t{200}, std::size_t{250});
  if (!tls && to_server && where >= sizeof(wire::Hello) + sizeof(wire::Bytes32))
    return;  // nothing is said there
  auto const port = transport::free_port();
  auto mine = star(1, 0, tls);
  mine.timeout = 1s;
  Tap tap(port, [&](bool up, std::size_t offset, std::string& data) {
    if (up == to_server && offset <= where && where < offset + data.size())
      data[where - offset] = static_cast<char>(data[where - offset] ^ 0x10);
  });
  mine.port = tap.port();
  Tcp server(star(0, port, tls));
  CHECK_THROWS_AS(Tcp(mine), Error);
  if (to_server) CHECK(server.incarnation(1) == 0);
}

TEST_CASE("TLS on one side only, or with another secret, is refused in a sentence", "[tcp][tls]") {
  auto const port = transport::free_port();
  {
    Tcp server(star(0, port, true));
    CHECK_THAT(message_of<ConfigError>([&] { Tcp net(star(1, port, false)); }),
               ContainsSubstring("rank 0 on 127.0.0.1:") && ContainsSubstring("set tls = true"));
    CHECK_THAT(message_of<ConfigError>([&] { Tcp net(star(1, port, true, "incorrect horse battery")); }),
               ContainsSubstring("another secret"));
    Tcp client(star(1, port, true));
    while (server.incarnation(1) == 0) std::this_thread::yield();
    exchange(server, client);
    client.rejoin();
    CHECK_THROWS_AS(server.wait_message(), PeerLost);
    while (server.incarnation(1) == 0) std::this_thread::yield();
    exchange(server, client);
  }
  Tcp open(star(0, port, false));
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(star(1, port, true)); }),
             ContainsSubstring("demands encryption"));
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(star(0, port, true, "")); }),
             ContainsSubstring("tls=true") && ContainsSubstring("ELASTIC_SECRET_FILE"));
}

TEST_CASE("a recorded handshake is worthless", "[tcp][tls]") {
  bool const tls = GENERATE(true, false);
  auto const port = transport::free_port();
  Tap tap(port);
  Tcp server(star(0, port, tls));
  { Tcp client(star(1, tap.port(), tls)); }
  std::string const recorded = tap.end()[0];
  REQUIRE(recorded.size() > sizeof(wire::Hello) + sizeof(wire::Bytes32));
  CHECK(server.incarnation(1) == 0);
  asio::io_context io;
  auto replay = knock(io, port);
  asio::write(replay, asio::buffer(recorded));
  std::string answer;
  boost::system::error_code error;
  asio::read(replay, asio::dynamic_buffer(answer), error);  // until it is closed
  CHECK(server.incarnation(1) == 0);
  if (!tls) CHECK_THAT(answer, ContainsSubstring("another secret"));
  CHECK(answer.size() < recorded.size() + 1000);
}

}  // namespace
