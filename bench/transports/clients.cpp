// SPDX-License-Identifier: Apache-2.0
// Many workers of asynchronous EASGD around one TCP server that come when they like: how long an exchange takes them,
// and whether all are served alike. Prints one line of JSON.
#include <atomic>
#include <random>
#include <thread>

#include "elastic/transport/tcp.hpp"
#include "training.hpp"

namespace {

constexpr std::uint32_t most_samples = 1 << 14;

/// What one client has seen; in memory that all processes share.
struct Seen {
  std::uint32_t exchanges;
  float seconds[most_samples];
};

void serve(elastic::transport::TcpOptions const& options, std::size_t n) {
  using namespace elastic;
  transport::Tcp net(options);
  device::Cpu cpu;
  bench::FreeModel model(cpu, n);
  bench::fill(model.parameters().data(), n, 0);
  bench::NoData data;
  Trainer<transport::Tcp, rule::AsyncEasgd, device::Cpu> trainer(
      net, {.alpha = 0.25, .period = 1, .order = rule::Order::post_step}, cpu);
  trainer.run(model, data, Plan{});
}

void exchange(elastic::transport::TcpOptions const& options, std::size_t n, double idle, Seen& seen,
              std::atomic<bool> const& stop, unsigned seed) {
  using namespace elastic;
  transport::Tcp net(options);
  device::Cpu cpu;
  std::mt19937 random(seed);
  std::exponential_distribution<double> pause(idle > 0 ? 1 / idle : 1);
  bench::FreeModel model(cpu, n, [&] {
    if (idle > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pause(random)));
  });
  bench::fill(model.parameters().data(), n, 1);
  bench::NoData data;
  Trainer<transport::Tcp, rule::AsyncEasgd, device::Cpu> trainer(
      net, {.alpha = 0.25, .period = 1, .order = rule::Order::post_step}, cpu);
  trainer.run(model, data, Plan{.steps = 1L << 40, .same_start = false, .stop = &stop},
              [&](event::Exchange const& e) {
                if (seen.exchanges < most_samples)
                  seen.seconds[seen.exchanges] = static_cast<float>(e.waited);
                ++seen.exchanges;
              });
}

}  // namespace

int main(int argc, char** argv) {
  auto const number = [&](char const* name, char const* otherwise) {
    return std::stod(bench::argument(argc, argv, name, otherwise));
  };
  int const clients = static_cast<int>(number("clients", "8"));
  int const processes = std::min(clients, static_cast<int>(number("processes", "8")));
  bool const one_is_slow = number("slow", "0") > 0;  // stopped nine tenths of the time, a process of its own
  double const seconds = number("seconds", "2"), idle = number("idle", "0");
  auto const n = static_cast<std::size_t>(number("bytes", "65536")) / 4;

  auto const count = static_cast<std::size_t>(clients);
  bench::Floats const memory(count * sizeof(Seen) / 4, MAP_SHARED | MAP_NORESERVE);
  auto* const seen = reinterpret_cast<Seen*>(memory.data());
  elastic::transport::TcpOptions options{.port = elastic::transport::free_port(),
                                         .size = clients + 1,
                                         .job = "clients-" + std::to_string(::getpid()),
                                         .star = true};
  auto const begin = std::chrono::steady_clock::now();
  auto const until = begin + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                 std::chrono::duration<double>(seconds + 0.005 * clients));
  pid_t slow = -1;
  auto const start = [](auto body) {
    pid_t const pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int status = 0;
    try {
      body();
    } catch (std::exception const& e) {
      std::fprintf(stderr, "%s\n", e.what());
      status = 1;
    }
    ::_exit(status);
  };
  std::vector<pid_t> children{start([&] { serve(options, n); })};
  for (int p = 0; p < processes; ++p)
    children.push_back(start([&] {
      std::atomic<bool> stop = false;
      std::vector<std::jthread> threads;
      for (int c = p; c < clients; c += processes)
        threads.emplace_back([&, c] {
          auto mine = options;
          mine.rank = c + 1;
          try {
            exchange(mine, n, idle, seen[c], stop, static_cast<unsigned>(c) + 1);
          } catch (std::exception const& e) {
            std::fprintf(stderr, "client %d: %s\n", c + 1, e.what());
            ::_exit(1);
          }
        });
      std::this_thread::sleep_until(until);
      stop = true;
    }));
  if (one_is_slow) slow = children.back();
  while (slow > 0 && std::chrono::steady_clock::now() < until) {
    ::kill(slow, SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(90));
    ::kill(slow, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  int worst = 0;
  for (pid_t const pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (status != 0) worst = 1;
  }

  std::vector<double> all, medians;
  std::uint64_t fewest = ~std::uint64_t(0), most = 0, total = 0;
  for (int c = 0; c < clients; ++c) {
    bool const is_slow = one_is_slow && c % processes == processes - 1;
    if (is_slow) continue;
    auto const& s = seen[c];
    std::vector<double> own(s.seconds, s.seconds + std::min(s.exchanges, most_samples));
    fewest = std::min<std::uint64_t>(fewest, s.exchanges);
    most = std::max<std::uint64_t>(most, s.exchanges);
    total += s.exchanges;
    if (own.empty()) continue;
    all.insert(all.end(), own.begin(), own.end());
    medians.push_back(bench::median(std::move(own)));
  }
  std::sort(all.begin(), all.end());
  std::sort(medians.begin(), medians.end());
  auto const at = [](std::vector<double> const& v, double part) {
    return v.empty() ? 0 : v[static_cast<std::size_t>(part * static_cast<double>(v.size() - 1))];
  };
  std::printf("%s\n", bench::Json{{"clients", clients},
                                  {"bytes", n * 4},
                                  {"idle", idle},
                                  {"one_is_slow", one_is_slow},
                                  {"exchanges", total},
                                  {"fewest", fewest},
                                  {"most", most},
                                  {"p50", at(all, 0.5)},
                                  {"p99", at(all, 0.99)},
                                  {"longest", at(all, 1)},
                                  {"slowest_client_p50", at(medians, 1)}}
                          .dump()
                          .c_str());
  return worst;
}
