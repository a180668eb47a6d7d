// SPDX-License-Identifier: Apache-2.0
// transport::Nccl without a GPU: its order of calls, its waits and its errors, against an NCCL of this process's threads.
#include "elastic/transport/nccl.hpp"

#include "conformance/nccl.hpp"
#include "elastic/transport/threads.hpp"
#include "support/catch.hpp"
#include "support/fake_nccl.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using support::Answers;
using transport::Threads;
using Net = transport::Nccl<Threads, fake::Device>;
using Run = support::Launch<Threads>;

static_assert(Collective<Net> && PointToPoint<Net> && Windowed<Net>);
static_assert(Reaches<Net, memory::Cuda> && Reaches<Net, memory::Host>);

/// The "device's" copy of values: Nccl must touch it nowhere but between these lines.
auto const on_device = [](auto values, auto f) {
  using T = typename decltype(values)::value_type;
  f(Span<T, memory::Cuda>(values.data(), values.size()));
  return values;
};

/// body(net) on n ranks, each with a device of its own; no communicator stays behind.
template <class Body>
Answers run(int n, Body body, support::Seconds timeout = std::chrono::seconds(60)) {
  auto answers = Run::run(
      n,
      [&](Threads& threads) -> std::vector<double> {
        Net net(threads, fake::Device{threads.rank()});
        return body(net);
      },
      timeout);
  CHECK(fake::open_communicators == 0);
  return answers;
}

/// The same number from n ranks.
Answers all(int n, double answer) { return Answers(std::size_t(n), {answer}); }

TEMPLATE_TEST_CASE("nccl: any transport hands out what it needs to start", "", transport::Tcp,
                   transport::SharedMemory) {
  auto const answers = support::Launch<TestType>::run(3, [](TestType& inner) -> std::vector<double> {
    transport::Nccl<TestType, fake::Device> net(inner, fake::Device{inner.rank()});
    return {conformance::wrong_sums<float>(net, 3, on_device)};
  });
  CHECK(answers == all(3, 0));
}

TEST_CASE("nccl: sums and broadcasts of device memory") {
  for (int const n : {1, 2, 4}) {
    CAPTURE(n);
    CHECK(run(n, [n](Net& net) -> std::vector<double> {
            return {conformance::wrong_sums<float>(net, n, on_device) +
                    conformance::wrong_sums<double>(net, n, on_device)};
          }) == all(n, 0));
    CHECK(run(n, [n](Net& net) -> std::vector<double> {
            return {conformance::wrong_traffic(net, n, on_device)};
          }) == all(n, 0));
  }
}

TEST_CASE("nccl: several sums are in flight at once") {
  CHECK(run(3, [](Net& net) -> std::vector<double> {
          std::vector<float> a(100, 1), b(7, 2);
          auto first = net.start_all_reduce(Span<float, memory::Cuda>(a.data(), a.size()));
          auto second = net.start_all_reduce(Span<float, memory::Cuda>(b.data(), b.size()));
          second.wait();
          first.wait();
          return {double(a[99] + b[6])};
        }) == all(3, 9));
}

TEST_CASE("nccl: host vectors, messages and windows are those of the transport below") {
  CHECK(run(2, [](Net& net) -> std::vector<double> {
          std::vector<float> x{1}, y{0};
          net.all_reduce(Span<float>(x));
          auto ticket = net.start_receive(Span<float>(y), 1 - net.rank(), 3);
          net.send(read(Span<float>(x)), 1 - net.rank(), 3);
          ticket.wait();
          net.barrier();
          auto window = net.make_window<float>(4);
          return {double(y[0]) + double(window.size())};
        }) == all(2, 6));
}

TEST_CASE("nccl: a team is the first ranks; others are refused, and come back with the next team") {
  auto const answers = run(3, [](Net& net) -> std::vector<double> {
    auto const sum = [&] {
      return double(on_device(std::vector<float>{1}, [&](auto x) { net.all_reduce(x); })[0]);
    };
    std::vector<double> seen{sum()};
    net.team(2);
    try {
      seen.push_back(sum());
    } catch (ConfigError const&) {
      seen.push_back(-1);
    }
    net.team(3);
    seen.push_back(sum());
    return seen;
  });
  CHECK(answers == Answers{{3, 2, 3}, {3, 2, 3}, {3, -1, 3}});
}

TEST_CASE("nccl: two ranks of a team on one GPU are refused on every rank, by name") {
  auto const refusals = Run::run(4, [](Threads& threads) -> std::vector<double> {
    Net net(threads, fake::Device{threads.rank() % 3});  // ranks 0 and 3
    std::vector<float> x(5);
    Span<float, memory::Cuda> const view(x.data(), x.size());
    double told = 0;
    try {
      net.all_reduce(view);
    } catch (ConfigError const& e) {
      std::string const what = e.what();
      told =
          what.find("ranks 0 and 3") != std::string::npos && what.find("0000:00:00.0") != std::string::npos;
    }
    net.team(3);  // without rank 3 there is nothing to refuse
    if (net.rank() < 3) net.all_reduce(view);
    return {told};
  });
  CHECK(refusals == all(4, 1));
}

TEST_CASE("nccl: a rank that does not come is a Timeout; nothing works after it") {
  auto const answers = run(
      2,
      [](Net& net) -> std::vector<double> {
        std::vector<float> x(3), done(1);
        Span<float, memory::Cuda> const view(x.data(), x.size());
        net.all_reduce(view);
        if (net.rank() == 1) {
          while (!net.probe()) std::this_thread::yield();
          net.receive(Span<float>(done), 0, 1);
          return {1};
        }
        std::string what;
        try {
          net.all_reduce(view);
        } catch (Timeout const& e) {
          what = e.what();
        }
        bool refused = false;
        try {
          net.all_reduce(view);
        } catch (TransportError const&) {
          refused = true;
        }
        net.send(read(Span<float>(done)), 1, 1);
        bool named = true;
        for (std::string const& part :
             {std::string("all_reduce"), std::string("rank 0 of 2"), transport::detail::this_host()})
          named = named && what.find(part) != std::string::npos;
        return {double(refused && named)};
      },
      std::chrono::milliseconds(300));
  CHECK(answers == all(2, 1));
}

TEST_CASE("nccl: abort releases a rank that waits in NCCL and tells it why") {
  auto const answers = run(2, [](Net& net) -> std::vector<double> {
    std::vector<float> x(3);
    Span<float, memory::Cuda> const view(x.data(), x.size());
    net.all_reduce(view);
    if (net.rank() == 1) {
      net.receive(Span<float>(x), 0, 1);
      net.abort("because of the test");
      return {1};
    }
    auto travelling = net.start_all_reduce(view);
    net.send(read(Span<float>(x)), 1, 1);
    while (!travelling.done()) {
    }
    try {
      travelling.wait();
    } catch (Aborted const& e) {
      return {double(std::string(e.what()).find("because of the test") != std::string::npos)};
    }
    return {0};
  });
  CHECK(answers == all(2, 1));
}

TEST_CASE("nccl: what NCCL reports is a TransportError with its words") {
  auto const answers = run(2, [](Net& net) -> std::vector<double> {
    std::vector<float> x(3);
    Span<float, memory::Cuda> const view(x.data(), x.size());
    net.all_reduce(view);
    net.barrier();
    if (net.rank() == 0) fake::report(ncclRemoteError);
    net.barrier();
    double told = 0;
    try {
      net.all_reduce(view);
    } catch (TransportError const& e) {
      told = std::string(e.what()).find("a made-up error") != std::string::npos;
    }
    net.barrier();
    if (net.rank() == 0) fake::report(ncclSuccess);
    return {told};
  });
  CHECK(answers == all(2, 1));
}

}  // namespace
