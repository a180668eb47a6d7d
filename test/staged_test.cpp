// SPDX-License-Identifier: Apache-2.0
// transport::Staged keeps the promises of the transport below it for device memory; devices and CPUs share a
// center; a center in device memory is believed only after a check of the data.
#include "elastic/transport/staged.hpp"

#include "conformance/transport.hpp"
#include "elastic/device/thrust.hpp"
#include "exact/run.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_staged.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using device::Cpu;
using device::Thrust;
using exact::Bumpy;
using support::Forked;
using support::Launch;
using support::ThroughDevice;
using transport::SharedMemory;
using transport::Staged;
using transport::Tcp;
using transport::Threads;
using transport::Use;

TEMPLATE_TEST_CASE("staged: messages", "", Threads, Tcp) {
  conformance::messages<ThroughDevice<TestType, Thrust>>();
}
TEMPLATE_TEST_CASE("staged: collectives", "", Threads, SharedMemory) {
  conformance::collectives<ThroughDevice<TestType, Thrust>>();
}
TEMPLATE_TEST_CASE("staged: failures", "", Threads, SharedMemory) {
  conformance::failures<ThroughDevice<TestType, Thrust>>();
}

static_assert(Windowed<Staged<Threads, Thrust>, memory::Thrust>);
static_assert(Windowed<Staged<SharedMemory, Thrust>, memory::Thrust>);
static_assert(!Windowed<Staged<Tcp, Thrust>, memory::Thrust>);
static_assert(Rejoins<Staged<Tcp, Thrust>> && !Rejoins<Staged<Threads, Thrust>>);

/// What this rank contributes to center + workers - gradients, which is the same at the start and at the end.
template <class Net, class Dev>
std::vector<double> account(Net& net, Dev& device, rule::Order order) {
  constexpr std::size_t n = 5000;  // several blocks, shards and stripes
  constexpr double eta = .05;
  Bumpy<double, Dev> model(device, n);
  data::Noise<double> noise(n, 1, 30 + unsigned(net.rank()));
  exact::set(device, model.parameters(), exact::numbers<double>(n, 80 + unsigned(net.rank())));
  auto const before = exact::values(device, model.parameters());
  Trainer<Net, rule::AsyncEasgd, Dev, double> trainer(net, {.alpha = .3, .period = 2, .order = order},
                                                      device);
  auto const center = exact::numbers<double>(n, 7);
  trainer.restore("center", Span<double const>(center));
  auto const report =
      trainer.run(model, noise, {.steps = 21, .sgd = {.learning_rate = eta}, .same_start = false});
  auto const after = exact::values(device, model.parameters());
  std::vector<double> change(n);
  for (std::size_t i = 0; i < n; ++i)
    change[i] = report.role == Role::worker ? after[i] - before[i] + eta * model.sum_of_gradients()[i]
                                            : after[i] - center[i];
  return change;
}

/// Ranks below `cpus` compute on the CPU, the others on devices; rank 0 is the server.
template <class Net>
support::Answers mixed(int ranks, bool server_on_cpu, rule::Order order) {
  return Launch<Net>::run(ranks, [&](auto& net) {
    bool const on_cpu = net.rank() == 0 ? server_on_cpu : net.rank() % 2 == 1;
    if (on_cpu) {
      Cpu cpu;
      return account(net, cpu, order);
    }
    Thrust device;
    Staged staged(net, device);
    return account(staged, device, order);
  });
}

TEMPLATE_TEST_CASE("staged: workers on CPUs and on devices share one center, and conserve", "", Threads,
                   SharedMemory, Forked<SharedMemory>, Tcp) {
  for (bool const server_on_cpu : {true, false}) {
    for (auto const order : {rule::Order::jacobi, rule::Order::post_step}) {
      auto const answers = mixed<TestType>(4, server_on_cpu, order);
      std::vector<double> sum(answers[0].size());
      for (auto const& change : answers) {
        CHECK(exact::distance(change, std::vector<double>(sum.size())) > 1e-2);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += change[i];
      }
      CHECK(exact::distance(sum, std::vector<double>(sum.size())) < 1e-12);
    }
  }
}

TEMPLATE_TEST_CASE("staged: stripes have the locks of the window below", "", Threads, SharedMemory) {
  for (auto const use : {Use::never, Use::always}) {
    auto const answers = Launch<TestType>::run(2, [use](auto& net) -> std::vector<double> {
      Thrust device;
      Staged staged(net, device, {.center_on_device = use});
      using Net = std::remove_cvref_t<decltype(staged)>;
      typename Net::WindowHandle handle{};
      std::optional<typename Net::template Window<float>> window;
      constexpr std::size_t n = 300'000;
      if (net.rank() == 0) {
        window.emplace(staged.template make_window<float>(n));
        handle = window->handle();
      }
      net.broadcast(as_bytes(handle), 0);
      if (net.rank() == 1) window.emplace(staged.template open_window<float>(handle));
      double wrong = double(window->size() != n) + double(window->stripes() < 4);
      {
        std::optional<decltype(window->lock(1))> mine;
        if (net.rank() == 0) mine.emplace(window->lock(1));
        net.barrier();
        if (net.rank() == 1) {
          wrong += window->try_lock(1).has_value();
          for (std::size_t const k : {std::size_t(0), std::size_t(2), window->stripes() - 1}) {
            auto const free = window->try_lock(k);
            wrong += !free || free->span().data() != window->stripe(k).data();
          }
        }
        net.barrier();
      }
      net.barrier();
      wrong += net.rank() == 1 && !window->try_lock(1).has_value();
      std::size_t covered = 0;
      for (std::size_t k = 0; k < window->stripes(); ++k) {
        wrong += window->first(k) != covered;
        covered += window->stripe(k).size();
      }
      net.barrier();
      return {wrong + double(covered != n)};
    });
    CHECK(answers[0] == std::vector{0.0});
    CHECK(answers[1] == std::vector{0.0});
  }
}

TEST_CASE("staged: ranks that cut sums differently are told before they sum") {
  CHECK_THROWS_WITH(Launch<Threads>::run(2,
                                         [](Threads& net) -> std::vector<double> {
                                           Thrust device;
                                           Staged staged(net, device,
                                                         {.piece_bytes = net.rank() == 0 ? 64u : 128u});
                                           model::Quadratic<float, Thrust> model(device, 40);
                                           data::Noise<float> noise(40, 1, 1);
                                           Trainer trainer(staged, rule::Bsp{}, device);
                                           trainer.run(model, noise, {.steps = 3});
                                           return {};
                                         }),
                    ContainsSubstring("piece_bytes"));
}

/// Conservation with the center where `use` asks for it; the last value says whether it was there.
template <class Net, class Dev>
support::Answers with_center(Use use, std::string* why = nullptr) {
  return Launch<Net>::run(3, [&](auto& net) {
    Dev device;
    Staged staged(net, device, {.center_on_device = use});
    if (why && net.rank() == 0) *why = staged.why_not();
    auto change = account(staged, static_cast<Thrust&>(device), rule::Order::jacobi);
    change.push_back(staged.center_on_device() ? 1 : 0);
    return change;
  });
}
bool conserves(support::Answers answers) {
  std::vector<double> sum(answers[0].size() - 1);
  for (auto const& change : answers)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += change[i];
  return exact::distance(sum, std::vector<double>(sum.size())) < 1e-12;
}

/// A device whose memory opens elsewhere as a copy: what a broken CUDA IPC once did to its users.
struct Lying : Thrust {
  template <class T>
  Shared<T> open(Handle const& handle, std::size_t n) {
    auto copy = this->share<T>(n);
    this->copy(read(Thrust::open<T>(handle, n).span()), copy.span());
    return copy;
  }
};

TEST_CASE("staged: a center in device memory is checked with data first") {
  std::string why;
  auto answers = with_center<Threads, Thrust>(Use::always);
  CHECK(answers[0].back() == 1);
  CHECK(answers[2].back() == 1);
  CHECK(conserves(answers));

  SECTION("where another process cannot open it, it goes to host memory") {
    answers = with_center<Forked<SharedMemory>, Thrust>(Use::where_possible);
    CHECK(answers[0].back() == 0);
    CHECK(answers[1].back() == 0);
    CHECK(conserves(answers));
    CHECK_THROWS_WITH((with_center<Forked<SharedMemory>, Thrust>(Use::always)),
                      ContainsSubstring("center_on_device = always"));
  }
  SECTION("where what is written does not arrive, too") {
    answers = with_center<Threads, Lying>(Use::where_possible, &why);
    CHECK(answers[0].back() == 0);
    CHECK_THAT(why, ContainsSubstring("does not hold what was written"));
    CHECK(conserves(answers));
  }
  SECTION("a transport without shared memory says so") {
    CHECK_THROWS_WITH((with_center<Tcp, Thrust>(Use::always)),
                      ContainsSubstring("no memory that all ranks see"));
  }
}

/// A transport that says it takes device memory; on this device that is true.
struct Aware : Threads {
  using Threads::Threads;
  bool takes_device_memory() const { return true; }
};

TEST_CASE("staged: device memory goes to a transport that takes it as it is") {
  auto const answers = Launch<Threads>::run(2, [](Threads& plain) -> std::vector<double> {
    auto& net = static_cast<Aware&>(plain);
    Thrust device;
    Staged<Aware, Thrust> staged(net, device, {.direct = Use::always});
    auto x = device.allocate<float>(100), y = device.allocate<float>(100);
    device.for_each(ops::Fill{net.rank() + 1.0}, x.span());
    staged.all_reduce(x.span());
    auto sending = staged.start_send(read(x.span()), 1 - net.rank(), 3);
    staged.receive(y.span(), 1 - net.rank(), 3);
    sending.wait();
    staged.broadcast(x.span(), 1);
    return {double(staged.direct()), double(x.span().data()[99]), double(y.span().data()[0])};
  });
  CHECK(answers[0] == std::vector{1.0, 3.0, 3.0});
  CHECK(answers[1] == answers[0]);
  CHECK_THROWS_WITH(Launch<Threads>::run(1,
                                         [](Threads& net) -> std::vector<double> {
                                           Staged(net, Thrust(), {.direct = Use::always});
                                           return {};
                                         }),
                    ContainsSubstring("cannot take device memory"));
}

}  // namespace
