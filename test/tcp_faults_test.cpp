// SPDX-License-Identifier: Apache-2.0
// What a peer over TCP can do to the others, at each stage of a job: die, stop, fall silent, close half of its
// connection, reset it, send garbage. The answer is an error that names it, within the deadline.
// timeout: 300
// processors: 1
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
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

constexpr auto patience = 1s;             // forming a mesh by hand included, on a busy machine
constexpr std::size_t large = 3'000'000;  // floats: more than the kernel buffers

TcpOptions impatient(int rank, int size, std::uint16_t port) {
  auto o = options(rank, size, port);
  o.timeout = patience;
  return o;
}

/// A blocking call of one rank with rank 1, and the name that its error gives it.
struct Stage {
  char const* name;
  std::function<void(Tcp&)> call;
};

std::vector<float> const& numbers() {
  static std::vector<float> const x = [] {
    std::vector<float> values(large);
    for (std::size_t i = 0; i < large; ++i) values[i] = static_cast<float>(i % 1000) + 0.5f;
    return values;
  }();
  return x;
}

void send_large(Tcp& net) { net.send(Span<float const>(numbers()), 1, 5); }
void receive_small(Tcp& net) {
  int x = 0;
  net.receive(Span<int>(&x, 1), 1, 5);
}
void receive_large(Tcp& net) {
  std::vector<float> x(large);
  net.receive(Span<float>(x), 1, 5);
}
void wait_for_message(Tcp& net) { net.wait_message(); }
void meet(Tcp& net) { net.barrier(); }
void sum_small(Tcp& net) {
  float x = 1.5f;
  net.all_reduce(Span<float>(&x, 1));
}
void sum_large(Tcp& net) {
  auto x = numbers();
  net.all_reduce(Span<float>(x));
}

Stage mesh_stage() {
  return GENERATE(Stage{"send", send_large}, Stage{"receive", receive_small}, Stage{"receive", receive_large},
                  Stage{"waiting for a message", wait_for_message}, Stage{"barrier", meet},
                  Stage{"all_reduce", sum_small}, Stage{"all_reduce", sum_large});
}

void ready(Tcp& net) { net.send(Span<char const>("r", 1), 0, 1); }
void await_ready(Tcp& net, int peer) {
  char x;
  net.wait_message();  // in a star nobody can be asked before it has come
  net.receive(Span<char>(&x, 1), peer, 1);
}

/// The text of the one error with which `call` must end.
template <class E, class F>
void check_error(F&& call, std::string const& operation, int rank = 1) {
  std::string what = "nothing was thrown";
  int peer = -2;
  try {
    call();
  } catch (E const& e) {
    what = e.what();
    peer = e.peer();
  } catch (std::exception const& e) {
    what = std::string("another type: ") + e.what();
  }
  CHECK_THAT(what, ContainsSubstring(operation) &&
                       ContainsSubstring("rank " + std::to_string(rank) + " on 127.0.0.1:") &&
                       ContainsSubstring(" s)"));
  CHECK(peer == rank);
}

TEST_CASE("a killed rank is PeerLost in every operation of a mesh", "[tcp][faults][fork]") {
  Stage const stage = mesh_stage();
  bool const during = GENERATE(true, false);
  auto const port = transport::free_port();
  pid_t const victim = fork_rank(options(1, 2, port), [](Tcp& net) {
    ready(net);
    return pause() != 0;
  });
  Tcp net(options(0, 2, port));
  await_ready(net, 1);
  std::jthread killer;
  if (during)
    killer = std::jthread([&] { kill(victim, SIGKILL); });
  else
    kill(victim, SIGKILL);
  if (!during) CHECK(status_of(victim) == 128 + SIGKILL);
  check_error<PeerLost>([&] { stage.call(net); }, stage.name);
  if (during) CHECK(status_of(victim) == 128 + SIGKILL);
}

TEST_CASE("a stopped rank is a Timeout in every operation of a mesh, and hears why when it goes on",
          "[tcp][faults][fork]") {
  Stage const stage = mesh_stage();
  auto const port = transport::free_port();
  pid_t const victim = fork_rank(options(1, 2, port), [](Tcp& net) {
    ready(net);
    return message_of<Aborted>([&] { await_ready(net, 0); }).find("did not answer") != std::string::npos;
  });
  {
    Tcp net(impatient(0, 2, port));
    await_ready(net, 1);
    kill(victim, SIGSTOP);
    bool const anybody = std::string(stage.name) == "waiting for a message";
    std::string const what = message_of<Timeout>([&] { stage.call(net); });
    CHECK_THAT(what, ContainsSubstring(stage.name) && ContainsSubstring("(after ") &&
                         ContainsSubstring(anybody ? "any host" : "rank 1 on 127.0.0.1:"));
    net.abort("rank 1 did not answer");
    kill(victim, SIGCONT);
    CHECK(status_of(victim) == 0);
  }
}

/// Rank 1 of a mesh of two, made by hand, and what it does to its connection.
using Misdeed = std::function<void(asio::ip::tcp::socket&)>;
void fall_silent(asio::ip::tcp::socket&) {}
void close_half(asio::ip::tcp::socket& socket) { socket.shutdown(asio::ip::tcp::socket::shutdown_send); }
void reset(asio::ip::tcp::socket& socket) {
  socket.set_option(asio::socket_base::linger(true, 0));
  socket.close();
}
void babble(asio::ip::tcp::socket& socket) {
  put(socket, std::array<char, 300>{'S', 'S', 'H', '-', '2', '.', '0'});
}
void break_off(asio::ip::tcp::socket& socket) {  // half a header
  put(socket, std::array<char, 9>{'E', 'L', 'S', 'T'});
  socket.close();
}

TEST_CASE("a silent, half-closed, reset or babbling rank ends every operation of a mesh", "[tcp][faults]") {
  Stage const stage = mesh_stage();
  int const misdeed = GENERATE(0, 1, 2, 3, 4);
  auto const port = transport::free_port();
  asio::io_context io;
  std::optional<asio::ip::tcp::socket> peer;
  std::optional<Tcp> net;
  {
    std::jthread joining([&] {
      try {
        peer.emplace(join_by_hand(io, port));
      } catch (std::exception const&) {  // rank 0 says what went wrong
      }
    });
    net.emplace(impatient(0, 2, port));
  }
  std::array<Misdeed, 5> const misdeeds{fall_silent, close_half, reset, babble, break_off};
  misdeeds[static_cast<std::size_t>(misdeed)](*peer);
  auto const call = [&] { stage.call(*net); };
  if (misdeed == 0)
    CHECK_THAT(message_of<Timeout>(call), ContainsSubstring(stage.name) && ContainsSubstring("(after "));
  else if (misdeed == 3)
    check_error<ProtocolError>(call, stage.name);
  else
    check_error<PeerLost>(call, stage.name);
}

/// Somebody at rank 0's port who accepts one connection after the other and treats them so.
class Impostor {
 public:
  explicit Impostor(std::function<void(asio::ip::tcp::socket&)> treat)
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}), thread_([this, treat] {
          boost::system::error_code ended;
          for (;;) {
            auto& guest = guests_.emplace_back(std::make_unique<asio::ip::tcp::socket>(io_));
            acceptor_.accept(*guest, ended);
            if (ended || done_) return;
            try {
              treat(*guest);
            } catch (std::exception const&) {  // the guest has gone
            }
          }
        }) {}
  ~Impostor() {
    done_ = true;
    asio::ip::tcp::socket last(io_);
    boost::system::error_code ignored;
    last.connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  std::atomic<bool> done_{false};
  std::vector<std::unique_ptr<asio::ip::tcp::socket>> guests_;
  std::thread thread_;
};

TEST_CASE("joining an acceptor that misbehaves ends at the deadline or before", "[tcp][faults]") {
  bool const star = GENERATE(false, true);
  auto const join = [&](std::uint16_t port) {
    auto o = impatient(1, 2, port);
    o.star = star;
    Tcp net(o);
  };
  auto const say_hello = [star](asio::ip::tcp::socket& socket) {
    get<wire::Hello>(socket);
    auto h = hello(0, 2);
    h.star = star ? 1 : 0;
    put(socket, h);
  };
  SECTION("silent after accepting") {
    Impostor const there(fall_silent);
    CHECK_THAT(
        message_of<Timeout>([&] { join(there.port()); }),
        ContainsSubstring("joining the job with rank 0 on 127.0.0.1:") && ContainsSubstring("(after "));
  }
  SECTION("silent after its hello") {
    Impostor const there(say_hello);
    CHECK_THROWS_AS(join(there.port()), Timeout);
  }
  SECTION("silent after the verdict") {  // a mesh waits for the addresses; a star has nothing to wait for
    Impostor const there([&](auto& socket) {
      say_hello(socket);
      get<wire::Bytes32>(socket);
      wire::Verdict verdict;
      verdict.place = 1;
      put(socket, verdict);
    });
    if (star)
      CHECK_NOTHROW(join(there.port()));
    else
      CHECK_THAT(message_of<Timeout>([&] { join(there.port()); }), ContainsSubstring("did not all join"));
  }
  SECTION("resets") {
    Impostor const there(reset);
    CHECK_THROWS_AS(join(there.port()), Timeout);
  }
  SECTION("resets after its hello") {
    Impostor const there([&](auto& socket) {
      say_hello(socket);
      reset(socket);
    });
    CHECK_THROWS_AS(join(there.port()), Timeout);
  }
  SECTION("closes half") {
    Impostor const there(close_half);
    CHECK_THROWS_AS(join(there.port()), Timeout);
  }
  SECTION("babbles") {
    Impostor const there(babble);
    CHECK_THAT(message_of<ProtocolError>([&] { join(there.port()); }), ContainsSubstring("not elastic"));
  }
  SECTION("babbles after its hello") {
    Impostor const there([&](auto& socket) {
      say_hello(socket);
      put(socket, std::array<char, 300>{'x'});
    });
    CHECK_THROWS_AS(join(there.port()), Error);
  }
  SECTION("never accepts") {
    asio::io_context io;
    asio::ip::tcp::acceptor full(io, {asio::ip::make_address("127.0.0.1"), 0});
    CHECK_THROWS_AS(join(full.local_endpoint().port()), Timeout);
  }
}

TEST_CASE("rank 0 that dies or stops while the job forms is noticed by those who wait",
          "[tcp][faults][fork]") {
  bool const killed = GENERATE(true, false);
  auto const port = transport::free_port();
  pid_t const victim = fork_rank(options(0, 3, port), [](Tcp&) { return true; });
  std::string what;
  {
    // A visitor that is heard proves that rank 0 listens; then rank 1 comes, and rank 2 never does.
    asio::io_context io;
    auto visitor = knock(io, port);
    CHECK_THAT(shake(visitor, hello(1, 4)), ContainsSubstring("3 ranks"));
    std::jthread other([&] {
      auto mine = options(1, 3, port);
      if (!killed) mine.timeout = 1s;
      for (;;) try {
          Tcp net(mine);
        } catch (ConfigError const&) {  // its twin was there first, for a moment
        } catch (TransportError const& e) {
          what = e.what();
          return;
        }
    });
    for (std::string reason; reason.empty();) {  // rank 1 has joined when its twin is refused
      auto twin = knock(io, port);
      reason = shake(twin, hello(1, 3));
    }
    kill(victim, killed ? SIGKILL : SIGSTOP);
  }
  CHECK_THAT(what, ContainsSubstring("joining the job with rank 0 on 127.0.0.1:"));
  kill(victim, SIGKILL);
  CHECK(status_of(victim) == 128 + SIGKILL);
}

TEST_CASE("a rank that stops while the job forms is named", "[tcp][faults]") {
  auto const port = transport::free_port();
  asio::io_context io;
  std::string what;
  {
    std::jthread first([&] { what = message_of<TransportError>([&] { Tcp net(impatient(0, 2, port)); }); });
    auto silent = knock(io, port);  // shakes hands and never says where it listens
    CHECK(shake(silent, hello(1, 2)) == "");
    first.join();
  }
  CHECK_THAT(what, ContainsSubstring("forming the job with rank 1 on 127.0.0.1:"));
}

TEST_CASE("leaving does not wait for a rank that is dead, stopped or silent", "[tcp][faults][fork]") {
  int const signal = GENERATE(SIGKILL, SIGSTOP);
  bool const star = GENERATE(false, true);
  auto const port = transport::free_port();
  auto theirs = options(1, 2, port);
  theirs.star = star;
  pid_t const victim = fork_rank(theirs, [](Tcp& net) {
    ready(net);
    return pause() != 0;
  });
  {
    auto mine = impatient(0, 2, port);
    mine.star = star;
    Tcp net(mine);
    await_ready(net, 1);
    kill(victim, signal);
  }
  kill(victim, SIGKILL);
  CHECK(status_of(victim) == 128 + SIGKILL);
}

/// Rank 0 of a star with a victim as rank 1 and a witness as rank 2, who must not notice anything.
struct Star {
  explicit Star(std::uint16_t port, std::chrono::milliseconds timeout = 20s) {
    auto mine = options(0, 3, port);
    mine.star = true;
    mine.timeout = timeout;
    net.emplace(mine);
    mine.rank = 2;
    witness.emplace(mine);
  }
  void check_witness() {
    int const sent = 7;
    witness->send(Span<int const>(&sent, 1), 0, 3);
    Envelope const e = net->wait_message();
    CHECK(e.source == 2);
    int got = 0;
    net->receive(Span<int>(&got, 1), 2, 3);
    CHECK(got == 7);
  }
  std::optional<Tcp> net, witness;
};

Stage star_stage() {
  return GENERATE(Stage{"send", send_large}, Stage{"receive", receive_small}, Stage{"receive", receive_large},
                  Stage{"waiting for a message", wait_for_message});
}

TEST_CASE("a killed client of a star is PeerLost in every operation, once, and nothing to the others",
          "[tcp][faults][star][fork]") {
  Stage const stage = star_stage();
  auto const port = transport::free_port();
  auto theirs = options(1, 3, port);
  theirs.star = true;
  pid_t const victim = fork_rank(theirs, [](Tcp& net) {
    ready(net);
    return pause() != 0;
  });
  Star star(port);
  await_ready(*star.net, 1);
  std::jthread killer([&] { kill(victim, SIGKILL); });
  check_error<PeerLost>([&] { stage.call(*star.net); }, stage.name);
  CHECK(status_of(victim) == 128 + SIGKILL);
  if (std::string(stage.name) != "waiting for a message")
    check_error<PeerLost>([&] { star.net->wait_message(); }, "waiting for a message");
  CHECK_FALSE(star.net->probe().has_value());
  star.check_witness();
}

TEST_CASE("a stopped client of a star is a Timeout and goes on where it was", "[tcp][faults][star][fork]") {
  auto const port = transport::free_port();
  auto theirs = options(1, 3, port);
  theirs.star = true;
  pid_t const victim = fork_rank(theirs, [](Tcp& net) {
    ready(net);
    char x;
    net.receive(Span<char>(&x, 1), 0, 1);
    ready(net);
    net.receive(Span<char>(&x, 1), 0, 1);
    return x == 'e';
  });
  Star star(port, patience);
  await_ready(*star.net, 1);
  kill(victim, SIGSTOP);
  check_error<Timeout>([&] { receive_small(*star.net); }, "receive");
  check_error<Timeout>([&] { send_large(*star.net); }, "send");
  star.check_witness();
  kill(victim, SIGCONT);
  star.net->send(Span<char const>("g", 1), 1, 1);
  await_ready(*star.net, 1);
  star.net->send(Span<char const>("e", 1), 1, 1);
  CHECK(status_of(victim) == 0);
}

TEST_CASE("a client of a star that closes half, resets or babbles is lost, once, and nothing to the others",
          "[tcp][faults][star]") {
  Stage const stage = star_stage();
  int const misdeed = GENERATE(0, 1, 2, 3);
  auto const port = transport::free_port();
  Star star(port);
  asio::io_context io;
  auto peer = knock(io, port);
  auto h = hello(1, 3);
  h.star = 1;
  h.incarnation = 5;
  REQUIRE(shake(peer, h) == "");
  while (star.net->incarnation(1) == 0) std::this_thread::yield();
  std::array<Misdeed, 4> const misdeeds{close_half, reset, babble, break_off};
  misdeeds[static_cast<std::size_t>(misdeed)](peer);
  check_error<PeerLost>([&] { stage.call(*star.net); }, stage.name);
  if (std::string(stage.name) != "waiting for a message")
    check_error<PeerLost>([&] { star.net->wait_message(); }, "waiting for a message");
  CHECK_FALSE(star.net->probe().has_value());
  CHECK(star.net->incarnation(1) == 0);
  star.check_witness();
}

TEST_CASE("a client of a star outlives a stopped rank 0", "[tcp][faults][star][fork]") {
  auto const port = transport::free_port();
  auto theirs = options(0, 2, port);
  theirs.star = true;
  pid_t const server = fork_rank(theirs, [](Tcp& net) {
    bool lost = false;
    for (char x = 0;;) try {
        Envelope const e = net.wait_message();
        net.receive(Span<char>(&x, 1), e.source, e.tag);
        if (x == 'e') return lost;
        net.send(Span<char const>(&x, 1), e.source, e.tag);
      } catch (PeerLost const&) {  // the old connection
        lost = true;
      }
  });
  auto mine = impatient(1, 2, port);
  mine.star = true;
  mine.timeout = 2s;
  Tcp net(mine);
  auto const ask = [&](char const* question) {
    char answer = 0;
    net.send(Span<char const>(question, 1), 0, 2);
    net.receive(Span<char>(&answer, 1), 0, 2);
    return answer;
  };
  CHECK(ask("a") == 'a');
  kill(server, SIGSTOP);
  check_error<Timeout>([&] { ask("b"); }, "receive", 0);
  kill(server, SIGCONT);
  net.rejoin();  // the answer to the lost question must not be taken for the next
  CHECK(ask("c") == 'c');
  net.send(Span<char const>("e", 1), 0, 2);
  CHECK(status_of(server) == 0);
}

}  // namespace
