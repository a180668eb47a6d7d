// SPDX-License-Identifier: Apache-2.0
// One asynchronous exchange of 61 M parameters of a GPU with a center of another process: in host memory that the GPU
// reads and writes in place, against pinned copies both ways at once; and in the memory of the same GPU through CUDA IPC,
// against one fused pass within a process.
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "elastic/center_window.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/staged.hpp"
#include "measure.cuh"
#include "second_process.hpp"

namespace {

using namespace elastic;
using bench::Gpu;
using transport::SharedMemory, transport::Staged, transport::StagedOptions, transport::Use;
using Net = Staged<SharedMemory, Gpu>;

constexpr std::size_t parameters = bench::scaled(61'000'000, 100'003);
constexpr StagedOptions on_host{.center_on_device = Use::never},
    on_device{.center_on_device = Use::where_possible};
constexpr int done = 1;

std::vector<float> center() { return std::vector<float>(parameters, 3.f); }

/// Rank 0: holds a center until rank 1 is done.
template <class Any, class Dev>
void hold(SharedMemory& host, Any& net, Dev& device) {
  auto const first = center();
  auto c = device.template allocate<float>(parameters);
  device.upload(Span<float const>(first), c.span());
  CenterWindow<Any, Dev, float> window(net, device, c.span(), 0);
  device.synchronize();
  Welcome welcome{};
  window.announce(welcome);
  host.send(read(as_bytes(welcome)), 1, done);
  char end = 0;
  host.receive(Span<char>(&end, 1), 1, done);
}

int rank0(std::string const& role, std::string const& job) {
  SharedMemory host(bench::member(job, 0));
  if (role == "host") {
    device::Cpu cpu;
    hold(host, host, cpu);
  } else {
    Gpu device;
    Net net(host, device, on_device);
    if (net.center_on_device()) hold(host, net, device);
  }
  return 0;
}

/// Rank 1: measures exchanges with rank 0's center against `limit`.
void measure(bench::Row const& row, std::string const& role, StagedOptions const& options,
             bench::Seconds const& limit, Gpu& device) {
  bench::SecondProcess other(role);
  SharedMemory host(bench::member(other.job(), 1));
  Net net(host, device, options);
  if (role == "device" && !net.center_on_device()) return bench::print_left_out(row.what, net.why_not());
  Welcome welcome{};
  host.receive(as_bytes(welcome), 0, done);
  CenterWindow<Net, Gpu, float> window(net, device, welcome, parameters);
  auto x = device.allocate<float>(parameters);
  device.for_each(ops::Fill{1}, x.span());
  // A rate of 1 swaps x and the center, so that every value changes every time.
  long swaps = 0;
  auto const exchange = [&] {
    ++swaps;
    return bench::wall(
        [&] { window.exchange(ops::Retract{1}, ops::Add{}, x.span(), Span<float, bench::Memory>(), 1e30); });
  };
  auto const correct = [&] {
    std::vector<float> values(parameters);
    device.download(read(x.span()), Span<float>(values));
    bool good = true;
    for (float const v : values) good = good && v == (swaps % 2 == 0 ? 1.f : 3.f);
    return good;
  };
  bench::compare(row, 11, exchange, limit, correct);
  char end = 0;
  host.send(Span<char const>(&end, 1), 0, done);
  other.join();
}

void staged(Gpu& device) {
  std::size_t const bytes = parameters * sizeof(float);
  auto down = device.allocate_host(bytes), up = device.allocate_host(bytes);
  auto from = device.allocate<float>(parameters), to = device.allocate<float>(parameters);
  auto const on_the_host = [](auto& memory) {
    return Span<float>(reinterpret_cast<float*>(memory.data()), parameters);
  };
  auto const both = [&] {
    device.synchronize();
    return bench::wall([&] {
      auto away = device.start_download(read(from.span()), on_the_host(down));
      auto home = device.start_upload(read(on_the_host(up)), to.span());
      away.wait();
      home.wait();
    });
  };
  measure({"exchange with a center in shared memory, 61 M parameters", "pinned copies both ways",
           2.0 * double(bytes), 0.85},
          "host", on_host, both, device);
}

void by_ipc(Gpu& device) {
  auto x = device.allocate<float>(parameters), c = device.allocate<float>(parameters);
  device.for_each(ops::Fill{1}, x.span());
  device.for_each(ops::Fill{3}, c.span());
  auto const pass = [&] {
    device.synchronize();
    return bench::wall([&] {
      device.exchange(ops::Retract{1}, ops::Add{}, x.span(), c.span(), Span<float, bench::Memory>(), 1e30);
      device.refused();
    });
  };
  measure({"exchange with a process of the same GPU, 61 M parameters", "one fused pass",
           16.0 * double(parameters), 0.85},
          "device", on_device, pass, device);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "rank0") return rank0(argv[2], argv[3]);
  return bench::on_a_gpu([] {
    Gpu device;
    staged(device);
    by_ipc(device);
  });
}
