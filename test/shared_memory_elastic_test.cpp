// SPDX-License-Identifier: Apache-2.0
// Elastic jobs in shared memory: ranks come late, leave, die and are replaced while rank 0 goes on, and nobody
// ever receives what was meant for, or said by, a process before.
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

#include "elastic/role.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/window.hpp"
#include "support/catch.hpp"
#include "support/launch.hpp"
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

SharedMemoryOptions options(std::string const& job, int rank, int size,
                            support::Seconds timeout = std::chrono::seconds(20)) {
  return {.job = job,
          .rank = rank,
          .size = size,
          .timeout = timeout,
          .memory = std::size_t(16) << 20,
          .elastic = true};
}
std::filesystem::path object_of(std::string const& job) {
  return "/dev/shm/elastic-" + std::to_string(::geteuid()) + "-" + job;
}
template <class F>
auto start_rank(std::string const& job, int rank, int size, F program) {
  return start_process([&, rank, size]() -> std::vector<double> {
    SharedMemory net(options(job, rank, size));
    return program(net);
  });
}
void send_number(SharedMemory& net, int peer, int tag, double number) {
  net.send(read(as_bytes(number)), peer, tag);
}
double receive_number(SharedMemory& net, int peer, int tag) {
  double number = 0;
  net.receive(as_bytes(number), peer, tag);
  return number;
}
template <class F>
int lost_peer(F call) {
  try {
    call();
  } catch (PeerLost const& e) {
    return e.peer();
  }
  return -2;
}
/// Waits for a number with tag 1 from whoever has place `peer`, or comes to have it.
double meet(SharedMemory& net, int peer) {
  for (;;) try {
      if (net.wait_message().source == peer) return receive_number(net, peer, 1);
    } catch (PeerLost const&) {  // the one before
    }
}
/// Ends the process, and returns once that is so.
void kill_now(support::Child const& child) {
  ::kill(child.pid, SIGKILL);
  CHECK_THROWS_WITH(finish_process(child), "killed by signal 9");
}

TEST_CASE("ranks come while the job runs, leave, and come back") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 4));
  CHECK(net.elastic());
  CHECK(std::filesystem::exists(object_of(job)));
  CHECK_FALSE(net.probe());
  double number = 1;
  CHECK_THAT(message_of<PeerLost>([&] { net.send(read(as_bytes(number)), 2, 1); }),
             ContainsSubstring("nobody has its place"));
  for (int visit = 0; visit < 5; ++visit) {
    std::vector<support::Child> guests;
    for (int r : {3, 1})
      guests.push_back(start_rank(job, r, 4, [&](SharedMemory& guest) -> std::vector<double> {
        auto const x = random_values<float>(300'000, unsigned(guest.rank()));
        guest.send(Span<float const>(x), 0, 5);
        return {receive_number(guest, 0, 6)};
      }));
    for (int heard = 0; heard < 2; ++heard) {
      auto const message = net.wait_message();
      std::vector<float> x(message.bytes / sizeof(float));
      net.receive(Span<float>(x), message.source, 5);
      CHECK(x == random_values<float>(300'000, unsigned(message.source)));
      send_number(net, message.source, 6, message.source + 10 * visit);
    }
    CHECK(finish_process(guests[0]) == std::vector<double>{3.0 + 10 * visit});
    CHECK(finish_process(guests[1]) == std::vector<double>{1.0 + 10 * visit});
  }
}

TEST_CASE(
    "a killed rank is told of once; its half message never reaches anybody; another one has its place") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 3));
  auto const witness = start_rank(job, 2, 3, [](SharedMemory& guest) -> std::vector<double> {
    send_number(guest, 0, 1, 2);
    return {receive_number(guest, 0, 2)};
  });
  CHECK(receive_number(net, 2, 1) == 2);
  for (int generation = 0; generation < 4; ++generation) {
    auto const victim = start_rank(job, 1, 3, [](SharedMemory& guest) -> std::vector<double> {
      send_number(guest, 0, 1, 7);
      auto const x = random_values<float>(10'000'000, 1);
      guest.send(Span<float const>(x), 0, 5);  // more than the ring holds: it waits for its receiver
      return {};
    });
    CHECK(meet(net, 1) == 7);
    Envelope const half = net.wait_message();
    CHECK((half.source == 1 && half.tag == 5));
    std::vector<float> x(10'000'000);
    if (generation % 2 == 0) {
      kill_now(victim);
      CHECK(lost_peer([&] { net.receive(Span<float>(x), 1, 5); }) == 1);
      CHECK(lost_peer([&] {
              for (;;) net.receive(Span<float>(x), net.wait_message().source, 9);
            }) == 1);
    } else {  // replaced before anybody has noticed
      auto ticket = net.start_receive(Span<float>(x), 1, 5);
      kill_now(victim);
      finish_process(start_rank(job, 1, 3, [](SharedMemory&) -> std::vector<double> { return {}; }));
      CHECK(lost_peer([&] { ticket.wait(); }) == 1);
      CHECK(lost_peer([&] { net.wait_message(); }) == 1);
    }
    auto const heir = start_rank(job, 1, 3, [&](SharedMemory& guest) -> std::vector<double> {
      auto const mine = random_values<float>(200'000, 77);
      guest.send(Span<float const>(mine), 0, 5);
      return {receive_number(guest, 0, 2)};
    });
    CHECK(net.wait_message().source == 1);
    std::vector<float> whole(200'000);
    net.receive(Span<float>(whole), 1, 5);
    CHECK(whole == random_values<float>(200'000, 77));
    send_number(net, 1, 2, 3);
    CHECK(finish_process(heir) == std::vector<double>{3});
  }
  send_number(net, 2, 2, 4);
  CHECK(finish_process(witness) == std::vector<double>{4});
}

TEST_CASE("what was sent to a process does not reach the next one in its place") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 2));
  for (int generation = 0; generation < 3; ++generation) {
    auto const victim = start_rank(job, 1, 2, [](SharedMemory& guest) -> std::vector<double> {
      send_number(guest, 0, 1, 1);
      for (;;) ::pause();
    });
    meet(net, 1);
    send_number(net, 1, 2, 5);  // never received
    auto const x = random_values<float>(10'000'000, 1);
    auto ticket = net.start_send(Span<float const>(x), 1, 3);
    kill_now(victim);
    auto const heir = start_rank(job, 1, 2, [](SharedMemory& guest) -> std::vector<double> {
      send_number(guest, 0, 1, 1);
      return {receive_number(guest, 0, 2)};
    });
    CHECK(lost_peer([&] { ticket.wait(); }) == 1);
    meet(net, 1);
    send_number(net, 1, 2, 6);
    CHECK(finish_process(heir) == std::vector<double>{6});
  }
}

TEST_CASE("the failure of a worker does not end an elastic job, that of rank 0 does") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 3));
  finish_process(start_rank(job, 1, 3, [](SharedMemory& guest) -> std::vector<double> {
    guest.abort("this one only");
    return {};
  }));
  CHECK_THAT(message_of<PeerLost>([&] { net.wait_message(); }), ContainsSubstring("rank 1: it has failed"));
  auto const other = start_rank(job, 2, 3, [](SharedMemory& guest) -> std::vector<double> {
    send_number(guest, 0, 1, 1);
    auto const why = message_of<Aborted>([&] { receive_number(guest, 0, 2); });
    return {double(why.find("enough") != std::string::npos)};
  });
  meet(net, 2);
  net.abort("enough");
  CHECK(finish_process(other) == std::vector<double>{1});
}

TEST_CASE("rank 0 killed is a PeerLost at the others, and the name is free for another run") {
  auto const job = support::unique_name();
  auto const server = start_rank(job, 0, 2, [](SharedMemory& net) -> std::vector<double> {
    receive_number(net, 1, 1);
    ::raise(SIGKILL);
    return {};
  });
  auto const worker = start_rank(job, 1, 2, [](SharedMemory& net) -> std::vector<double> {
    send_number(net, 0, 1, 1);
    std::vector<double> lost{double(lost_peer([&] { net.wait_message(); }))};
    lost.push_back(double(lost_peer([&] { receive_number(net, 0, 2); })));
    SharedMemory const fresh(options("stands-alone-" + std::to_string(::getpid()), 0, 2));
    return lost;
  });
  CHECK_THROWS(finish_process(server));
  CHECK(finish_process(worker) == std::vector<double>{0, 0});
  SharedMemory const again(options(job, 0, 2));
  CHECK(again.size() == 2);
}

TEST_CASE("one later run of any name tidies up after a run that was killed as a whole") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < 3; ++r)
    ranks.push_back(start_rank(job, r, 4, [](SharedMemory& net) -> std::vector<double> {
      auto const window = net.make_window<float>(1'000'000);
      if (net.rank() != 0) send_number(net, 0, 1, 1);
      for (;;) net.rank() == 0 ? (void)net.probe() : (void)::pause();
    }));
  finish_process(start_rank(job, 3, 4, [](SharedMemory&) -> std::vector<double> { return {}; }));
  for (auto const& rank : ranks) kill_now(rank);
  REQUIRE(std::filesystem::exists(object_of(job)));
  { SharedMemory const later(options(support::unique_name(), 0, 1)); }
  CHECK_FALSE(std::filesystem::exists(object_of(job)));
}

TEST_CASE("a place that is taken, another kind of job and a second rank 0 are refused; collectives too") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 2));
  auto const worker = start_rank(job, 1, 2, [](SharedMemory& guest) -> std::vector<double> {
    send_number(guest, 0, 1, 1);
    return {receive_number(guest, 0, 2)};
  });
  receive_number(net, 1, 1);
  CHECK_THAT(message_of<ConfigError>([&] { SharedMemory(options(job, 1, 2)); }),
             ContainsSubstring("rank 1 of job '" + job + "' has been taken"));
  CHECK_THAT(message_of<ConfigError>([&] { SharedMemory(options(job, 0, 2)); }),
             ContainsSubstring("is already running, rank 0 is pid " + std::to_string(::getpid())));
  auto fixed = options(job, 1, 2);
  fixed.elastic = false;
  CHECK_THAT(message_of<ConfigError>([&] { SharedMemory{fixed}; }),
             ContainsSubstring("rank 0 of job '" + job + "' was started with elastic = true"));
  CHECK_THAT(message_of<ConfigError>([&] { net.barrier(); }),
             ContainsSubstring("start it with elastic = false"));
  CHECK_THROWS_AS(net.team(2), ConfigError);
  send_number(net, 1, 2, 1);
  finish_process(worker);
}

TEST_CASE("a stripe that a replaced process held is free") {
  auto const job = support::unique_name();
  SharedMemory net(options(job, 0, 2));
  auto window = net.make_window<double>(10);
  auto const open = [&](SharedMemory& guest) {
    SharedMemory::WindowHandle handle;
    guest.receive(as_bytes(handle), 0, 2);
    return guest.open_window<double>(handle);
  };
  auto const victim = start_rank(job, 1, 2, [&](SharedMemory& guest) -> std::vector<double> {
    send_number(guest, 0, 1, 1);
    auto const theirs = open(guest);
    auto const held = theirs.lock(0);
    held.span()[3] = 4;
    send_number(guest, 0, 1, 1);
    for (;;) ::pause();
  });
  auto handle = window.handle();
  receive_number(net, 1, 1);
  net.send(read(as_bytes(handle)), 1, 2);
  receive_number(net, 1, 1);
  CHECK_FALSE(window.try_lock(0));
  kill_now(victim);
  auto const heir = start_rank(job, 1, 2, [&](SharedMemory& guest) -> std::vector<double> {
    send_number(guest, 0, 1, 1);
    auto const theirs = open(guest);
    auto const held = theirs.lock(0);
    held.span()[3] *= 2;
    return {held.span()[3]};
  });
  meet(net, 1);
  net.send(read(as_bytes(handle)), 1, 2);
  CHECK(finish_process(heir) == std::vector<double>{8});
  CHECK(window.lock(0).span()[3] == 8);
}

}  // namespace
