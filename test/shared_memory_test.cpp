// SPDX-License-Identifier: Apache-2.0
// What is particular to ranks that share memory: how processes find each other, what happens when one dies,
// and that nothing stays behind in /dev/shm.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <filesystem>

#include "elastic/transport/shared_memory.hpp"
#include "support/catch.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using support::finish_process;
using support::message_of;
using support::random_values;
using support::start_process;
using transport::SharedMemory;
using transport::SharedMemoryOptions;

std::filesystem::path object_of(std::string const& job) {
  return "/dev/shm/elastic-" + std::to_string(::geteuid()) + "-" + job;
}
SharedMemoryOptions options(std::string const& job, int rank, int size,
                            support::Seconds timeout = std::chrono::seconds(30)) {
  return {.job = job, .rank = rank, .size = size, .timeout = timeout, .memory = std::size_t(16) << 20};
}
/// Starts rank 0 of a job of two and returns when its object has been made; the rank waits for its peer.
support::Child start_forming(std::string const& job) {
  auto const child = start_process([&]() -> std::vector<double> {
    SharedMemory const net(options(job, 0, 2));
    return {double(net.size())};
  });
  std::error_code none_yet;
  while (std::filesystem::file_size(object_of(job), none_yet) == 0 || none_yet) sched_yield();
  return child;
}
template <class F>
double lost_peer(F call) {
  try {
    call();
  } catch (PeerLost const& e) {
    return e.peer();
  }
  return -2;
}

TEST_CASE("a killed rank is a PeerLost at everyone who waits for it") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < 4; ++r)
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      SharedMemory net(options(job, r, 4));
      auto x = random_values<float>(2'000'000, 1);
      net.barrier();
      if (r == 3) ::raise(SIGKILL);
      if (r == 0) return {lost_peer([&] { net.receive(Span<float>(x), 3, 1); })};
      if (r == 1) return {lost_peer([&] { net.send(Span<float const>(x), 3, 1); })};
      return {lost_peer([&] { net.wait_message(); })};
    }));
  for (int r : {0, 1, 2}) CHECK(finish_process(ranks[std::size_t(r)]) == std::vector<double>{3});
  CHECK_THROWS_WITH(finish_process(ranks[3]), "killed by signal 9");
  CHECK_FALSE(std::filesystem::exists(object_of(job)));
}

TEST_CASE("a rank killed during a collective is a PeerLost at the others") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < 3; ++r)
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      SharedMemory net(options(job, r, 3));
      auto x = random_values<float>(1'000'000, 1);
      net.all_reduce(Span<float>(x));
      if (r == 1)
        ::raise(SIGKILL);  // not after its start: where cores are few that may already have done its part
      auto ticket = net.start_all_reduce(Span<float>(x));
      return {lost_peer([&] { ticket.wait(); })};
    }));
  for (int r : {0, 2}) CHECK(finish_process(ranks[std::size_t(r)]) == std::vector<double>{1});
  CHECK_THROWS(finish_process(ranks[1]));
}

TEST_CASE("a server outlives its workers: each death is told once, the living are still heard") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < 3; ++r)
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      SharedMemory net(options(job, r, 3));
      std::vector<float> x{1, 2, 3};
      if (r == 1) {
        net.send(Span<float const>(x), 0, 1);
        ::raise(SIGKILL);
      }
      if (r == 2) {
        net.receive(Span<float>(x), 0, 5);
        net.send(Span<float const>(x), 0, 2);
        return {};
      }
      std::vector<double> seen{double(net.wait_message().source)};
      net.receive(Span<float>(x), 1, 1);
      seen.push_back(lost_peer([&] { net.wait_message(); }));
      net.send(Span<float const>(x), 2, 5);
      seen.push_back(double(net.wait_message().source));
      net.receive(Span<float>(x), 2, 2);
      seen.push_back(lost_peer([&] { net.wait_message(); }));  // the last one has left
      return seen;
    }));
  CHECK(finish_process(ranks[0]) == std::vector<double>{1, 1, 2, -1});
  CHECK_THROWS(finish_process(ranks[1]));
  finish_process(ranks[2]);
}

TEST_CASE("what a rank sent before it left still arrives; nothing can be sent to it") {
  auto const job = support::unique_name();
  auto const child = start_process([&]() -> std::vector<double> {
    SharedMemory net(options(job, 1, 2));
    auto const x = random_values<float>(1000, 9);
    net.send(Span<float const>(x), 0, 1);
    return {};
  });
  SharedMemory net(options(job, 0, 2));
  finish_process(child);
  std::vector<float> x(1000);
  net.receive(Span<float>(x), 1, 1);
  CHECK(x == random_values<float>(1000, 9));
  CHECK_THAT(message_of<PeerLost>([&] { net.send(Span<float>(x), 1, 1); }),
             ContainsSubstring("rank 1: it has left"));
  CHECK_THROWS_AS(net.receive(Span<float>(x), 1, 2), PeerLost);
}

TEST_CASE("nothing of a job is in /dev/shm once all ranks are in") {
  auto const job = support::unique_name();
  auto const answers = support::run_processes(
      3, [&](int rank) { return SharedMemory(options(job, rank, 3)); },
      [&](SharedMemory& net) -> std::vector<double> {
        net.barrier();
        return {double(std::filesystem::exists(object_of(job)))};
      });
  CHECK(answers == support::Answers(3, {0}));
}

TEST_CASE("what a killed rank 0 left is replaced by the next start") {
  auto const job = support::unique_name();
  auto const child = start_forming(job);
  ::kill(child.pid, SIGKILL);
  CHECK_THROWS(finish_process(child));
  REQUIRE(std::filesystem::exists(object_of(job)));
  auto const answers = support::run_processes(
      2, [&](int rank) { return SharedMemory(options(job, rank, 2)); },
      [&](SharedMemory& net) -> std::vector<double> {
        std::vector<float> x{float(net.rank() + 1)};
        net.all_reduce(Span<float>(x));
        return {double(x[0])};
      });
  CHECK(answers == support::Answers(2, {3}));
  CHECK_FALSE(std::filesystem::exists(object_of(job)));
}

TEST_CASE("a second rank 0 of a living job is refused with the pid of the first") {
  auto const job = support::unique_name();
  auto const child = start_forming(job);
  std::string refusal;
  do {
    refusal = message_of<ConfigError>([&] { SharedMemory(options(job, 0, 2)); });
  } while (refusal.find("not known yet") != std::string::npos);  // it is writing it just now
  CHECK_THAT(refusal, ContainsSubstring("job '" + job + "' is already running, rank 0 is pid " +
                                        std::to_string(child.pid)));
  SharedMemory const second(options(job, 1, 2));
  CHECK(finish_process(child) == std::vector<double>{2});
}

TEST_CASE("a rank that does not fit the job is refused") {
  auto const job = support::unique_name();
  auto const child = start_forming(job);
  CHECK_THAT(message_of<ConfigError>([&] { SharedMemory(options(job, 2, 3)); }),
             ContainsSubstring("has 2 ranks, but rank 2 was started with a size of 3"));
  SharedMemory const second(options(job, 1, 2));
  finish_process(child);
}

TEST_CASE("a place in the job is given once") {
  auto const job = support::unique_name();
  auto const first = start_process([&]() -> std::vector<double> {
    SharedMemory const net(options(job, 0, 3));
    return {};
  });
  auto const second = [&]() -> std::vector<double> {
    SharedMemory const net(options(job, 1, 3));
    return {};
  };
  auto const a = start_process(second);
  auto const b = start_process(second);
  int status = 0;
  pid_t refused = 0;
  while ((refused = ::waitpid(-1, &status, 0)) != a.pid && refused != b.pid) {
  }
  CHECK(WEXITSTATUS(status) == 1);
  {
    SharedMemory const third(options(job, 2, 3));
    finish_process(refused == a.pid ? b : a);
    ::close((refused == a.pid ? a : b).answers);
  }
  finish_process(first);
}

TEST_CASE("a rank that does not come is named, and the object goes with the one who waited") {
  auto const job = support::unique_name();
  try {
    SharedMemory(options(job, 0, 2, std::chrono::milliseconds(100)));
    FAIL("formed a job of two alone");
  } catch (Timeout const& e) {
    CHECK(e.peer() == 1);
  }
  CHECK_FALSE(std::filesystem::exists(object_of(job)));
  CHECK_THAT(message_of<Timeout>([&] { SharedMemory(options(job, 1, 2, std::chrono::milliseconds(100))); }),
             ContainsSubstring("with rank 0: it has not started"));
}

TEST_CASE("options that cannot work say what is expected") {
  auto const refusal = [](SharedMemoryOptions const& o) {
    return message_of<ConfigError>([&] { SharedMemory net(o); });
  };
  CHECK_THAT(refusal({.job = ""}), ContainsSubstring("1 to 100 letters"));
  CHECK_THAT(refusal({.job = "a/b"}), ContainsSubstring("'a/b'"));
  CHECK_THAT(refusal({.job = "j", .rank = 2, .size = 2}), ContainsSubstring("rank 2 of 2"));
  CHECK_THAT(refusal({.job = "j", .rank = 0, .size = 0}), ContainsSubstring("size of at least 1"));
  CHECK_THAT(refusal({.job = "j", .timeout = std::chrono::seconds(0)}), ContainsSubstring("timeout"));
  SharedMemory net(options(support::unique_name(), 0, 1));
  CHECK_THROWS_AS(net.team(0), ConfigError);
  CHECK_THROWS_AS(net.team(2), ConfigError);
}

TEST_CASE("too small a /dev/shm is an error that says how much is needed, and leaves nothing") {
  auto const job = support::unique_name();
  auto const child = start_process([&]() -> std::vector<double> {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit const one_megabyte{1 << 20, 1 << 20};  // stands for a full file system
    ::setrlimit(RLIMIT_FSIZE, &one_megabyte);
    auto const text = message_of<ConfigError>([&] { SharedMemory(options(job, 0, 2)); });
    return {double(text.find("needs ") != std::string::npos &&
                   text.find("MiB in /dev/shm") != std::string::npos)};
  });
  CHECK(finish_process(child) == std::vector<double>{1});
  CHECK_FALSE(std::filesystem::exists(object_of(job)));
}

TEST_CASE("a job of 64 ranks needs less than 256 MiB") {
  transport::detail::Layout const layout(transport::detail::Geometry::fit(64, SharedMemoryOptions{}.memory));
  CHECK(layout.total() < std::size_t(256) << 20);
  CHECK(layout.geometry().slot_bytes >= 4096);
}

TEST_CASE("a message that nobody asks for does not hold up one that somebody does") {
  auto const answers = support::Launch<SharedMemory>::run(2, [](SharedMemory& net) -> std::vector<double> {
    std::vector<std::vector<float>> x;
    for (unsigned k = 0; k < 3; ++k) x.push_back(random_values<float>(k == 2 ? 10 : 3'000'000, k));
    if (net.rank() == 0) {
      auto a = net.start_send(Span<float const>(x[0]), 1, 0);
      auto b = net.start_send(Span<float const>(x[1]), 1, 1);
      auto c = net.start_send(Span<float const>(x[2]), 1, 2);
      a.wait();
      b.wait();
      c.wait();
      return {};
    }
    double wrong = 0;
    for (int tag : {2, 1, 0}) {
      std::vector<float> got(x[std::size_t(tag)].size());
      net.receive(Span<float>(got), 0, tag);
      wrong += got != x[std::size_t(tag)];
    }
    return {wrong};
  });
  CHECK(answers[1] == std::vector<double>{0});
}

TEST_CASE("a receive that was given up leaves its buffer alone and the message to others") {
  auto const answers = support::Launch<SharedMemory>::run(2, [](SharedMemory& net) -> std::vector<double> {
    auto x = random_values<float>(200'000, 5);
    if (net.rank() == 1) {
      net.barrier();
      net.send(Span<float const>(x), 0, 1);
      return {};
    }
    std::vector<float> given_up(x.size());
    try {
      auto ticket = net.start_receive(Span<float>(given_up), 1, 1);
      throw std::runtime_error("something else went wrong");
    } catch (std::runtime_error const&) {
    }
    net.barrier();
    std::vector<float> got(x.size());
    net.receive(Span<float>(got), 1, 1);
    return {double(got == x), double(given_up == std::vector<float>(x.size()))};
  });
  CHECK(answers[0] == std::vector<double>{1, 1});
}

TEST_CASE("a rank missing from an all-reduce is named, and the collectives end there") {
  auto const answers = support::Launch<SharedMemory>::run(
      3,
      [](SharedMemory& net) -> std::vector<double> {
        auto x = random_values<float>(50'000, 5);
        std::vector<float> go{1};
        if (net.rank() == 2) {
          for (int heard = 0; heard < 2; ++heard)
            while (true) {
              auto const envelope = net.probe();
              if (!envelope) continue;
              net.receive(Span<float>(go), envelope->source, 7);
              break;
            }
          return {2, 1};
        }
        double named = -2;
        double broken = 0;
        try {
          net.all_reduce(Span<float>(x));
        } catch (Timeout const& e) {
          named = e.peer();
        }
        try {
          net.all_reduce(Span<float>(x));
        } catch (ProtocolError const&) {
          broken = 1;
        }
        net.send(Span<float const>(go), 2, 7);
        return {named, broken};
      },
      std::chrono::milliseconds(300));
  CHECK(answers == support::Answers(3, {2, 1}));
}

TEST_CASE("ranks that reduce different sizes are told so") {
  for (std::size_t n : {std::size_t(100), std::size_t(100'000)}) {
    auto const answers = support::Launch<SharedMemory>::run(2, [n](SharedMemory& net) -> std::vector<double> {
      auto x = random_values<float>(n + std::size_t(net.rank()), 5);
      return {double(message_of<ProtocolError>([&] {
                       net.all_reduce(Span<float>(x));
                     }).find("another size") != std::string::npos)};
    });
    CHECK(answers == support::Answers(2, {1}));
  }
}

}  // namespace
