// SPDX-License-Identifier: Apache-2.0
// From options to a role over a transport on a device, the same for all programs of the kit.
#include "program.hpp"

#include <algorithm>
#include <atomic>
#include <concepts>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include <unistd.h>

#include "choices.hpp"
#include "elastic/cli/place.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/dispatch.hpp"
#include "play.hpp"
#include "theano_mpi.hpp"

namespace sample {
namespace {

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
int rank_of(std::string const& role, Job const& job, int servers) {
  if (role == "server" && servers == 0)
    throw elastic::ConfigError(job.rule + " has no server: start " + std::to_string(job.clients) +
                               " clients" + (job.testers ? " and a tester" : ""));
  if (role == "tester" && job.testers == 0) throw elastic::ConfigError("a tester in a job with --testers 0");
  if (role == "client" && job.index > job.clients)
    throw elastic::ConfigError("--index " + std::to_string(job.index) + " of --clients " +
                               std::to_string(job.clients));
  return role == "server" ? 0 : role == "tester" ? servers + job.clients : servers + job.index - 1;
}

/// Where processes do not start each other: a role for each.
template <class Net>
inline constexpr bool role_each =
    std::same_as<Net, transport::Tcp> || std::same_as<Net, transport::SharedMemory>;

/// The command lines of a job, one a process: what samples/launch starts.
template <class Net>
void print_roles(Job const& job, int servers) {
  if constexpr (std::same_as<Net, transport::Threads> || std::same_as<Net, transport::Serial>) {
    std::printf("all\n");
  } else if constexpr (!role_each<Net>) {
    std::printf("mpirun %d all\n", servers + job.clients + job.testers);
  } else {
    if (servers > 0) std::printf("server\n");
    for (int i = 1; i <= job.clients; ++i) std::printf("client --index %d\n", i);
    if (job.testers > 0) std::printf("tester\n");
  }
}

/// The role that this process's launcher gives it; where the command line says nothing else, the launcher's other
/// words count, too: how many processes there are, where the first one is, which GPU this one has.
template <class Net>
std::string take_place(Job& job, Compute& compute, elastic::cli::Settings const& settings, int servers) {
  if constexpr (!role_each<Net>) {
    return "all";
  } else {
    auto const place = elastic::cli::detect_place(environ);
    if (!settings.contains("clients")) job.clients = place.size - servers - job.testers;
    int const size = servers + job.clients + job.testers;
    if (size != place.size || job.clients < 1)
      throw elastic::ConfigError("auto: " + place.source + " says that there are " +
                                 std::to_string(place.size) + " processes; " + std::to_string(servers) +
                                 " server(s), " + std::to_string(job.testers) + " tester(s) and " +
                                 (settings.contains("clients") ? std::to_string(job.clients) : "at least 1") +
                                 " client(s) are asked for");
    if (!settings.contains("host") && !place.host.empty()) job.host = place.host;
    if (!settings.contains("port") && place.port > 0) job.port = place.port;
    if (!settings.contains("gpu")) compute.gpu = place.local_rank;
    job.index = std::clamp(place.rank - servers + 1, 1, job.clients);
    std::string const role = place.rank < servers                 ? "server"
                             : place.rank < servers + job.clients ? "client"
                                                                  : "tester";
    std::fprintf(stderr, "rank %d of %d is %s, says %s\n", place.rank, place.size,
                 role == "client" ? ("client " + std::to_string(job.index)).c_str() : role.c_str(),
                 place.source.c_str());
    return role;
  }
}

/// Calls program(net) with this process's rank, or with all ranks where they live in this process.
template <class Net, class F>
void join(std::string const& role, Job const& job, int servers, std::uint64_t generation, int argc,
          char** argv, F program) {
  std::chrono::duration<double> const timeout(job.timeout);
  int const size = servers + job.clients + job.testers;
  if constexpr (role_each<Net>) {
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
bool play_where_told(Net& net, Rule const& rule, Part const& part) {
  DeviceName const device = part.compute.device;
  if (device == DeviceName::cpu) return play_on_cpu(net, rule, part);
  if constexpr (between_processes<Net>) {
#ifdef SAMPLE_HAS_THRUST
    if (device == DeviceName::thrust) return play_on_thrust(net, rule, part);
#endif
#ifdef SAMPLE_HAS_CUDA
    if (device == DeviceName::cuda) return play_on_cuda(net, rule, part);
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

}  // namespace

Program::Program(std::string const& description, Job job, elastic::optimizer::Sgd sgd)
    : job_(std::move(job)), sgd_(std::move(sgd)), line_(description) {
  line_.add_word(
      "role", role_,
      "what this process is; all: every role, with mpi, threads or serial; auto: what the launcher says "
      "(torchrun, srun, mpirun); roles: prints those of the job",
      {"server", "client", "tester", "all", "auto", "roles"});
}

int Program::run(int argc, char** argv, std::function<std::unique_ptr<Task>(Job const&)> const& load) {
  line_.add("The job", job_);
  line_.add("Where this process computes", compute_);
  line_.add("A net on a GPU", compute_.net);
  line_.add<elastic::rule::AsyncEasgd>("Rules async_easgd and sync_easgd");
  line_.add<elastic::rule::Bsp>("Rule bsp");
  line_.add("The local step", sgd_);
  line_.add("Its learning rate over time", sgd_.schedule);
  auto settings = line_.parse(argc, argv, environ);
  if (!settings) return 0;
  if (auto const files = settings->find("theano_mpi_config"); files != settings->end())
    for (auto const& [key, setting] : theano_mpi::read(files->second.text)) {
      elastic::cli::check_key(key, setting.origin, line_.keys());
      settings->try_emplace(key, setting);
    }
  for (auto const& read : readers_) read(*settings);
  elastic::cli::apply(*settings, job_);
  elastic::cli::apply(*settings, compute_);
  elastic::cli::apply(*settings, compute_.net);
  elastic::cli::apply(*settings, sgd_);
  elastic::cli::apply(*settings, sgd_.schedule);
  job_.check();
  if (sgd_.schedule.end_epoch == 0) sgd_.schedule.end_epoch = job_.epochs;

  bool stopped = false;
  elastic::dispatch<elastic::device::Cpu, Nets, Rules>(
      job_.transport, job_.rule, [&]<class Net, class Rule>() {
        Rule rule;
        elastic::cli::apply(*settings, rule);
        constexpr int servers = Rule::needs == elastic::Needs::point_to_point ? 1 : 0;
        if (role_ == "roles") return print_roles<Net>(job_, servers);
        if (role_ == "auto") role_ = take_place<Net>(job_, compute_, *settings, servers);
        rule.check(job_.clients);
        auto const task = load(job_);
        Commits commits(job_, role_, servers);
        join<Net>(role_, job_, servers, commits.lineage().generation, argc, argv, [&](Net& net) {
          if (play_where_told(net, rule, {job_, compute_, sgd_, *task, commits, stop})) stopped = true;
        });
      });
  return stopped ? exit_stopped : 0;
}

int guarded(std::function<int()> const& program) {
  watch_signals();
  try {
    return program();
  } catch (elastic::ConfigError const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace sample
