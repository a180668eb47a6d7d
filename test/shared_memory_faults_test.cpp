// SPDX-License-Identifier: Apache-2.0
// At every stage of a job in shared memory: a killed process is a PeerLost that names it, at once; a stopped one
// a Timeout that names it; and one that goes on too late is told so. Nobody hangs.
// processors: 1
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <functional>
#include <memory_resource>

#include "elastic/device/cpu.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "support/catch.hpp"
#include "support/launch.hpp"

namespace {

using namespace elastic;
using support::finish_process;
using support::random_values;
using support::start_process;
using transport::SharedMemory;
namespace detail = transport::detail;

constexpr int size = 3, victim = 2;
constexpr double fine = 0, peer_lost = 1, timed_out = 2, protocol_error = 3;  // outcomes

/// What the survivors do, and what the victim would have done with them.
struct Stage {
  char const* name;
  std::function<void(SharedMemory&)> survivor, late;
  bool names_the_late = true;   // a wait for anybody's message waits for nobody in particular
  bool late_is_refused = true;  // what is complete before it goes on may succeed
};

std::function<void(SharedMemory&)> sum(std::size_t n, bool resident, int times = 1) {
  return [=](SharedMemory& net) {
    device::Cpu device(resident ? net.resident() : *std::pmr::new_delete_resource());
    auto const x = device.allocate<float>(n);
    for (int k = 0; k < times; ++k) net.all_reduce(x.span());
  };
}
void send_both(SharedMemory& net) {
  auto const x = random_values<float>(3'000'000, 1);
  for (int peer : {0, 1}) net.send(Span<float const>(x), peer, 1);
}
void receive_both(SharedMemory& net) {
  std::vector<float> x(3'000'000);
  for (int peer : {0, 1}) net.receive(Span<float>(x), peer, 1);
}
void send_victim(SharedMemory& net) {
  auto const x = random_values<float>(3'000'000, 1);
  net.send(Span<float const>(x), victim, 1);
}
void receive_victim(SharedMemory& net) {
  std::vector<float> x(3'000'000);
  net.receive(Span<float>(x), victim, 1);
}

std::vector<Stage> const stages{
    {"send", send_victim, receive_both},
    {"receive", receive_victim, send_both},
    {"wait_message", [](SharedMemory& net) { net.wait_message(); }, send_both, false},
    {"barrier", [](SharedMemory& net) { net.barrier(); }, [](SharedMemory& net) { net.barrier(); }, true,
     false},
    {"small sum", sum(10, false), sum(10, false), true, false},
    {"staged sum", sum(3'000'000, false), sum(3'000'000, false)},
    {"sum in place", sum(50'000, true), sum(50'000, true)},
    {"large sum in place", sum(3'000'000, true, 2), sum(3'000'000, true, 2)},
};

/// What ranks and test tell each other.
struct Board {
  std::atomic<int> concluded;  // survivors that know their outcome
  std::atomic<bool> over;      // everybody may leave
};

template <class F>
std::vector<double> outcome_of(F call) {
  try {
    call();
    return {fine, -1};
  } catch (PeerLost const& e) {
    return {peer_lost, double(e.peer())};
  } catch (Timeout const& e) {
    return {timed_out, double(e.peer())};
  } catch (ProtocolError const& e) {
    return {protocol_error, double(e.peer())};
  }
}

/// Two survivors' outcomes, and the victim's if it was stopped and went on afterwards.
std::vector<std::vector<double>> suffer(Stage const& stage, int signal, support::Seconds timeout) {
  auto* const board = static_cast<Board*>(
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < size; ++r)
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      SharedMemory net(
          {.job = job, .rank = r, .size = size, .timeout = timeout, .memory = std::size_t(16) << 20});
      net.barrier();
      if (r == victim) {
        ::raise(signal);
        return outcome_of([&] { stage.late(net); });
      }
      auto const outcome = outcome_of([&] { stage.survivor(net); });
      ++board->concluded;
      while (!board->over) sched_yield();
      return outcome;
    }));
  std::vector<std::vector<double>> outcomes(size);
  while (board->concluded < size - 1) sched_yield();
  if (signal == SIGSTOP) {
    ::kill(ranks[victim].pid, SIGCONT);
    outcomes[victim] = finish_process(ranks[victim]);
  } else {
    CHECK_THROWS_WITH(finish_process(ranks[victim]), "killed by signal 9");
  }
  board->over = true;
  for (std::size_t r : {0u, 1u}) outcomes[r] = finish_process(ranks[r]);
  ::munmap(board, sizeof(Board));
  return outcomes;
}

TEST_CASE("a killed process is a PeerLost that names it, at every stage") {
  for (Stage const& stage : stages) {
    INFO(stage.name);
    auto const outcomes = suffer(stage, SIGKILL, std::chrono::seconds(60));
    for (std::size_t r : {0u, 1u}) CHECK(outcomes[r] == std::vector<double>{peer_lost, victim});
  }
}

TEST_CASE("a stopped process is a Timeout that names it, and is told so when it goes on") {
  for (Stage const& stage : stages) {
    INFO(stage.name);
    auto const outcomes = suffer(stage, SIGSTOP, std::chrono::milliseconds(400));
    for (std::size_t r : {0u, 1u})
      CHECK(outcomes[r] == std::vector<double>{timed_out, stage.names_the_late ? victim : -1.0});
    if (stage.late_is_refused) CHECK(outcomes[victim][0] != fine);
  }
}

TEST_CASE("a process killed while the job forms is a PeerLost at those who have come") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r : {0, victim})
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      return outcome_of([&] { SharedMemory net({.job = job, .rank = r, .size = size}); });
    }));
  for (bool joined = false; !joined; sched_yield()) {
    auto const found = detail::NamedObject::open("/elastic-" + std::to_string(::geteuid()) + "-" + job);
    if (!found) continue;
    std::byte* const base = found->mapping->data();
    detail::JobHeader const& header = detail::Layout::header(base);
    joined = header.phase.load() == detail::JobHeader::forming &&
             detail::Layout(header.geometry).member(base, victim).state.load() == detail::Member::joined;
  }
  ::kill(ranks[1].pid, SIGKILL);
  CHECK_THROWS_WITH(finish_process(ranks[1]), "killed by signal 9");
  CHECK(finish_process(ranks[0]) == std::vector<double>{peer_lost, victim});
}

TEST_CASE("an object that was opened while its maker enlarged it is told from a whole one") {
  std::string const job = support::unique_name(),
                    name = "/elastic-" + std::to_string(::geteuid()) + "-" + job;
  auto const made = detail::NamedObject::create(name, job, 4096, 4096);
  auto const early = detail::NamedObject::open(name);
  REQUIRE(early);
  CHECK(!early->grown());
  REQUIRE(::ftruncate(made.second.file.get(), 8192) == 0);
  CHECK(early->grown());
  auto const whole = detail::NamedObject::open(name);
  REQUIRE(whole);
  CHECK(!whole->grown());
  CHECK(whole->mapping->size() == 8192);
}

TEST_CASE("a rank that has left is a PeerLost at those who wait for it in a sum") {
  auto const job = support::unique_name();
  std::vector<support::Child> ranks;
  for (int r = 0; r < 2; ++r)
    ranks.push_back(start_process([&, r]() -> std::vector<double> {
      SharedMemory net({.job = job, .rank = r, .size = 2, .memory = std::size_t(16) << 20});
      net.barrier();
      if (r == 1) return {};
      return outcome_of([&] { sum(100'000, false)(net); });
    }));
  finish_process(ranks[1]);
  CHECK(finish_process(ranks[0]) == std::vector<double>{peer_lost, 1});
}

}  // namespace
