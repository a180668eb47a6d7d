// SPDX-License-Identifier: Apache-2.0
// What an exchange costs with each wire, and what it costs in the manner of 2016 (rule/ancestors.hpp): all contenders
// train in turn, in the same processes over the same transport, on the tensors of a net whose gradient costs nothing.
//     bench_prior_art [--transport tcp|shared_memory] [--net AlexNet] [--rounds 7]
#include "elastic/rule/ancestors.hpp"

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/device/cpu.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/tcp.hpp"
#include "transports/rank.hpp"

namespace {

using namespace elastic;

/// The tensors of a net, in order.
struct Shape {
  char const* name;
  std::vector<std::size_t> tensors;
};
Shape const shapes[] = {
    {"1.4 MB, the EASGD paper's net", {4800, 64, 204800, 128, 73728, 64, 65536, 256, 2560, 10}},
    {"17 MB, Async-EASGD's net",
     {4800, 64, 64, 64, 204800, 128, 128, 128, 819200, 256, 256, 256, 3276800, 512, 512, 512, 20480, 10}},
    {"244 MB, AlexNet-128b",
     {34848, 96, 307200, 256, 884736, 384, 663552, 384, 442368, 256, 37748736, 4096, 16777216, 4096, 4096000,
      1000}},
};

class Tensors {
 public:
  using scalar = float;
  using device_type = device::Cpu;
  using batch = int;
  Tensors(device_type& device, Shape const& shape)
      : device_(device), x_(device.allocate<float>(size(shape))), g_(device.allocate<float>(size(shape))) {
    std::size_t offset = 0;
    for (std::size_t const count : shape.tensors) {
      groups_.push_back({offset, count, ParameterKind::weight});
      offset += count;
    }
  }
  static std::size_t size(Shape const& shape) {
    std::size_t sum = 0;
    for (std::size_t const count : shape.tensors) sum += count;
    return sum;
  }
  device_type& device() { return device_; }
  Span<float> parameters() { return x_.span(); }
  Span<float> gradients() { return g_.span(); }
  double gradient(int) { return 0; }
  std::vector<ParameterGroup> const& groups() const { return groups_; }

 private:
  device_type& device_;
  device_type::Buffer<float> x_, g_;
  std::vector<ParameterGroup> groups_;
};

struct NoData {
  int nothing = 0;
  int const& next() { return nothing; }
};

/// What a rank spends in each step on the exchange: arithmetic, messages and waiting.
struct ExchangeSeconds {
  double now = 0;
  std::vector<double> steps{};
  void operator()(event::Interval const& interval) {
    if (interval.what == Doing::exchanging || interval.what == Doing::waiting)
      now += std::chrono::duration<double>(interval.end - interval.begin).count();
  }
  void operator()(event::Step const&) { steps.push_back(std::exchange(now, 0)); }
};

/// Seconds of an exchange with this rule on this rank, the median of so many.
template <class Net, class Rule>
double train(Net& net, device::Cpu& device, Tensors& model, Rule const& rule, long exchanges) {
  NoData data;
  ExchangeSeconds clock;
  Trainer<Net, Rule, device::Cpu> trainer(net, rule, device);
  bench::fill(model.parameters().data(), model.parameters().size(), net.rank());
  trainer.run(model, data, {.steps = exchanges + 2, .sgd = {.learning_rate = 0}, .same_start = false}, clock);
  if (clock.steps.size() < 3) return 0;                                // a server
  return bench::median({clock.steps.begin() + 2, clock.steps.end()});  // the first one makes its buffers
}

/// All contenders in turn, so many times; the last rank prints medians, and the medians of the rounds' ratios to the
/// first contender.
template <class Net>
void compare(Net& net, char const* what, Shape const& shape, int rounds,
             std::vector<std::pair<char const*, std::function<double(Tensors&)>>> const& contenders) {
  device::Cpu device;
  Tensors model(device, shape);
  std::vector<std::vector<double>> seconds(contenders.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t k = 0; k < contenders.size(); ++k) seconds[k].push_back(contenders[k].second(model));
  if (net.rank() != net.size() - 1) return;
  std::printf("%s, %s, %d ranks\n", what, shape.name, net.size());
  for (std::size_t k = 0; k < contenders.size(); ++k) {
    std::vector<double> ratios;
    for (std::size_t round = 0; round < seconds[k].size(); ++round)
      ratios.push_back(seconds[k][round] / seconds[0][round]);
    std::printf("  %-44s %9.3f ms %6.2fx\n", contenders[k].first, 1e3 * bench::median(seconds[k]),
                bench::median(ratios));
  }
  std::fflush(stdout);
}

template <class Net>
void measure(Net& net, Shape const& shape, int rounds, bool server) {
  using rule::Order;
  device::Cpu device;
  long const exchanges = Tensors::size(shape) > 20'000'000 ? 4 : 20;
  auto const run = [&, exchanges](auto const& rule) {
    return
        [&, rule, exchanges](Tensors& model) { return train(net, model.device(), model, rule, exchanges); };
  };
  double const alpha = 0.5 / net.size();
  if (server) {
    rule::AsyncEasgd easgd{.alpha = alpha, .period = 1, .order = Order::post_step};
    auto bf16 = easgd, fp16 = easgd;
    bf16.wire = Wire::bf16;
    fp16.wire = Wire::fp16;
    compare(net, (std::string(Net::name) + ": exchange with a server").c_str(), shape, rounds,
            {{"async_easgd", run(easgd)},
             {"async_easgd, bf16", run(bf16)},
             {"async_easgd, fp16", run(fp16)},
             {"two weights, tensor by tensor, three passes",
              run(rule::TwoWeightsEasgd{.alpha = alpha, .server_alpha = alpha, .period = 1})}});
  } else {
    rule::SyncEasgd easgd{.alpha = alpha, .period = 1, .order = Order::post_step};
    auto bf16 = easgd;
    bf16.wire = Wire::bf16;
    compare(net, (std::string(Net::name) + ": mean of all ranks").c_str(), shape, rounds,
            {{"bsp", run(rule::Bsp{})},
             {"bsp, bf16", run(rule::Bsp{.wire = Wire::bf16})},
             {"bsp, fp16", run(rule::Bsp{.wire = Wire::fp16})},
             {"tensor by tensor, asa32", run(rule::AllToAllBsp{})},
             {"tensor by tensor, asa16", run(rule::AllToAllBsp{.wire = Wire::fp16})}});
    compare(net, (std::string(Net::name) + ": synchronous EASGD").c_str(), shape, rounds,
            {{"sync_easgd", run(easgd)}, {"sync_easgd, bf16", run(bf16)}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string const only = bench::argument(argc, argv, "transport"),
                    net_name = bench::argument(argc, argv, "net");
  int const rounds = std::stoi(bench::argument(argc, argv, "rounds", "7"));
  std::string const job = "prior-art-" + std::to_string(::getpid());
  int status = 0;
  for (std::string const transport : {"tcp", "shared_memory"}) {
    if (!only.empty() && only != transport) continue;
    for (bool const server : {true, false}) {
      constexpr int ranks = 2;
      auto const port = transport == "tcp" ? transport::free_port() : std::uint16_t(0);
      auto const all = [&](auto& net) {
        for (Shape const& shape : shapes)
          if (std::string(shape.name).find(net_name) != std::string::npos)
            measure(net, shape, rounds, server);
      };
      status |= bench::fork_ranks(ranks, [&](int rank) {
        if (transport == "tcp") {
          transport::Tcp net({.port = port, .rank = rank, .size = ranks, .job = job});
          all(net);
        } else {
          transport::SharedMemory net({.job = job + (server ? "s" : "w"), .rank = rank, .size = ranks});
          all(net);
        }
      });
    }
  }
  return status;
}
