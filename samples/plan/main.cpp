// SPDX-License-Identifier: Apache-2.0
// elastic-plan: which rule, which period, on this link, for this net? Measures what it is not told; predicts.
//
//   elastic-plan --net perceptron --transport shared_memory
//   elastic-plan serve --bind 0.0.0.0          and on another host:   elastic-plan --host node1 --clients 8
//   elastic-plan --step-ms 120 --parameters 25e6 --link-gbits 1 --latency-ms 5 --clients 16
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "elastic/cli/command_line.hpp"
#include "elastic/error.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/tcp.hpp"
#include "elastic/transport/threads.hpp"
#include "measure.hpp"
#include "report.hpp"

namespace plan {

using elastic::ConfigError;
using elastic::Option;
using planner::Through;

enum class NetName { easgd, async_easgd, perceptron, alexnet, googlenet };

constexpr auto names(NetName) {
  return std::array{std::pair{std::string_view("easgd"), NetName::easgd},
                    std::pair{std::string_view("async_easgd"), NetName::async_easgd},
                    std::pair{std::string_view("perceptron"), NetName::perceptron},
                    std::pair{std::string_view("alexnet"), NetName::alexnet},
                    std::pair{std::string_view("googlenet"), NetName::googlenet}};
}

elastic::model::Architecture architecture(NetName net) {
  switch (net) {
    case NetName::easgd: return elastic::model::easgd_cifar();
    case NetName::async_easgd: return elastic::model::async_easgd_cifar();
    case NetName::perceptron: return elastic::model::perceptron();
    case NetName::alexnet: return elastic::model::alexnet();
    case NetName::googlenet: break;
  }
  return elastic::model::googlenet();
}

struct Question {
  NetName net = NetName::easgd;
  int batch = 128;
  std::optional<double> step_ms{};
  std::optional<double> spread_ms{};
  std::optional<double> parameters{};
  bool plain = false;

  int clients = 2;
  std::optional<double> cores{};
  double efficiency = 0.95;
  elastic::Wire wire = elastic::Wire::float32;

  Through transport = Through::tcp;
  std::optional<double> link_gbits{};
  std::optional<double> latency_ms{};
  std::string host{};
  std::string bind = "127.0.0.1";
  int port = 8090;
  double timeout = 60;
  double seconds = 0.5;
  bool json = false;

  static constexpr auto options = std::tuple{
      Option{"net", &Question::net,
             "the net whose step is measured, on this machine's CPU, with random images"},
      Option{"batch", &Question::batch, "images of a step", 1, 65536},
      Option{"step_ms", &Question::step_ms, "milliseconds of a step, instead of measuring one", 1e-6, 1e9},
      Option{"spread_ms", &Question::spread_ms, "standard deviation of step_ms; not set: 0", 0.0, 1e9},
      Option{"parameters", &Question::parameters, "of your own model, with its step_ms; not set: the net's",
             1, 1e12},
      Option{"plain", &Question::plain, "SGD without momentum: no velocity to keep"},
      Option{"clients", &Question::clients, "workers of the job", 1, 100000},
      Option{"cores", &Question::cores,
             "processors that all processes of the job share; 0: each has its own; not set: those of this "
             "machine if "
             "the link stays on it, else 0",
             0, 100000},
      Option{"efficiency", &Question::efficiency, "of as many workers that never exchange", 0.01, 0.999},
      Option{"wire", &Question::wire, "how deltas and sums travel: as they are, or in 16 bits"},
      Option{"transport", &Question::transport,
             "what the workers exchange through; mpi: only with link_gbits"},
      Option{"link_gbits", &Question::link_gbits, "a link that is not there: 10^9 bits/s each way at once",
             1e-6, 1e6},
      Option{"latency_ms", &Question::latency_ms, "its latency one way; not set: 0.05", 0, 1e6},
      Option{"host", &Question::host, "tcp: where `elastic-plan serve` runs; not set: a second process here"},
      Option{"bind", &Question::bind,
             "serve: the address to listen on; beyond loopback a secret is needed (ELASTIC_SECRET)"},
      Option{"port", &Question::port, "serve's port", 1, 65535},
      Option{"timeout", &Question::timeout, "seconds after which waiting for the other process is an error",
             0.1, 86400},
      Option{"seconds", &Question::seconds, "for which each quantity is measured", 0.001, 3600},
      Option{"json", &Question::json, "print JSON instead of the table"},
  };

  void check() const {
    elastic::check_options(*this);
    bool const by_messages = !planner::shares_memory(transport);
    if (parameters && !step_ms)
      throw ConfigError("parameters: of a model of your own needs the time of its step, too: --step-ms");
    if (spread_ms && !step_ms) throw ConfigError("spread_ms: is of --step-ms, which is not set");
    if (latency_ms && !link_gbits)
      throw ConfigError("latency_ms: is of a link that is not there: --link-gbits");
    if (link_gbits && !by_messages)
      throw ConfigError("link_gbits: " + elastic::to_text(transport) +
                        " has no link; plan for --transport tcp");
    if (link_gbits && !host.empty())
      throw ConfigError("link_gbits and host: a link is either said or measured; set one of them");
    if (!host.empty() && transport != Through::tcp)
      throw ConfigError("host: a link to another process is measured over --transport tcp only");
    if (transport == Through::mpi && !link_gbits)
      throw ConfigError("transport: mpi is not measured here; say the link: --link-gbits, --latency-ms");
  }
};

elastic::transport::TcpOptions tcp_options(Question const& q, int rank, std::string const& host, int port) {
  return {.host = host,
          .port = static_cast<std::uint16_t>(port),
          .rank = rank,
          .size = 2,
          .timeout = std::chrono::duration<double>(q.timeout),
          .bind = q.bind,
          .job = "elastic-plan",
          .star = true};  // only rank 0 listens
}

/// Both ends agree on how long the vectors are: rank 1's model decides.
template <class Net>
void serve(Net& net) {
  std::uint64_t values = 0;
  net.wait_message();  // over TCP the other one comes later
  net.receive(elastic::as_bytes(values), 1, 0);
  Meter<Net>(net, std::size_t(values)).serve();
}
template <class Net>
Measured measure(Net& net, std::size_t values, double seconds) {
  std::uint64_t told = values;
  net.send(elastic::read(elastic::as_bytes(told)), 0, 0);
  return Meter<Net>(net, values).measure(seconds);
}

/// Calls other() in a process of its own and here() in this one. What here() throws counts: it names the
/// peer.
template <class Other, class Here>
Measured with_second_process(Other other, Here here) {
  std::fflush(nullptr);
  pid_t const parent = ::getpid(), child = ::fork();
  if (child < 0) throw elastic::Error("a second process cannot be started: fork failed");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    try {
      other();
      ::_exit(0);
    } catch (std::exception const& error) {
      std::fprintf(stderr, "second process: %s\n", error.what());
      ::_exit(1);
    }
  }
  struct Reap {
    pid_t child;
    ~Reap() {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  } const reap{child};
  return here();
}

Measured measure_link(Question const& q, std::size_t values) {
  using namespace elastic::transport;
  if (q.transport == Through::threads) {
    Measured measured;
    Threads::run(2,
                 [&](Threads& net) {
                   if (net.rank() == 0)
                     serve(net);
                   else
                     measured = measure(net, values, q.seconds);
                 },
                 {.timeout = std::chrono::duration<double>(q.timeout)});
    return measured;
  }
  if (q.transport == Through::shared_memory) {
    std::string const job = "elastic-plan-" + std::to_string(::getpid());
    auto const options = [&](int rank) {
      return SharedMemoryOptions{
          .job = job, .rank = rank, .size = 2, .timeout = std::chrono::duration<double>(q.timeout)};
    };
    return with_second_process(
        [&] {
          SharedMemory net(options(0));
          serve(net);
        },
        [&] {
          SharedMemory net(options(1));
          return measure(net, values, q.seconds);
        });
  }
  auto const ask = [&](std::string const& host, int port) {
    Tcp net(tcp_options(q, 1, host, port));
    return measure(net, values, q.seconds);
  };
  if (!q.host.empty()) return ask(q.host, q.port);
  int const port = free_port();
  return with_second_process(
      [&] {
        Tcp net(tcp_options(q, 0, "127.0.0.1", port));
        serve(net);
      },
      [&] { return ask("127.0.0.1", port); });
}

void answer(Question const& q) {
  auto const net = architecture(q.net);
  int const processors = std::max(1, int(std::thread::hardware_concurrency()));
  std::size_t const values = q.parameters ? std::size_t(*q.parameters) : net.parameter_count();
  bool const here = q.host.empty() && !q.link_gbits;

  planner::Site site{.through = q.transport, .cores = q.cores.value_or(here ? processors : 0)};
  Measured measured;
  if (q.link_gbits) {
    double const rate = *q.link_gbits * 1e9 / 8;
    site.link = {1e-3 * q.latency_ms.value_or(0.05), rate, rate, 0};
  } else {
    measured = measure_link(q, values);
    site.link = measured.link;
  }
  site.memory = planner::shares_memory(q.transport)
                    ? measured.memory
                    : measure_memory(values, std::min(q.clients, processors), q.seconds / 2);

  int const at_once = here ? std::min(q.clients, processors) : 1;
  Step const step = q.step_ms ? Step{1e-3 * *q.step_ms, 1e-3 * q.spread_ms.value_or(0)}
                              : measure_step(net, q.batch, at_once, 4 * q.seconds);
  planner::Job const job{double(values), step.seconds, step.spread, q.batch, q.clients, !q.plain};

  auto const rows = rows_of(job, site, q.wire, q.efficiency);
  std::string const advice = advice_of(rows, job, q.efficiency);
  std::string const model = q.parameters ? "yours" : elastic::to_text(q.net);
  double const free = site.cores > 0 ? std::min(double(q.clients), site.cores) : q.clients;
  double const best = free * q.batch / step.seconds;
  if (q.json) {
    Json json{{"transport", elastic::to_text(q.transport)},
              {"link",
               {{"measured", !q.link_gbits.has_value()},
                {"latency_us", 1e6 * site.link.latency},
                {"one_way_bytes_per_second", site.link.one_way},
                {"both_ways_bytes_per_second", site.link.both_ways},
                {"cpu_seconds_per_byte", site.link.cpu}}},
              {"memory",
               {{"alone_bytes_per_second", site.memory.alone}, {"all_bytes_per_second", site.memory.all}}},
              {"model",
               {{"name", model},
                {"parameters", values},
                {"bytes", std::uint64_t(job.bytes())},
                {"batch", q.batch},
                {"step_ms", 1e3 * step.seconds},
                {"spread_ms", 1e3 * step.spread}}},
              {"workers", q.clients},
              {"cores", site.cores},
              {"independent_images_per_second", best},
              {"efficiency", q.efficiency},
              {"rules", Json::array()},
              {"advice", advice}};
    for (Row const& row : rows) json["rules"].push_back(json_of(row));
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  std::printf("link    %s%s: %.1f us one way; ", elastic::to_text(q.transport).c_str(),
              q.link_gbits ? ", as you say" : "", 1e6 * site.link.latency);
  if (q.link_gbits)
    std::printf("%.1f MB/s each way at once\n", 1e-6 * site.link.both_ways);
  else
    std::printf("%.0f MB/s to the server, %.0f MB/s back, %.0f MB/s each way at once\n",
                1e-6 * measured.to_server, 1e-6 * measured.to_client, 1e-6 * site.link.both_ways);
  std::printf("memory  %.1f GB/s read and written by one, %.1f GB/s by all\n", 1e-9 * site.memory.alone,
              1e-9 * site.memory.all);
  std::printf("model   %s: %zu parameters, %s\n", model.c_str(), values, bytes_text(job.bytes()).c_str());
  std::printf("step    %.3f ms (spread %.3f) of %d images; %d workers that never exchange: %.0f images/s\n",
              1e3 * step.seconds, 1e3 * step.spread, q.batch, q.clients, best);
  if (site.cores > 0) std::printf("cores   %.0f for all processes of the job\n", site.cores);
  print(rows, q.efficiency);
  std::printf("\n%s\n", advice.c_str());
}

int run(int argc, char** argv) {
  bool const serves = argc > 1 && std::string_view(argv[1]) == "serve";
  if (serves) --argc, ++argv;
  elastic::cli::CommandLine line(
      "Which rule, which period, on this link, for this net? Measures the link between two processes and the "
      "net's "
      "step,\nor takes yours, and predicts what every rule costs: docs/planner.md has the equations and how "
      "good they "
      "are.\n`elastic-plan serve --bind ADDRESS` is the other end on another host; it answers one "
      "`elastic-plan --host` and ends.");
  line.add<Question>("The question");
  auto const settings = line.parse(argc, argv, environ);
  if (!settings) return 0;
  Question q;
  elastic::cli::apply(*settings, q);
  q.check();
  if (serves) {
    if (q.transport != Through::tcp) throw ConfigError("serve: a link to another host is measured over tcp");
    elastic::transport::Tcp net(tcp_options(q, 0, "127.0.0.1", q.port));
    serve(net);
  } else {
    answer(q);
  }
  return 0;
}

}  // namespace plan

int main(int argc, char** argv) {
  try {
    return plan::run(argc, argv);
  } catch (elastic::ConfigError const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
