// SPDX-License-Identifier: Apache-2.0
// What each rule with period 10 adds to a training step of the EASGD paper's net on a GPU, against the same loop without
// a rule. The asynchronous rule's server is a second process with its center on the same GPU.
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "elastic/model/nets.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/staged.hpp"
#include "measure.cuh"
#include "random_batch.hpp"
#include "second_process.hpp"
#ifdef __CUDACC__
#include "elastic/model/cuda_net.cuh"
#else
#include "elastic/model/detail/host_kit.hpp"
#include "elastic/model/device_net.hpp"
#endif

namespace {

using namespace elastic;
using bench::Gpu;
using transport::SharedMemory, transport::Staged, transport::Use;

constexpr int images = bench::scaled(128, 1);
constexpr long warm_up = bench::scaled(50, 5), steps = bench::scaled(550, 25);
constexpr transport::StagedOptions options{.center_on_device = Use::where_possible};

#ifdef __CUDACC__
using Net = model::CudaNet;
Net net(Gpu const& device) { return Net(model::easgd_cifar(), images, 1, device, {.graph = true}); }
#else
using Net = model::DeviceNet<Gpu, model::detail::HostKit>;
Net net(Gpu const& device) { return Net(model::easgd_cifar(), images, 1, device); }
#endif

struct SameBatch {
  model::Batch batch = bench::random_batch(model::easgd_cifar(), images);
  model::Batch const& next() { return batch; }
};

/// Seconds of a step, from step `warm_up` to the last one.
struct StepClock {
  using Clock = std::chrono::steady_clock;
  Clock::time_point first{}, last{};
  double loss = 0;
  void operator()(event::Step const& e) {
    if (e.step == warm_up) first = Clock::now();
    last = Clock::now();
    loss = e.loss;
  }
  double seconds() const {
    return std::chrono::duration<double>(last - first).count() / double(steps - 1 - warm_up);
  }
};

optimizer::Sgd const sgd{.learning_rate = 0.001, .momentum = 0.9};
bool all_finite = true;

double without_rule(Gpu& device) {
  Net model = net(device);
  SameBatch data;
  auto velocity = device.allocate<float>(model.parameters().size());
  optimizer::LocalStep<Gpu, float> local(device, sgd, model.parameters(), velocity.span());
  StepClock clock;
  for (long step = 0; step < steps; ++step) {
    local.look_ahead();
    double const loss = model.gradient(data.next());
    clock(event::Step{0, step, steps, loss, sgd.learning_rate});
    for (auto const& group : model.groups()) local.apply(model.gradients(), sgd.learning_rate, group);
    device.synchronize();
  }
  all_finite = all_finite && std::isfinite(clock.loss);
  return clock.seconds();
}

template <class Any, class Rule>
double with_rule(Any& transport, Rule rule, Gpu& device) {
  Net model = net(device);
  SameBatch data;
  StepClock clock;
  Trainer trainer(transport, rule, device);
  trainer.run(model, data, {.steps = steps, .sgd = sgd}, clock);
  all_finite = all_finite && (std::isfinite(clock.loss) || transport.rank() == 0);
  return clock.seconds();
}

double asynchronous(Gpu& device) {
  bench::SecondProcess server("server");
  SharedMemory host(bench::member(server.job(), 1));
  Staged transport(host, device, options);
  double const seconds = with_rule(transport, rule::AsyncEasgd{.period = 10}, device);
  server.join();
  return seconds;
}

int serve(std::string const& job) {
  Gpu device;
  SharedMemory host(bench::member(job, 0));
  Staged transport(host, device, options);
  with_rule(transport, rule::AsyncEasgd{.period = 10}, device);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "rank0") return serve(argv[3]);
  return bench::on_a_gpu([] {
    Gpu device;
    transport::Serial alone;
    auto const row = [&](std::string const& what, bench::Seconds const& ours) {
      bench::compare(
          {"step with " + what + ", period 10", "the same loop without a rule", 0, 0.01, true},
          bench::scaled(7, 1), ours, [&] { return without_rule(device); }, [] { return all_finite; });
    };
    row("BSP of parameters, one worker", [&] {
      return with_rule(alone, rule::Bsp{.combine = rule::Combine::parameters, .period = 10}, device);
    });
    row("synchronous EASGD, one worker",
        [&] { return with_rule(alone, rule::SyncEasgd{.period = 10}, device); });
    row("asynchronous EASGD, server on the same GPU", [&] { return asynchronous(device); });
  });
}
