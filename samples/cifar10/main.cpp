// SPDX-License-Identifier: Apache-2.0
// Trains an image classifier with any rule over any transport: one binary, a role for each process.
//
//   cifar10 server & cifar10 client --index 1 & cifar10 client --index 2 & cifar10 tester
#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include <unistd.h>

#include "choices.hpp"
#include "elastic/cli/command_line.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/dispatch.hpp"
#include "job.hpp"
#include "play.hpp"

namespace {

namespace transport = elastic::transport;

/// sysexits.h's EX_TEMPFAIL: stopped by a signal, with the center saved.
constexpr int exit_stopped = 75;

std::atomic<bool> stop{false};

/// The first Ctrl-C or SIGTERM ends the run in order; a second one at once. A thread of its own waits for them: a
/// handler would run on the stack of a thread that computes, and oneDNN's generated code keeps values there that a
/// handler overwrites.
void watch_signals() {
  static sigset_t const signals = [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
  }();
  for (int signal : {SIGINT, SIGTERM})
    std::signal(signal, SIG_DFL);                 // a shell may have set them to be ignored
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // in every thread that starts from here on
  std::thread([] {
    int signal = 0;
    sigwait(&signals, &signal);
    stop = true;
    sigwait(&signals, &signal);
    _exit(128 + signal);
  }).detach();
}

/// What the word on the command line makes this process: rank 0 is the server or the first client.
int rank_of(std::string const& role, sample::Job const& job, int servers) {
  if (role == "server" && servers == 0)
    throw elastic::ConfigError(job.rule + " has no server: start " + std::to_string(job.clients) +
                               " clients" + (job.testers ? " and a tester" : ""));
  if (role == "tester" && job.testers == 0) throw elastic::ConfigError("a tester in a job with --testers 0");
  if (role == "client" && job.index > job.clients)
    throw elastic::ConfigError("--index " + std::to_string(job.index) + " of --clients " +
                               std::to_string(job.clients));
  return role == "server" ? 0 : role == "tester" ? servers + job.clients : servers + job.index - 1;
}

/// Calls program(net) with this process's rank, or with all ranks where they live in this process.
template <class Net, class F>
void join(std::string const& role, sample::Job const& job, int servers, std::uint64_t generation, int argc,
          char** argv, F program) {
  std::chrono::duration<double> const timeout(job.timeout);
  int const size = servers + job.clients + job.testers;
  if constexpr (std::same_as<Net, transport::Tcp> || std::same_as<Net, transport::SharedMemory>) {
    if (role == "all")
      throw elastic::ConfigError("--transport " + job.transport +
                                 " has a process for each role: say server, client or tester instead of all");
  } else if (role != "all") {
    throw elastic::ConfigError("--transport " + job.transport +
                               " runs all roles at once: say all instead of " + role);
  }
  if constexpr (std::same_as<Net, transport::Tcp>) {
    Net net(transport::TcpOptions{.host = job.host,
                                  .port = static_cast<std::uint16_t>(job.port),
                                  .rank = rank_of(role, job, servers),
                                  .size = size,
                                  .timeout = timeout,
                                  .bind = job.bind,
                                  .job = job.job,
                                  .tls = job.tls,
                                  .star = servers > 0,
                                  .generation = generation});
    program(net);
  } else if constexpr (std::same_as<Net, transport::SharedMemory>) {
    Net net({.job = job.job,
             .rank = rank_of(role, job, servers),
             .size = size,
             .timeout = timeout,
             .elastic = servers > 0});
    program(net);
  } else if constexpr (std::same_as<Net, transport::Threads>) {
    transport::Threads::run(size, program, {.timeout = timeout});
  } else if constexpr (std::same_as<Net, transport::Serial>) {
    if (size != 1)
      throw elastic::ConfigError("--transport serial is one client: add --clients 1 --testers 0");
    Net net;
    program(net);
  } else {
    Net net(argc, argv, {.timeout = timeout});
    program(net);
  }
  (void)argc, (void)argv, (void)timeout, (void)generation;
}

/// Where the command line says.
template <class Net, class Rule>
bool play(Net& net, Rule const& rule, sample::Part const& part) {
  using sample::DeviceName;
  DeviceName const device = part.compute.device;
  if (device == DeviceName::cpu) return sample::play_on_cpu(net, rule, part);
  if constexpr (sample::between_processes<Net>) {
#ifdef SAMPLE_HAS_THRUST
    if (device == DeviceName::thrust) return sample::play_on_thrust(net, rule, part);
#endif
#ifdef SAMPLE_HAS_CUDA
    if (device == DeviceName::cuda) return sample::play_on_cuda(net, rule, part);
#endif
    throw elastic::ConfigError(
        device == DeviceName::cuda
            ? "--device cuda: this program was built without nvcc; build it where the CUDA "
              "toolkit is"
            : "--device thrust: this program was built without Thrust's headers (Debian: "
              "libthrust-dev)");
  } else {
    throw elastic::ConfigError("--device " + elastic::to_text(device) +
                               " has a process for each role: use --transport tcp, shared_memory or mpi");
  }
}

int run(int argc, char** argv) {
  sample::Job job;
  elastic::optimizer::Sgd sgd{.learning_rate = 0.05,
                              .momentum = 0.9,
                              .weight_decay = 1e-4,
                              .schedule = {.decay = elastic::optimizer::Decay::polynomial, .power = 1}};
  std::string role;
  elastic::cli::CommandLine line(
      "Trains an image classifier on Fashion-MNIST or CIFAR-10 with BSP, synchronous or asynchronous EASGD.\n"
      "`samples/run` starts a whole job; by hand, one process for each role:\n"
      "  cifar10 server &  cifar10 client --index 1 &  cifar10 client --index 2 &  cifar10 tester");
  line.add_word("role", role, "what this process is; all: every role, with mpi, threads or serial",
                {"server", "client", "tester", "all"});
  sample::Compute compute;
  line.add("The job", job);
  line.add("Where this process computes", compute);
  line.add("A net on a GPU", compute.net);
  line.add<elastic::rule::AsyncEasgd>("Rules async_easgd and sync_easgd");
  line.add<elastic::rule::Bsp>("Rule bsp");
  line.add("The local step", sgd);
  line.add("Its learning rate over time", sgd.schedule);
  auto const settings = line.parse(argc, argv, environ);
  if (!settings) return 0;
  elastic::cli::apply(*settings, job);
  elastic::cli::apply(*settings, compute);
  elastic::cli::apply(*settings, compute.net);
  elastic::cli::apply(*settings, sgd);
  elastic::cli::apply(*settings, sgd.schedule);
  job.check();
  if (sgd.schedule.end_epoch == 0) sgd.schedule.end_epoch = job.epochs;

  bool stopped = false;
  elastic::dispatch<elastic::device::Cpu, sample::Nets, sample::Rules>(
      job.transport, job.rule, [&]<class Net, class Rule>() {
        Rule rule;
        elastic::cli::apply(*settings, rule);
        rule.check(job.clients);
        constexpr int servers = Rule::needs == elastic::Needs::point_to_point ? 1 : 0;
        sample::Sets const sets = sample::load(job);
        sample::Commits commits(job, role, servers);
        join<Net>(role, job, servers, commits.lineage().generation, argc, argv, [&](Net& net) {
          if (play(net, rule, {job, compute, sgd, sets, commits, stop})) stopped = true;
        });
      });
  return stopped ? exit_stopped : 0;
}

}  // namespace

int main(int argc, char** argv) {
  watch_signals();
  try {
    return run(argc, argv);
  } catch (elastic::ConfigError const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
