// SPDX-License-Identifier: Apache-2.0
// What only TCP can get wrong: strangers at the port, secrets, peers that die, fall silent, leave or lie.
#include "elastic/transport/tcp.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <latch>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/tcp_by_hand.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using namespace support;

static_assert(Collective<Tcp> && PointToPoint<Tcp> && Reaches<Tcp, memory::Host> &&
              !Reaches<Tcp, memory::Cuda>);

/// Runs body(net) on one thread per rank; the result is what each threw, empty if nothing.
template <class Body>
std::vector<std::string> run(int n, Body body, TcpOptions base = {}) {
  base.port = transport::free_port(base.bind == "::1" ? "::1" : "127.0.0.1");
  base.size = n;
  std::vector<std::string> what(static_cast<std::size_t>(n));
  {
    std::vector<std::jthread> ranks;
    for (int r = 0; r < n; ++r)
      ranks.emplace_back([&, r, mine = base]() mutable {
        mine.rank = r;
        try {
          Tcp net(mine);
          body(net);
        } catch (std::exception const& e) {
          what[static_cast<std::size_t>(r)] = e.what();
        }
      });
  }
  return what;
}

template <class T>
std::vector<T> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(static_cast<double>(random()) / 4294967296.0 - 0.5);
  return x;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these have a close of their own
std::atomic<int> closed_in_vain{0};

}  // namespace

extern "C" int close(int file) {
  long const result = ::syscall(SYS_close, file);
  if (result != 0) ++closed_in_vain;
  return static_cast<int>(result);
}

namespace {

TEST_CASE("an endpoint closes its descriptors once",
          "[tcp]") {  // twice would hit whoever has the number by then
  bool const star = GENERATE(false, true);
  closed_in_vain = 0;
  for (int round = 0; round < 5; ++round) {
    TcpOptions base;
    base.star = star;
    run(
        2,
        [](Tcp& net) {
          int value = 7;
          if (net.rank() == 1) return net.send(Span<int const>(&value, 1), 0, 1);
          net.wait_message();
          net.receive(Span<int>(&value, 1), 1, 1);
        },
        base);
  }
  CHECK(closed_in_vain == 0);
}
#endif

constexpr std::size_t large = 3'000'000;  // floats: 12 MB, more than the kernel buffers

TEST_CASE("the sum has the bits of a serial loop over the ranks", "[tcp]") {
  auto const [ranks, n] =
      GENERATE(std::pair<int, std::size_t>{2, 5}, std::pair<int, std::size_t>{3, 2},
               std::pair<int, std::size_t>{3, 1'000'003}, std::pair<int, std::size_t>{4, 70'001});
  auto const p = static_cast<std::size_t>(ranks);
  std::vector<std::vector<float>> x;
  for (std::size_t r = 0; r < p; ++r) x.push_back(random_values<float>(n, static_cast<unsigned>(r + 1)));
  std::vector<float> expected = x[0];
  for (std::size_t r = 1; r < p; ++r)
    for (std::size_t i = 0; i < n; ++i) expected[i] += x[r][i];
  std::atomic<std::uint64_t> sent{0};
  auto const what = run(ranks, [&](Tcp& net) {
    net.all_reduce(Span<float>(x[static_cast<std::size_t>(net.rank())]));
    sent += net.traffic().sent_bytes;
  });
  for (std::size_t r = 0; r < p; ++r) {
    CHECK(what[r] == "");
    CHECK(x[r] == expected);
  }
  CHECK(sent == (wire::sums_whole(n * sizeof(float), ranks) ? p : 2) * (p - 1) * n * sizeof(float));
}

TEST_CASE("an all-reduce goes on while the program does something else", "[tcp]") {
  std::vector<double> a = random_values<double>(400'000, 1), b = random_values<double>(400'000, 2);
  std::vector<double> expected = a;
  for (std::size_t i = 0; i < a.size(); ++i) expected[i] += b[i];
  std::latch first_is_done(1);
  auto const what = run(2, [&](Tcp& net) {
    auto ticket = net.start_all_reduce(Span<double>(net.rank() == 0 ? a : b));
    if (net.rank() == 0) {
      ticket.wait();
      first_is_done.count_down();
    } else {
      first_is_done.wait();  // no call into the transport: only its thread can do this rank's part
      ticket.wait();
    }
  });
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK(a == expected);
  CHECK(b == expected);
}

TEST_CASE("large messages cross each other and overtake nothing", "[tcp]") {
  auto const x = random_values<float>(large, 7);
  std::vector<float> got[2] = {std::vector<float>(large), std::vector<float>(large)};
  int order[2] = {0, 0};
  auto const what = run(2, [&](Tcp& net) {
    int const peer = 1 - net.rank();
    int const last = 17;
    auto out = net.start_send(Span<float const>(x), peer, 1);
    auto after = net.start_send(Span<int const>(&last, 1), peer, 1);
    auto in = net.start_receive(Span<float>(got[net.rank()]), peer, 1);
    net.receive(Span<int>(&order[net.rank()], 1), peer, 1);
    out.wait();
    after.wait();
    in.wait();
  });
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK(got[0] == x);
  CHECK(got[1] == x);
  CHECK((order[0] == 17 && order[1] == 17));
}

TEST_CASE("a small message and an abort pass a large one that nobody receives", "[tcp]") {
  auto const x = random_values<float>(large, 8);
  int got = 0;
  auto const what = run(2, [&](Tcp& net) {
    int const small = 5;
    if (net.rank() == 0) {
      auto unwanted = net.start_send(Span<float const>(x), 1, 1);
      net.send(Span<int const>(&small, 1), 1, 2);
      char done;
      net.receive(Span<char>(&done, 1), 1, 3);
      net.abort("enough");
      unwanted.wait();
    } else {
      net.receive(Span<int>(&got, 1), 0, 2);
      net.send(Span<char const>("!", 1), 0, 3);
      char never;
      net.receive(Span<char>(&never, 1), 0, 9);
    }
  });
  CHECK(got == 5);
  CHECK_THAT(what[0], ContainsSubstring("enough"));
  CHECK_THAT(what[1], ContainsSubstring("receive with rank 0 on 127.0.0.1:") && ContainsSubstring("enough"));
}

TEST_CASE("a flood of unclaimed messages is held back, not lost", "[tcp]") {
  constexpr int count = 1500;  // of 64 KiB: more than an endpoint holds
  int wrong = 0;
  std::latch flooding(1);
  auto const what = run(2, [&](Tcp& net) {
    std::vector<int> block(16'384);
    for (int i = 0; i < count; ++i) {
      if (net.rank() == 0) {
        std::fill(block.begin(), block.end(), i);
        net.send(Span<int const>(block), 1, 4);
        if (i == 1026) flooding.count_down();
      } else {
        if (i == 0) flooding.wait();
        net.receive(Span<int>(block), 0, 4);
        wrong += block.front() != i || block.back() != i;
      }
    }
  });
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK(wrong == 0);
}

TEST_CASE("a message of another size than its receive throws and is gone", "[tcp]") {
  auto const n = GENERATE(std::size_t{3}, large);
  bool const posted_first = GENERATE(true, false);
  auto const x = random_values<float>(n, 9);
  int after = 0;
  std::string thrown;
  auto const what = run(2, [&](Tcp& net) {
    if (net.rank() == 0) {
      if (posted_first) net.barrier();
      auto ticket = net.start_send(Span<float const>(x), 1, 1);
      if (!posted_first) net.barrier();
      ticket.wait();
      int const next = 11;
      net.send(Span<int const>(&next, 1), 1, 1);
    } else {
      std::vector<float> y(n + 1);
      std::optional<Tcp::Ticket> ticket;
      if (posted_first) ticket = net.start_receive(Span<float>(y), 0, 1);
      net.barrier();
      if (!posted_first) ticket = net.start_receive(Span<float>(y), 0, 1);
      thrown = message_of<ProtocolError>([&] { ticket->wait(); });
      net.receive(Span<int>(&after, 1), 0, 1);  // the link is in order
    }
  });
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK_THAT(thrown, ContainsSubstring("rank 0 on") && ContainsSubstring(std::to_string(4 * n) + " bytes") &&
                         ContainsSubstring(std::to_string(4 * n + 4)));
  CHECK(after == 11);
}

TEST_CASE("ranks that sum different sizes are told", "[tcp]") {
  auto const n = GENERATE(std::size_t{10}, large);
  std::string thrown[2];
  run(2, [&](Tcp& net) {
    auto const r = static_cast<std::size_t>(net.rank());
    auto x = random_values<float>(n + 2 * r, 10);
    thrown[r] = message_of<TransportError>([&] { net.all_reduce(Span<float>(x)); });
  });
  CHECK_THAT(thrown[0] + thrown[1], ContainsSubstring("bytes"));
}

TEST_CASE("a silent peer is a timeout that names it, and the buffer is free again", "[tcp]") {
  int late = 0;
  std::string thrown, collective;
  std::latch gave_up(1);
  TcpOptions base;
  base.timeout = 300ms;
  auto const what = run(
      2,
      [&](Tcp& net) {
        if (net.rank() == 0) {
          thrown = message_of<Timeout>([&] {
            int gone = 0;
            net.receive(Span<int>(&gone, 1), 1, 6);
          });
          float x = 1;
          collective = message_of<Timeout>([&] { net.all_reduce(Span<float>(&x, 1)); });
          gave_up.count_down();
          net.receive(Span<int>(&late, 1), 1, 6);
        } else {
          gave_up.wait();
          int const value = 23;
          net.send(Span<int const>(&value, 1), 0, 6);
        }
      },
      base);
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK_THAT(thrown, ContainsSubstring("receive with rank 1 on 127.0.0.1:") && ContainsSubstring("0.3 s"));
  CHECK_THAT(collective, ContainsSubstring("all_reduce with rank 1"));
  CHECK(late == 23);
}

TEST_CASE("who leaves in good order is heard to the end", "[tcp]") {
  int got[3] = {0, 0, 0};
  std::string thrown[3];
  auto const what = run(2, [&](Tcp& net) {
    if (net.rank() == 1) {
      for (int i = 1; i <= 3; ++i) net.send(Span<int const>(&i, 1), 0, 1);
      return;
    }
    int none = 0;
    thrown[0] = message_of<PeerLost>([&] { net.receive(Span<int>(&none, 1), 1, 2); });
    for (int& g : got) {
      Envelope const e = net.wait_message();
      net.receive(Span<int>(&g, e.bytes / sizeof g), e.source, e.tag);
    }
    thrown[1] = message_of<PeerLost>([&] { net.send(Span<int const>(&none, 1), 1, 1); });
    thrown[2] = message_of<PeerLost>([&] { net.wait_message(); });
  });
  CHECK(what == std::vector<std::string>{"", ""});
  CHECK((got[0] == 1 && got[1] == 2 && got[2] == 3));
  CHECK_THAT(thrown[0], ContainsSubstring("rank 1") && ContainsSubstring("has left"));
  CHECK_THAT(thrown[1], ContainsSubstring("rank 1") && ContainsSubstring("has left"));
  CHECK_THAT(thrown[2], ContainsSubstring("every other rank has left"));
}

TEST_CASE("abort releases every waiter with its reason", "[tcp]") {
  auto const what = run(3, [&](Tcp& net) {
    if (net.rank() == 2) {
      char go;
      net.receive(Span<char>(&go, 1), 0, 1);
      net.abort("the loss is not a number");
      return;
    }
    if (net.rank() == 0) net.send(Span<char const>("g", 1), 2, 1);
    net.barrier();
  });
  CHECK(what[2] == "");
  for (std::size_t r : {0u, 1u})
    CHECK_THAT(what[r],
               ContainsSubstring("barrier with rank 2") && ContainsSubstring("the loss is not a number"));
}

TEST_CASE("the death of a process names its rank to everybody", "[tcp][fork]") {
  bool const killed = GENERATE(true, false);
  auto const port = transport::free_port();
  pid_t const victim = fork_rank(options(2, 3, port), [&](Tcp& net) {
    net.send(Span<char const>("x", 1), 0, 1);
    if (!killed) _exit(7);
    pause();
    return true;
  });
  pid_t const witness = fork_rank(options(1, 3, port), [](Tcp& net) {
    std::vector<float> x(100'000, 1.5f);
    try {
      net.all_reduce(Span<float>(x));
    } catch (PeerLost const& e) {
      char done = 0;
      net.receive(Span<char>(&done, 1), 0, 2);
      return e.peer() == 2;
    }
    return false;
  });
  {
    Tcp net(options(0, 3, port));
    char alive = 0;
    net.receive(Span<char>(&alive, 1), 2, 1);
    if (killed) kill(victim, SIGKILL);
    int peer = -1;
    std::string text;
    try {
      net.receive(Span<char>(&alive, 1), 2, 1);
    } catch (PeerLost const& e) {
      peer = e.peer();
      text = e.what();
    }
    CHECK(peer == 2);
    CHECK_THAT(text, ContainsSubstring("receive with rank 2 on 127.0.0.1:"));
    CHECK_THAT(message_of<PeerLost>([&] { net.wait_message(); }), ContainsSubstring("rank 2"));
    CHECK_FALSE(net.probe().has_value());  // reported once; rank 1 is still there
    CHECK_THAT(message_of<PeerLost>([&] { net.barrier(); }), ContainsSubstring("rank 2"));
    net.send(Span<char const>("x", 1), 1, 2);
  }
  CHECK(status_of(victim) == (killed ? 128 + SIGKILL : 7));
  CHECK(status_of(witness) == 0);
}

TEST_CASE("a stopped process is a timeout, not a hang", "[tcp][fork]") {
  auto const port = transport::free_port();
  pid_t const victim = fork_rank(options(1, 2, port), [](Tcp& net) {
    net.send(Span<char const>("x", 1), 0, 1);
    pause();
    return true;
  });
  {
    auto mine = options(0, 2, port);
    mine.timeout = 3s;
    Tcp net(mine);
    char alive = 0;
    net.receive(Span<char>(&alive, 1), 1, 1);
    kill(victim, SIGSTOP);
    CHECK_THAT(message_of<Timeout>([&] { net.receive(Span<char>(&alive, 1), 1, 1); }),
               ContainsSubstring("rank 1"));
  }
  kill(victim, SIGKILL);
  CHECK(status_of(victim) == 128 + SIGKILL);
}

TEST_CASE("strangers at the port do not keep a job from forming", "[tcp]") {
  auto const port = transport::free_port();
  asio::io_context io;
  std::string error;
  double sum = 0;
  std::jthread first([&] {
    try {
      Tcp net(options(0, 2, port));
      double x = 2;
      net.all_reduce(Span<double>(&x, 1));
      sum = x;
    } catch (std::exception const& e) {
      error = e.what();
    }
  });
  auto silent = knock(io, port);
  auto garbage = knock(io, port);
  put(garbage, std::array<char, 200>{'G', 'E', 'T', ' ', '/'});
  auto half = knock(io, port);
  put(half, wire::wire_magic);
  auto wrong_job = knock(io, port), wrong_size = knock(io, port), wrong_rank = knock(io, port),
       old = knock(io, port);
  CHECK_THAT(shake(wrong_job, hello(1, 2, "other\n")), ContainsSubstring("'elastic', not 'other?'"));
  CHECK_THAT(shake(wrong_size, hello(1, 3)), ContainsSubstring("2 ranks, not 3"));
  CHECK_THAT(shake(wrong_rank, hello(-7, 2)), ContainsSubstring("rank -7"));
  auto ancient = hello(1, 2);
  ancient.version = 0;
  put(old, ancient);
  CHECK(get<wire::Hello>(old).version == wire::wire_version);
  CHECK(garbage.is_open());
  {
    Tcp net(options(1, 2, port));
    double x = 3;
    net.all_reduce(Span<double>(&x, 1));
    CHECK(x == 5);
    asio::ip::tcp::socket late(io);  // a running job does not listen
    boost::system::error_code refused;
    late.connect({asio::ip::make_address("127.0.0.1"), port}, refused);
    CHECK(refused);
  }
  first.join();
  CHECK(error == "");
  CHECK(sum == 5);
}

TEST_CASE("a rank that is taken is refused, one that died is replaced", "[tcp]") {
  auto const port = transport::free_port();
  asio::io_context io;
  std::string error;
  std::jthread first([&] {
    try {
      Tcp net(options(0, 3, port));
      net.barrier();
    } catch (std::exception const& e) {
      error = e.what();
    }
  });
  auto early = knock(io, port);
  CHECK(shake(early, hello(2, 3)) == "");
  auto twin = knock(io, port);
  std::string reason;  // the first one's seat is taken when its verdict has been written
  while ((reason = shake(twin, hello(2, 3))).empty()) twin = knock(io, port);
  CHECK_THAT(reason, ContainsSubstring("rank 2 is taken"));
  early.close();
  twin.close();
  std::vector<std::string> what(2);
  {
    std::vector<std::jthread> ranks;
    for (int r : {1, 2})
      ranks.emplace_back([&, r] {
        for (;;) try {
            Tcp net(options(r, 3, port));
            return net.barrier();
          } catch (std::exception const& e) {
            if (std::string(e.what()).find("is taken") != std::string::npos) continue;
            what[static_cast<std::size_t>(r - 1)] = e.what();
            return;
          }
      });
  }
  first.join();
  CHECK(error == "");
  CHECK(what == std::vector<std::string>{"", ""});
}

TEST_CASE("a rank without the secret does not get in", "[tcp]") {
  auto const port = transport::free_port();
  auto with = [&](int rank, std::string const& secret) {
    auto o = options(rank, 2, port);
    o.secret = secret;
    return o;
  };
  std::string error;
  std::jthread first([&] {
    try {
      Tcp net(with(0, "correct horse battery staple"));
      net.barrier();
    } catch (std::exception const& e) {
      error = e.what();
    }
  });
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(with(1, "incorrect horse battery")); }),
             ContainsSubstring("rank 0 on 127.0.0.1:") && ContainsSubstring("secret"));
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(with(1, "")); }),
             ContainsSubstring("ELASTIC_SECRET_FILE"));
  {
    Tcp net(with(1, "correct horse battery staple"));
    net.barrier();
  }
  first.join();
  CHECK(error == "");
}

TEST_CASE("an impostor at rank 0's address cannot pass for it", "[tcp]") {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  auto const port = acceptor.local_endpoint().port();
  std::jthread impostor([&] {
    auto socket = acceptor.accept();
    get<wire::Hello>(socket);
    auto h = hello(0, 2);
    h.secured = 1;
    put(socket, h);
    auto const proof = get<wire::Bytes32>(socket);
    put(socket, wire::Verdict{.reason = {}, .proof = proof});  // reflecting it does not help
  });
  auto o = options(1, 2, port);
  o.secret = "correct horse battery staple";
  CHECK_THAT(message_of<ProtocolError>([&] { Tcp net(o); }), ContainsSubstring("could not prove"));
}

TEST_CASE("beyond loopback a secret is required", "[tcp]") {
  auto const port = transport::free_port();
  auto open = options(0, 2, port);
  open.bind = "0.0.0.0";
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(open); }),
             ContainsSubstring("bind=0.0.0.0") && ContainsSubstring("ELASTIC_SECRET_FILE"));
  auto away = options(1, 2, port);
  away.host = "192.0.2.1";
  CHECK_THAT(message_of<ConfigError>([&] { Tcp net(away); }), ContainsSubstring("host=192.0.2.1"));
  TcpOptions both;
  both.bind = "0.0.0.0";
  both.secret = "correct horse battery staple";
  CHECK(run(
            3, [](Tcp& net) { net.barrier(); }, both) == std::vector<std::string>{"", "", ""});
}

TEST_CASE("the secret comes from the environment or from a file nobody else reads", "[tcp]") {
  support::TempFolder const folder;
  auto const path = folder.write("secret", "correct horse battery staple\n");
  {
    EnvironmentVariable const variable("ELASTIC_SECRET_FILE", path.string());
    chmod(path.c_str(), 0644);
    CHECK_THAT(message_of<ConfigError>([] { wire::find_secret(""); }), ContainsSubstring("chmod 600"));
    chmod(path.c_str(), 0600);
    CHECK(wire::find_secret("") == "correct horse battery staple");
    EnvironmentVariable const direct("ELASTIC_SECRET", "another one of some length");
    CHECK(wire::find_secret("") == "another one of some length");
    CHECK(wire::find_secret("the option goes before") == "the option goes before");
  }
  EnvironmentVariable const missing("ELASTIC_SECRET_FILE", (folder.path() / "none").string());
  CHECK_THAT(message_of<ConfigError>([] { wire::find_secret(""); }), ContainsSubstring("cannot be opened"));
  CHECK_THAT(message_of<ConfigError>([] { wire::find_secret("short"); }), ContainsSubstring("at least 16"));
}

TEST_CASE("options that cannot work are refused by name", "[tcp]") {
  auto const refused = [](auto change, std::string const& text) {
    auto o = options(0, 2, 4000);
    change(o);
    CHECK_THAT(message_of<ConfigError>([&] { Tcp net(o); }), ContainsSubstring(text));
  };
  refused([](auto& o) { o.rank = 2; }, "rank=2");
  refused([](auto& o) { o.size = 0; }, "size=0");
  refused([](auto& o) { o.port = 0; }, "port=0");
  refused([](auto& o) { o.timeout = 0s; }, "timeout=");
  refused([](auto& o) { o.job = ""; }, "job=''");
  refused([](auto& o) { o.job = std::string(64, 'j'); }, "63 bytes");
  refused([](auto& o) { o.bind = "eth0"; }, "bind=eth0");
  Tcp alone(options(0, 1, 0));
  CHECK_THROWS_AS(alone.team(2), ConfigError);
  CHECK_THROWS_AS(alone.send(Span<char const>("x", 1), 1, 0), ConfigError);
}

TEST_CASE("who waits in vain says for whom and why", "[tcp]") {
  auto const port = transport::free_port();
  auto lonely = options(0, 3, port);
  lonely.timeout = 200ms;
  CHECK_THAT(message_of<Timeout>([&] { Tcp net(lonely); }), ContainsSubstring("rank(s) 1, 2"));
  lonely.rank = 1;
  CHECK_THAT(message_of<Timeout>([&] { Tcp net(lonely); }),
             ContainsSubstring("rank 0 on 127.0.0.1:") && ContainsSubstring("refused"));
}

TEST_CASE("a peer that breaks the protocol is cut off", "[tcp]") {
  using wire::Header;
  using wire::Kind;
  auto const frame = GENERATE(
      Header{.magic = 0x20544547}, Header{.kind = Kind{99}}, Header{.kind = Kind::eager, .length = 1 << 30},
      Header{.kind = Kind::eager, .length = 4, .total = 5},
      Header{.kind = Kind::fragment, .length = 0xffffffff, .id = 1, .total = ~std::uint64_t{0}},
      Header{.kind = Kind::fragment, .length = 1 << 19, .id = ~std::uint64_t{0}, .total = 1 << 20},
      Header{.kind = Kind::announce, .length = 1, .total = 1 << 20},
      Header{.kind = Kind::abort, .length = 1 << 20}, Header{.kind = Kind::eager, .id = ~std::uint64_t{0}});
  auto const port = transport::free_port();
  std::string thrown;
  std::jthread first([&] {
    thrown = message_of<ProtocolError>([&] {
      Tcp net(options(0, 2, port));
      char x;
      net.receive(Span<char>(&x, 1), 1, 77);
    });
  });
  asio::io_context io;
  auto peer = join_by_hand(io, port);
  put(peer, frame);
  first.join();
  CHECK_THAT(thrown, ContainsSubstring("receive with rank 1 on 127.0.0.1:1:"));
}

TEST_CASE("IPv6 is an address like any other", "[tcp]") {
  try {
    transport::free_port("::1");
  } catch (std::exception const&) {
    WARN("this machine has no IPv6 loopback");
    return;
  }
  TcpOptions base;
  base.host = base.bind = "::1";
  CHECK(run(
            3, [](Tcp& net) { net.barrier(); }, base) == std::vector<std::string>{"", "", ""});
}

}  // namespace
