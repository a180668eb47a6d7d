// SPDX-License-Identifier: Apache-2.0
// Asynchronous EASGD over connections that break and servers that are killed: every delta is in the center
// once, to the last bit.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <latch>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "elastic/model/center_store.hpp"
#include "elastic/transport/tcp.hpp"
#include "exact/conservation.hpp"
#include "support/catch.hpp"
#include "support/cutting_proxy.hpp"
#include "support/launch_tcp.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using exact::Answers;
using exact::distance;
using exact::whole_numbers;
using support::CuttingProxy;
using transport::Tcp;

constexpr std::size_t size = 100'000;  // 13 shards of doubles, more than are on their way at a time

/// One rank of a job whose numbers stay exact; returns its parameters, a server its center.
Report play(Tcp& net, std::vector<double>& x, long exchanges, rule::Order order) {
  device::Cpu cpu;
  exact::Bumpy<double> model(cpu, size);
  data::Noise<double> noise(size, 1, 3);
  x = whole_numbers<double>(size, unsigned(net.rank() + 50));
  exact::set(model.parameters(), x);
  Trainer<Tcp, rule::AsyncEasgd, device::Cpu, double> trainer(
      net, {.alpha = .25, .period = 1, .order = order}, cpu);
  Report const report =
      trainer.run(model, noise, {.steps = exchanges, .sgd = {.learning_rate = 0}, .same_start = false});
  x = exact::values(model.parameters());
  return report;
}

}  // namespace

TEST_CASE("connections cut anywhere in an exchange lose no delta and repeat none") {
  constexpr int workers = 2;
  constexpr long exchanges = 10;
  std::vector<double> expected(size);
  for (int r = 0; r <= workers; ++r) {
    auto const x = whole_numbers<double>(size, unsigned(r + 50));
    for (std::size_t i = 0; i < size; ++i) expected[i] += x[i];
  }
  for (auto const order : {rule::Order::post_step, rule::Order::jacobi})
    for (unsigned seed = 1; seed <= 3; ++seed) {
      std::uint16_t const port = transport::free_port();
      std::mt19937 random(seed);
      std::uniform_int_distribution<std::uint64_t> bytes(300, 4'000'000);
      CuttingProxy proxy(port, [&](int connection) {
        return connection < 24 ? bytes(random) : std::uint64_t(1) << 60;  // in the end everybody gets through
      });
      std::mutex mutex;
      std::map<int, Report> reports;
      auto const make = [&](int rank) {
        return Tcp({.port = rank == 0 ? port : proxy.port(),
                    .rank = rank,
                    .size = workers + 1,
                    .timeout = std::chrono::seconds(30),
                    .star = true});
      };
      Answers const answers = support::run_threads(workers + 1, make, [&](Tcp& net) {
        std::vector<double> x;
        Report const report = play(net, x, exchanges, order);
        std::lock_guard const lock(mutex);
        reports[net.rank()] = report;
        return x;
      });
      std::vector<double> total(size);
      for (auto const& x : answers)
        for (std::size_t i = 0; i < size; ++i) total[i] += x[i];
      CAPTURE(seed, order == rule::Order::jacobi, proxy.cuts());
      CHECK(distance(total, expected) == 0);
      CHECK(reports[0].exchanges == workers * exchanges);
      CHECK(reports[0].lost == 0);
      CHECK(reports[1].lost + reports[2].lost == 0);
      CHECK(proxy.cuts() > 5);
      CHECK(reports[1].rejoined + reports[2].rejoined > 3);
    }
}

namespace {

/// A server that commits after every exchange; returns version, what it was told is lost, and its generation.
std::vector<double> serve(std::uint16_t port, std::filesystem::path const& folder, int size_of_job) {
  model::CenterStore store(folder);
  auto const commit = store.load([](std::string const&) {});
  Tcp net({.port = port,
           .rank = 0,
           .size = size_of_job,
           .timeout = std::chrono::seconds(20),
           .star = true,
           .generation = commit ? commit->lineage.generation : 0});
  device::Cpu cpu;
  exact::Bumpy<float> model(cpu, 1000);
  data::Noise<float> noise(1000, 1, 3);
  Plan plan{.steps = 0, .sgd = {.learning_rate = 0}, .commit_every = 1e-9};
  Trainer<Tcp, rule::AsyncEasgd, device::Cpu> trainer(net, {.alpha = 1, .period = 1}, cpu);
  if (commit) {
    plan.lineage = commit->lineage;
    trainer.restore("center", Span<float const>(commit->center));
  }
  double forgotten = 0, version = 0;
  trainer.run(
      model, noise, plan, store, [&](event::Joined const& e) { forgotten += double(e.lost); },
      [&](event::Applied const& e) { version = double(e.version); });
  return {version, forgotten, double(plan.lineage.generation)};
}

/// Noise whose `after`-th batch waits until somebody closes the other end of `gate`.
struct Gated {
  data::Noise<float> noise;
  long after;
  int gate;
  auto const& next() {
    char byte;
    if (after-- == 0 && ::read(gate, &byte, 1) != 0) throw std::runtime_error("read");
    return noise.next();
  }
};

std::vector<double> work(std::uint16_t port, int rank, int size_of_job, long exchanges, int gate) {
  Tcp net(
      {.port = port, .rank = rank, .size = size_of_job, .timeout = std::chrono::seconds(20), .star = true});
  device::Cpu cpu;
  exact::Bumpy<float> model(cpu, 1000);
  Gated noise{{1000, 1, 3}, exchanges / 2, gate};
  Trainer<Tcp, rule::AsyncEasgd, device::Cpu> trainer(net, {.alpha = 1, .period = 1}, cpu);
  Report const report = trainer.run(model, noise, {.steps = exchanges, .sgd = {.learning_rate = 0}});
  return {double(report.exchanges), double(report.rejoined), double(net.generation())};
}

}  // namespace

TEST_CASE(
    "a killed server goes on from its last commit, its workers come back, and what is lost is counted") {
  constexpr long exchanges = 4000;
  support::TempFolder folder;
  std::uint16_t const port = transport::free_port();
  pid_t server = ::fork();
  REQUIRE(server >= 0);
  if (server == 0) {
    try {
      serve(port, folder.path(), 3);
    } catch (std::exception const&) {
    }
    ::_exit(0);
  }
  int gate[2];  // nobody ends before the server is killed
  REQUIRE(::pipe(gate) == 0);
  std::vector<support::Child> workers;
  for (int r = 1; r <= 2; ++r)
    workers.push_back(support::start_process([&] {
      ::close(gate[1]);
      return work(port, r, 3, exchanges, gate[0]);
    }));
  auto const committed = [&] {  // the version of the last commit, as its name says
    std::uint64_t last = 0;
    for (auto const& entry : std::filesystem::directory_iterator(folder.path())) {
      std::string const name = entry.path().filename().string();
      if (name.starts_with("commit-") && name.ends_with(".safetensors"))
        last = std::max<std::uint64_t>(last, std::stoull(name.substr(18, 20)));
    }
    return last;
  };
  while (committed() < 500) std::this_thread::yield();
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  ::close(gate[1]);
  std::uint64_t const last = committed();
  auto const successor = support::start_process([&] { return serve(port, folder.path(), 3); });
  double done = 0;
  for (auto const& worker : workers) {
    auto const answer = support::finish_process(worker);
    CHECK(answer[0] == exchanges);
    CHECK(answer[1] >= 1);  // came back
    CHECK(answer[2] == 1);  // to the next generation
    done += answer[0];
  }
  auto const answer = support::finish_process(successor);
  CAPTURE(last, done);
  CHECK(answer[0] + answer[1] == done);  // every exchange is in the center or known to be lost
  CHECK(answer[0] > double(last));
  CHECK(answer[2] == 1);
}

TEST_CASE("a server knows how stale each delta is, and how far a worker was from the center") {
  constexpr long others = 5;
  auto const x = whole_numbers<float>(size, 50);
  double norm = 0;
  for (float const value : x) norm += double(value) * double(value);
  norm = std::sqrt(norm);
  for (auto const order : {rule::Order::jacobi, rule::Order::post_step}) {
    std::latch begun(1), moved(1);
    std::vector<event::Applied> of_first, of_second;
    support::run_threads(3, support::tcp_maker(3, std::chrono::seconds(20)), [&](Tcp& net) {
      bool const first = net.rank() == 1;
      device::Cpu cpu;
      model::Quadratic<float> model(cpu, size, 0.5f);
      data::Noise<float> noise(size, 0, 1);
      if (first)
        exact::set(model.parameters(), x);  // the others are at 0, and so is the center until the first moves
      auto const on_step = [&](event::Step const& e) {
        if (e.step > 0) return;
        if (e.rank == 1) begun.count_down(), moved.wait();
        if (e.rank == 2) begun.wait();
      };
      auto const on_applied = [&](event::Applied const& e) {
        (e.worker == 1 ? of_first : of_second).push_back(e);
        if (e.version == others) moved.count_down();
      };
      Trainer<Tcp, rule::AsyncEasgd, device::Cpu> trainer(net, {.alpha = .25, .period = 1, .order = order},
                                                          cpu);
      trainer.run(model, noise,
                  {.steps = first ? 2 : others,
                   .sgd = {.learning_rate = 1},
                   .distance_every = first ? 1e-9 : 0,
                   .same_start = false},
                  on_step, on_applied);
      return std::vector<double>{};
    });
    REQUIRE(of_first.size() == 2);
    REQUIRE(of_second.size() == others);
    for (auto const& e : of_second) {
      CHECK(e.staleness == 0);
      CHECK(std::isnan(e.distance));  // it was not asked to measure
    }
    bool const early = order == rule::Order::jacobi;  // it asked for the center before the others moved it
    CHECK(of_first[0].staleness <= (early ? others : 0));
    CHECK(of_first[0].staleness >= (early ? 1 : 0));
    CHECK(of_first[1].staleness == 0);
    CHECK(of_first[1].distance == Approx((early ? 1 : 0.5) * norm).epsilon(1e-6));  // in the exchange before
  }
}
