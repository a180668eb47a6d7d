// SPDX-License-Identifier: Apache-2.0
// Asynchronous EASGD over TCP while processes are killed, stopped and started again and connections are cut, at a
// stated rate for a stated time, by a seed. Afterwards: every delta is in the center once, the loss is low, and
// nothing is left behind.
//
// The audit. Deltas are rounded to multiples of 2^-10, and the first `audited` parameters have no gradient: sums of
// them are exact. Each worker's parameters lie in a file that outlives it, and so does
// the list of what they were after each of its exchanges; the server lists which exchange of which worker it has
// added, and a killed server's list counts up to the commit that its successor began with. The center must be what
// it was at the start plus the listed deltas, to the last bit.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/center_store.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/tcp.hpp"
#include "support/cutting_proxy.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using namespace elastic;
using Clock = std::chrono::steady_clock;
using std::chrono::duration;
using std::chrono::milliseconds;
using transport::Tcp;

constexpr std::size_t audited = 8;
constexpr std::size_t size = 4096;
using Audit = std::array<float, audited>;

struct Options {
  double seconds = 15;
  double rate = 2;  // events a second
  unsigned seed = 1;
  int workers = 3;
};

/// One process of the job, by what it is: a place for each worker.
struct Process {
  pid_t pid = -1;
  std::uint64_t incarnation = 0;
  Clock::time_point resumes = Clock::time_point::max();  // it is stopped until then
};

/// A model in a file: a parabola around 1, except for what is audited.
class Parabola {
 public:
  using scalar = float;
  using device_type = device::Cpu;
  using batch = std::vector<float>;
  Parabola(device::Cpu& device, fs::path const& file, std::uint64_t incarnation)
      : device_(device), gradients_(device.allocate<float>(size)) {
    int const opened = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (opened < 0 || ::ftruncate(opened, size * sizeof(float)) != 0)
      throw std::runtime_error("no model file");
    void* const base = ::mmap(nullptr, size * sizeof(float), PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    ::close(opened);
    if (base == MAP_FAILED) throw std::runtime_error("no model in memory");
    x_ = {static_cast<float*>(base), size};
    std::mt19937_64 random(incarnation);
    for (std::size_t i = 0; i < size; ++i)
      x_[i] = i < audited ? float(random() % 4096) : 3 + float(random() % 1024) / 1024;
  }
  device::Cpu& device() { return device_; }
  Span<float> parameters() { return x_; }
  Span<float> gradients() { return gradients_.span(); }
  double gradient(batch const& noise) {
    double loss = 0;
    auto g = gradients();
    for (std::size_t i = audited; i < size; ++i) {
      g[i] = x_[i] - 1 + noise[i];
      loss += double(x_[i] - 1) * double(x_[i] - 1) / 2;
    }
    std::this_thread::sleep_for(milliseconds(1));  // what a gradient would take
    return loss / double(size - audited);
  }
  Audit audit() const {
    Audit values;
    std::copy_n(x_.data(), audited, values.begin());
    return values;
  }

 private:
  device::Cpu& device_;
  device::Cpu::Buffer<float> gradients_;
  Span<float> x_;
};

/// A file of records that is complete up to the moment its writer dies.
template <class Record>
class List {
 public:
  explicit List(fs::path const& path)
      : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {}
  ~List() { ::close(file_); }
  List(List const&) = delete;
  List& operator=(List const&) = delete;
  void add(Record const& record) {
    if (::write(file_, &record, sizeof record) != ssize_t(sizeof record))
      throw std::runtime_error("a list is full");
  }
  static std::vector<Record> read(fs::path const& path) {
    std::vector<Record> records(fs::exists(path) ? fs::file_size(path) / sizeof(Record) : 0);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(records.data()), std::streamsize(records.size() * sizeof(Record)));
    return records;
  }

 private:
  int file_;
};

/// What a server has added; the first record of a list holds the version that the server began with.
struct Added {
  std::uint64_t version, incarnation, sequence, lost;
};

/// d <- alpha (x - c), rounded to a multiple of 2^-10; x <- x - d.
struct RoundedRetract {
  float alpha;
  void operator()(float& d, float& x, float c) const {
    d = std::nearbyint(alpha * (x - c) * 1024) / 1024;
    x -= d;
  }
};

/// Asynchronous EASGD with such deltas, in every step.
struct RoundedEasgd {
  static constexpr std::string_view name = "rounded_easgd";
  static constexpr Needs needs = Needs::point_to_point;
  static constexpr std::tuple<> options{};
  static constexpr double limit = 1e6;
  void check(int) const {}
  void worker(auto& w) const {
    while (w.next_step()) {
      w.compute_gradient();
      w.apply_gradient();
      w.exchange(RoundedRetract{.25f}, ops::Add{}, w.parameters(), limit);
    }
  }
  void server(auto& s) const { s.serve(s.state("center", s.parameters()), ops::Add{}, limit); }
};

std::atomic<bool> stop{false};

Plan plan_for(std::uint64_t incarnation) {
  return {.steps = 1'000'000'000,
          .sgd = {.learning_rate = 0.05},
          .incarnation = incarnation,
          .same_start = false,
          .stop = &stop};
}

void serve(fs::path const& folder, std::uint16_t port, int places) {
  model::CenterStore store(folder / "commits");
  auto const commit = store.load([](std::string const& text) { std::fprintf(stderr, "%s\n", text.c_str()); });
  auto const generation = commit ? commit->lineage.generation : 0;
  Tcp net({.port = port,
           .rank = 0,
           .size = places,
           .timeout = std::chrono::seconds(20),
           .star = true,
           .generation = generation});
  device::Cpu cpu;
  Parabola model(cpu, folder / "server", 1);
  data::Noise<float> noise(size, 0.1f, 1);
  Plan plan = plan_for(1);
  plan.commit_every = 0.05;
  Trainer<Tcp, RoundedEasgd, device::Cpu> trainer(net, {}, cpu);
  if (commit) {
    plan.lineage = commit->lineage;
    trainer.restore("center", Span<float const>(commit->center));
  }
  List<Added> added(folder / ("added-" + std::to_string(generation)));
  added.add({plan.lineage.version, 0, 0, 0});
  std::map<int, std::uint64_t> who;
  for (std::size_t r = 0; r < plan.lineage.workers.size(); ++r)
    who[int(r)] = plan.lineage.workers[r].incarnation;
  trainer.run(
      model, noise, plan, store,
      [&](event::Joined const& e) {
        who[e.worker] = e.incarnation;
        if (e.lost > 0) added.add({0, e.incarnation, 0, e.lost});
      },
      [&](event::Applied const& e) {
        added.add({e.version, who[e.worker], e.sequence, 0});
      });
  std::ofstream(folder / "center", std::ios::binary)
      .write(reinterpret_cast<char const*>(model.parameters().data()), size * sizeof(float));
}

void work(fs::path const& folder, std::uint16_t port, int rank, int places, std::uint64_t incarnation) {
  std::string const name = "worker-" + std::to_string(incarnation);
  device::Cpu cpu;
  Parabola model(cpu, folder / name, incarnation);
  List<Audit> history(folder / (name + ".history"));
  history.add(model.audit());
  Tcp net({.port = port, .rank = rank, .size = places, .timeout = std::chrono::seconds(20), .star = true});
  data::Noise<float> noise(size, 0.1f, unsigned(incarnation));
  Trainer<Tcp, RoundedEasgd, device::Cpu> trainer(net, {}, cpu);
  trainer.run(model, noise, plan_for(incarnation),
              [&](event::Exchange const&) { history.add(model.audit()); });
}

/// Forks a process that runs `program` and dies with this one.
template <class Program>
pid_t start(Program program) {
  pid_t const parent = ::getpid(), pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  std::signal(SIGTERM, [](int) { stop = true; });
  try {
    program();
  } catch (std::exception const& error) {
    std::fprintf(stderr, "process %d: %s\n", int(::getpid()), error.what());
    ::_exit(1);
  }
  ::_exit(0);
}

int failures = 0;
[[gnu::format(printf, 2, 3)]] void expect(bool good, char const* format, ...) {
  std::printf(good ? "  ok      " : "  FAILED  ");
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
  if (!good) ++failures;
}

/// Compares the center with what the lists say.
void audit(fs::path const& folder, std::uint64_t generations) {
  std::vector<float> center(size);
  std::ifstream(folder / "center", std::ios::binary)
      .read(reinterpret_cast<char*>(center.data()), size * sizeof(float));
  std::vector<std::vector<Added>> lists;
  for (std::uint64_t g = 0; g <= generations; ++g)
    lists.push_back(List<Added>::read(folder / ("added-" + std::to_string(g))));
  device::Cpu cpu;
  Parabola const start(cpu, folder / "at-the-start", 1);
  std::array<double, audited> expected;
  Audit const first = start.audit();
  std::copy(first.begin(), first.end(), expected.begin());

  std::map<std::uint64_t, std::vector<Audit>> histories;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  std::uint64_t applied = 0, forgotten = 0, told = 0, repeated = 0, unknown = 0;
  for (std::size_t g = 0; g < lists.size(); ++g) {
    std::uint64_t const until =
        g + 1 < lists.size() && !lists[g + 1].empty() ? lists[g + 1].front().version : ~0ull;
    for (Added const& record : lists[g]) {
      told += record.lost;
      if (record.sequence == 0) continue;
      if (record.version > until) {
        ++forgotten;
        continue;
      }
      ++applied;
      if (!seen.emplace(record.incarnation, record.sequence).second) ++repeated;
      auto& history = histories[record.incarnation];
      fs::path const name = folder / ("worker-" + std::to_string(record.incarnation));
      if (history.empty()) {
        history = List<Audit>::read(name.string() + ".history");
        auto const last = List<std::array<float, size>>::read(name);  // the state after its last exchange
        Audit now{};
        if (!last.empty()) std::copy_n(last[0].begin(), audited, now.begin());
        history.push_back(now);
      }
      if (record.sequence >= history.size()) {
        ++unknown;
        continue;
      }
      for (std::size_t i = 0; i < audited; ++i)
        expected[i] += double(history[record.sequence - 1][i]) - double(history[record.sequence][i]);
    }
  }
  double defect = 0;
  for (std::size_t i = 0; i < audited; ++i)
    defect = std::max(defect, std::abs(expected[i] - double(center[i])));
  double loss = 0;
  for (std::size_t i = audited; i < size; ++i) loss += double(center[i] - 1) * double(center[i] - 1) / 2;
  loss /= double(size - audited);
  std::printf("%llu exchanges in the center, %llu forgotten with killed servers, which told of %llu\n",
              (unsigned long long)applied, (unsigned long long)forgotten, (unsigned long long)told);
  expect(applied > 50, "something was exchanged");
  expect(defect == 0, "center = start + deltas to the last bit (defect %g)", defect);
  expect(repeated == 0 && unknown == 0, "no delta twice (%llu), none unheard of (%llu)",
         (unsigned long long)repeated, (unsigned long long)unknown);
  expect(loss < 0.01, "loss of the center %.5f (at the start about 3)", loss);
}

int run(Options const& options) {
  support::TempFolder const folder;
  std::uint16_t const port = transport::free_port();
  int const places = options.workers + 1;
  std::mt19937_64 random(options.seed);
  std::size_t const open_files = std::size_t(std::distance(fs::directory_iterator("/proc/self/fd"), {}));

  std::uint64_t generations = 0, incarnations = 1;
  Process server;
  auto const start_server = [&] { server = {start([&] { serve(folder.path(), port, places); }), 1}; };
  start_server();
  fs::path const said = folder.path() / "proxy";
  unsigned const cuts_seed = unsigned(random());
  pid_t const proxy = start([&] {
    std::mt19937_64 cut(cuts_seed);
    support::CuttingProxy relay(port, [&](int) { return 50'000 + cut() % 40'000'000; });
    List<std::uint16_t>(said).add(relay.port());
    while (!stop) std::this_thread::sleep_for(milliseconds(5));
    List<int>(folder.path() / "cuts").add(relay.cuts());
  });
  while (List<std::uint16_t>::read(said).empty()) std::this_thread::sleep_for(milliseconds(1));
  std::uint16_t const through = List<std::uint16_t>::read(said)[0];

  std::vector<Process> workers(std::size_t(options.workers));
  auto const start_worker = [&](int w) {
    std::uint64_t const incarnation = ++incarnations;
    workers[std::size_t(w)] = {start([&] { work(folder.path(), through, w + 1, places, incarnation); }),
                               incarnation};
  };
  for (int w = 0; w < options.workers; ++w) start_worker(w);

  auto const begin = Clock::now();
  auto const since = [&] { return duration<double>(Clock::now() - begin).count(); };
  std::map<std::string, int> events;
  auto const any = [&](int n) { return int(random() % std::uint64_t(n)); };
  auto const end = [](Process& process) {
    ::kill(process.pid, SIGKILL);
    ::waitpid(process.pid, nullptr, 0);
  };
  double next = 1, shown = 0;
  while (since() < options.seconds) {
    std::this_thread::sleep_for(milliseconds(5));
    for (Process& process : workers)
      if (Clock::now() > process.resumes) {
        ::kill(process.pid, SIGCONT);
        process.resumes = Clock::time_point::max();
      }
    for (int w = 0; w < options.workers; ++w)  // one that ended by itself is a failure, but the run goes on
      if (::waitpid(workers[std::size_t(w)].pid, nullptr, WNOHANG) > 0) {
        ++events["worker ended by itself"];
        start_worker(w);
      }
    if (::waitpid(server.pid, nullptr, WNOHANG) > 0) {
      ++events["server ended by itself"];
      ++generations;
      start_server();
    }
    if (since() - shown > 10) {
      shown = since();
      std::fprintf(stderr, "%.0f of %.0f s\n", shown, options.seconds);
    }
    if (since() < next) continue;
    next += -std::log(1 - double(random() % 1'000'000) / 1e6) / options.rate;
    int const w = any(options.workers);
    Process& worker = workers[std::size_t(w)];
    switch (any(5)) {
      case 0:
      case 1:
        ++events["worker killed and started again"];
        end(worker);
        start_worker(w);
        break;
      case 2:
      case 3:
        ++events["worker stopped for a while"];
        ::kill(worker.pid, SIGSTOP);
        worker.resumes = Clock::now() + milliseconds(10 + any(1500));
        break;
      default:  // only once it has committed: before that there is nothing to go on from
        if (!fs::exists(folder.path() / "commits") || fs::is_empty(folder.path() / "commits")) break;
        ++events["server killed and started again"];
        end(server);
        ++generations;
        start_server();
    }
  }
  for (Process& process : workers) ::kill(process.pid, SIGCONT);
  for (Process& process : workers) ::kill(process.pid, SIGTERM);
  int bad = 0;
  for (Process& process : workers) {
    int status = 0;
    ::waitpid(process.pid, &status, 0);
    if (status != 0) ++bad;
  }
  int status = 0;
  ::kill(server.pid, SIGTERM);
  ::waitpid(server.pid, &status, 0);
  ::kill(proxy, SIGTERM);
  ::waitpid(proxy, nullptr, 0);

  std::printf("chaos: seed %u, %.0f s, %.1f events a second, %d workers\n", options.seed, options.seconds,
              options.rate, options.workers);
  for (auto const& [what, count] : events) std::printf("%5d  %s\n", count, what.c_str());
  auto const cuts = List<int>::read(folder.path() / "cuts");
  std::printf("%5d  connections cut\n", cuts.empty() ? -1 : cuts[0]);
  audit(folder.path(), generations);
  expect(bad == 0 && status == 0, "all processes end in order (%d workers do not, the server ends with %d)",
         bad, status);
  expect(events["worker ended by itself"] + events["server ended by itself"] == 0, "nobody gives up");
  expect(::waitpid(-1, nullptr, WNOHANG) < 0, "no process is left");
  expect(std::size_t(std::distance(fs::directory_iterator("/proc/self/fd"), {})) == open_files,
         "no file is left open");
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Trains while processes are killed, stopped and started again and connections are cut; then audits.");
  app.add_option("--seconds", options.seconds, "how long")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--rate", options.rate, "events a second")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "of events and cuts")->capture_default_str();
  app.add_option("--workers", options.workers, "workers")->capture_default_str()->check(CLI::Range(1, 64));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "chaos: %s\n", error.what());
    return 1;
  }
}
