// SPDX-License-Identifier: Apache-2.0
// A training whose port is visited all the time by whatever a network has to offer ends with the same bits as one
// that is left in peace.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "elastic/transport/tcp.hpp"
#include "support/catch.hpp"
#include "support/tcp_by_hand.hpp"

namespace {

using namespace elastic;
using namespace std::chrono_literals;
using namespace support;

/// Visits a port until it dies, each time with something else.
class Scanner {
 public:
  Scanner(std::uint16_t port, unsigned seed)
      : port_(port), random_(seed), thread_([this](std::stop_token stop) {
          while (!stop.stop_requested()) visit();
        }) {}
  std::size_t visits() const { return visits_; }

 private:
  template <class T>
  static std::string bytes(T const& value) {
    return {reinterpret_cast<char const*>(&value), sizeof value};
  }
  std::string noise(std::size_t size) {
    std::string text(size, 0);
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }

  std::string greeting() {
    wire::Hello h = hello(static_cast<int>(random_() % 5) - 1, 3);
    h.star = 1;
    h.secured = 1;
    h.incarnation = random_();
    switch (random_() % 10) {
      case 0: return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
      case 1: return std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + noise(508);  // TLS
      case 2: return "SSH-2.0-OpenSSH_9.2\r\n";
      case 3: return noise(random_() % 3000);
      case 4: return bytes(h) + noise(32);  // a wrong proof
      case 5: h.size = 0x7fffffff; return bytes(h) + bytes(wire::Bytes32{});
      case 6: return bytes(h).substr(0, random_() % sizeof h);  // then silence
      case 7:
        return bytes(
            wire::Header{.kind = wire::Kind::fragment, .length = 1u << 20, .id = ~0ull, .total = ~0ull});
      case 8: h.version = 0xffffffff; return bytes(h);
      default: return bytes(wire::wire_magic);
    }
  }

  void visit() {
    boost::system::error_code ignored;
    auto& guest = guests_.emplace_back(io_);
    guest.connect({asio::ip::make_address("127.0.0.1"), port_}, ignored);
    asio::write(guest, asio::buffer(greeting()), ignored);
    switch (random_() % 3) {
      case 0: guest.shutdown(asio::ip::tcp::socket::shutdown_send, ignored); break;
      case 1: guest.set_option(asio::socket_base::linger(true, 0), ignored); break;  // RST when it goes
      default: break;
    }
    if (guests_.size() > 100) guests_.pop_front();  // till then it stays, and is silent
    ++visits_;
  }

  std::uint16_t port_;
  std::minstd_rand random_;
  asio::io_context io_;
  std::list<asio::ip::tcp::socket> guests_;
  std::atomic<std::size_t> visits_{0};
  std::jthread thread_;
};

constexpr std::size_t parameters = 20'000;
constexpr int steps = 60;
constexpr float alpha = 0.3f;

/// Two workers with noisy quadratic gradients and a center that takes turns between them; the final center.
std::vector<float> train(bool scanned) {
  auto const port = transport::free_port();
  auto const mine = [&](int rank) {
    auto o = options(rank, 3, port);
    o.star = true;
    o.secret = "correct horse battery staple";
    return o;
  };
  Tcp server(mine(0));
  std::list<Scanner> scanners;
  if (scanned)
    for (unsigned seed : {1u, 2u}) scanners.emplace_back(port, seed);
  auto const visits = [&] {
    std::size_t count = 0;
    for (Scanner const& s : scanners) count += s.visits();
    return count;
  };
  std::vector<float> center(parameters, 1.0f), delta(parameters);
  std::vector<std::jthread> workers;
  for (int rank : {1, 2})
    workers.emplace_back([&, rank] {
      Tcp net(mine(rank));
      std::minstd_rand random(static_cast<unsigned>(rank) + 10);
      std::vector<float> x(parameters, 1.0f), d(parameters);
      for (int step = 0; step < steps; ++step) {
        for (float& v : x) v -= 0.1f * (v - 0.5f + 0.001f * static_cast<float>(random() % 1000));
        net.send(Span<float const>(x), 0, 1);
        net.receive(Span<float>(d), 0, 2);
        for (std::size_t i = 0; i < parameters; ++i) x[i] -= d[i];
      }
      char done;
      net.receive(Span<char>(&done, 1), 0, 3);
    });
  while (server.incarnation(1) == 0 || server.incarnation(2) == 0) std::this_thread::yield();
  for (int step = 0; step < steps; ++step) {
    for (std::size_t const seen = visits(); scanned && visits() < seen + 20;) std::this_thread::yield();
    for (int rank : {1, 2}) {
      server.receive(Span<float>(delta), rank, 1);
      for (std::size_t i = 0; i < parameters; ++i) {
        delta[i] = alpha * (delta[i] - center[i]);
        center[i] += delta[i];
      }
      server.send(Span<float const>(delta), rank, 2);
    }
  }
  for (int rank : {1, 2}) server.send(Span<char const>("d", 1), rank, 3);
  if (scanned) CHECK(visits() >= 20 * steps);
  return center;
}

TEST_CASE("garbage on the port during training leaves the result bit-identical", "[tcp][star][garbage]") {
  auto const quiet = train(false);
  auto const scanned = train(true);
  CHECK(quiet.front() != 1.0f);
  CHECK(std::memcmp(quiet.data(), scanned.data(), parameters * sizeof(float)) == 0);
}

}  // namespace
