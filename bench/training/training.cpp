// SPDX-License-Identifier: Apache-2.0
// One training job of a bench: forks workers, and the server that a rule has, trains, and prints where the time went,
// what went over the wire and how good the center was on the way, as one line of JSON. bench/efficiency and
// bench/comparison start it again and again.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "center_curve.hpp"
#include "elastic/cli/command_line.hpp"
#include "elastic/data/batches.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/dispatch.hpp"
#include "elastic/model/convnet.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/free_port.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/tcp.hpp"
#include "job.hpp"

namespace {

using namespace elastic;
using bench::Images;
using bench::Job;
using Clock = std::chrono::steady_clock;

/// What all processes of the job see.
struct Common {
  std::atomic<int> ready{0};
  std::uint16_t port = 0;
};

/// All start at one time, those that do not communicate, too.
void start_together(Common& common, int ranks) {
  common.ready.fetch_add(1);
  while (common.ready.load() < ranks) ::sched_yield();
}

/// From now on this process runs on one core, the `place`-th of those it may use, counted around.
void stay_on(int place) {
  cpu_set_t may, only;
  CPU_ZERO(&only);
  if (::sched_getaffinity(0, sizeof may, &may) != 0) return;
  for (int core = 0, left = place % CPU_COUNT(&may); core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &may) && left-- == 0) CPU_SET(core, &only);
  ::sched_setaffinity(0, sizeof only, &only);
}

/// One rank's part; `index` tells ranks apart that do not know of each other.
template <class Net, class Rule>
Json train(Net& net, Rule const& rule, Job const& job, optimizer::Sgd const& sgd, Images const& images,
           Common& common, int ranks, int index) {
  auto device = [&] {
    if constexpr (requires { net.resident(); }) return device::Cpu(net.resident());
    return device::Cpu();
  }();
  bool const served = Rule::needs == Needs::point_to_point;
  int const testers = served && job.points > 0 ? 1 : 0;
  Layout const layout{net.size(), served ? 1 : 0, testers};
  Role const role = layout.role_of(net.rank());
  int const workers = job.rule == "none" ? ranks : layout.workers();
  int const place = job.rule == "none" ? index : net.rank() - layout.first_worker();

  auto const architecture = bench::architecture(job, images.train);
  model::Convnet model(architecture, role == Role::tester ? bench::evaluation_batch : job.batch,
                       std::uint64_t(job.seed), device);
  model.reseed(std::uint64_t(job.seed), std::uint64_t(index));
  bool const works = role == Role::worker;
  data::Batches<data::ImageSet> batches(images.train, images.normal,
                                        {.batch = job.batch,
                                         .rank = works ? place : 0,
                                         .ranks = workers,
                                         .seed = std::uint64_t(job.seed),
                                         .crop = architecture.input().height,
                                         .flip = job.flip,
                                         .prefetch = 0});
  long const steps = bench::steps_of(job, images.train.count, workers);
  double const samples_per_version = double(rule.period) * job.batch * (served ? 1 : workers);
  bench::CenterCurve<model::Convnet> curve(model, job.points, double(job.batch) * workers,
                                           samples_per_version, steps);

  Trainer trainer(net, rule, model.device());
  Plan const plan{.steps = steps,
                  .sgd = sgd,
                  .steps_per_epoch = double(images.train.count) / (double(job.batch) * workers),
                  .testers = testers,
                  .test_every = 0.1};
  if (job.bind && works) stay_on(place);
  start_together(common, ranks);
  curve.start();
  Report const report = trainer.run(model, batches, plan, curve);
  return {{"role", role == Role::worker   ? "worker"
                   : role == Role::server ? "server"
                                          : "tester"},
          {"steps", report.steps},
          {"exchanges", report.exchanges},
          {"computing", report.seconds.computing},
          {"exchanging", report.seconds.exchanging},
          {"waiting", report.seconds.waiting},
          {"loading", report.seconds.loading},
          {"observing", report.seconds.observing},
          {"sent_bytes", report.traffic.sent_bytes},
          {"received_bytes", report.traffic.received_bytes},
          {"parameters", model.parameters().size()},
          {"loss", report.loss},
          {"curve", curve.evaluate(images, works ? job.batch : bench::evaluation_batch, job.test_images)}};
}

/// Enters the network namespace that `ip netns add` made under this name.
void enter(std::string const& network) {
  std::string const path = "/run/netns/" + network;
  int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 || ::setns(file, CLONE_NEWNET) != 0)
    throw ConfigError("networks: " + path + ": " + std::generic_category().message(errno));
  ::close(file);
}

Json play(Job const& job, optimizer::Sgd const& sgd, cli::Settings const& settings, Images const& images,
          Common& common, int ranks, int rank) {
  if (job.rule == "none") {
    transport::Serial net;
    rule::SyncEasgd const never{.period = std::numeric_limits<long>::max()};
    return train(net, never, job, sgd, images, common, ranks, rank);
  }
  Json result;
  using Rules = Types<rule::Bsp, rule::SyncEasgd, rule::AsyncEasgd>;
  select(Rules{}, "rule", job.rule, [&]<class Rule>(Type<Rule>) {
    Rule rule;
    cli::apply(settings, rule);
    auto const over = [&](auto& net) { result = train(net, rule, job, sgd, images, common, ranks, rank); };
    std::string const name = "bench-" + std::to_string(::getppid());
    if (job.transport == "tcp") {
      auto const networks = bench::words(job.networks);
      if (!networks.empty()) enter(networks[std::size_t(rank) % networks.size()]);
      transport::Tcp net({.host = job.host,
                          .port = common.port,
                          .rank = rank,
                          .size = ranks,
                          .bind = networks.empty() ? "127.0.0.1" : "0.0.0.0",
                          .job = name});
      over(net);
    } else {
      transport::SharedMemory net({.job = name, .rank = rank, .size = ranks});
      over(net);
    }
  });
  return result;
}

/// Runs one process for each rank and collects what they say.
Json run(int argc, char** argv) {
  Job job;
  optimizer::Sgd sgd{.learning_rate = 0.05};
  cli::CommandLine line(
      "One training job of a bench: workers in processes of their own, timed, with the center's test error "
      "on the "
      "way.\nPrints one line of JSON. For example\n"
      "  bench_training --rule async_easgd --transport shared_memory --workers 2 --period 10 --epochs 1");
  line.add("The job", job);
  line.add("Rules async_easgd and sync_easgd", rule::AsyncEasgd{});
  line.add("Rule bsp", rule::Bsp{});
  line.add("The local step", sgd);
  line.add("Its learning rate over time", sgd.schedule);
  auto const settings = line.parse(argc, argv, ::environ);
  if (!settings) return {};
  cli::apply(*settings, job);
  cli::apply(*settings, sgd);
  cli::apply(*settings, sgd.schedule);
  job.check();
  Images const images = bench::read(job);
  bool const served = job.rule == rule::AsyncEasgd::name;
  int const ranks = job.workers + (served ? 1 + (job.points > 0 ? 1 : 0) : 0);

  void* const page =
      ::mmap(nullptr, sizeof(Common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  auto* const common = new (page) Common;
  common->port = job.networks.empty() ? transport::free_port() : std::uint16_t(9000);

  struct Child {
    pid_t id;
    int answer;
  };
  std::vector<Child> children;
  for (int rank = 0; rank < ranks; ++rank) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    pid_t const id = ::fork();
    if (id < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (id == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      int status = 0;
      try {
        std::string const text = play(job, sgd, *settings, images, *common, ranks, rank).dump();
        for (std::size_t sent = 0; sent < text.size();) {
          auto const n = ::write(ends[1], text.data() + sent, text.size() - sent);
          if (n <= 0) break;
          sent += std::size_t(n);
        }
      } catch (std::exception const& e) {
        std::fprintf(stderr, "rank %d: %s\n", rank, e.what());
        status = 1;
      }
      ::_exit(status);
    }
    ::close(ends[1]);
    children.push_back({id, ends[0]});
  }

  Json reports = Json::array();
  bool good = true;
  for (auto const& child : children) {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(child.answer, buffer, sizeof buffer)) > 0;)
      text.append(buffer, std::size_t(n));
    int status = 0;
    ::waitpid(child.id, &status, 0);
    good = good && status == 0;
    if (good) reports.push_back(Json::parse(text));
  }
  if (!good) throw Error("a rank has failed; it says why above");
  return bench::summary(job, sgd, reports);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Json const result = run(argc, argv);
    if (!result.is_null()) std::printf("%s\n", result.dump().c_str());
    return 0;
  } catch (elastic::ConfigError const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
