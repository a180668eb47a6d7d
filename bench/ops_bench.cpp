// SPDX-License-Identifier: Apache-2.0
// The elementwise arithmetic of the rules on the CPU, one thread, beside memcpy: bytes are those of the operands that an
// operation reads and those that it writes, each counted once; memcpy's are the n it reads and the n it writes.
#include "elastic/ops.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "elastic/device/cpu.hpp"
#include "transports/values.hpp"

namespace {

using namespace elastic;

bool failed = false;

/// Three operands, and what is right at place i after one operation on freshly filled ones.
struct Vectors {
  explicit Vectors(std::size_t n)
      : d(device.allocate<float>(n)), x(device.allocate<float>(n)), c(device.allocate<float>(n)) {
    bench::fill(d.span().data(), n, 0);
    bench::fill(x.span().data(), n, 1);
    bench::fill(c.span().data(), n, 2);
  }
  device::Cpu device;
  device::Cpu::Buffer<float> d, x, c;
};

/// Times `run` on vectors of `bytes`, after checking what the first one left in `d` and `x`.
template <class Run, class D, class X>
void measure(benchmark::State& state, double moved, Run run, D right_d, X right_x) {
  auto const n = static_cast<std::size_t>(state.range(0)) / sizeof(float);
  Vectors v(n);
  run(v);
  for (std::size_t i = 0; i < n; ++i) {
    float const d = bench::value(0, i), x = bench::value(1, i), c = bench::value(2, i);
    if (std::abs(v.d.span()[i] - right_d(d, x, c)) > 1e-5f ||
        std::abs(v.x.span()[i] - right_x(d, x, c)) > 1e-5f) {
      failed = true;
      state.SkipWithError("the result is not what it should be");
      return;
    }
  }
  for ([[maybe_unused]] auto _ : state) {
    run(v);
    benchmark::ClobberMemory();
  }
  state.counters["bytes"] = moved * static_cast<double>(n * sizeof(float));
  state.SetBytesProcessed(static_cast<std::int64_t>(moved * static_cast<double>(n * sizeof(float)) *
                                                    static_cast<double>(state.iterations())));
}

template <class Run, class D, class X>
void add(std::string const& name, double moved, Run run, D right_d, X right_x) {
  benchmark::RegisterBenchmark(name.c_str(), measure<Run, D, X>, moved, run, right_d, right_x)
      ->Arg(65'536)
      ->Arg(1'400'000)
      ->Arg(17'000'000);
}

void add_all() {
  auto const same_d = [](float d, float, float) { return d; };
  auto const same_x = [](float, float x, float) { return x; };
  add(
      "memcpy", 2,
      [](Vectors& v) { std::memcpy(v.d.span().data(), v.x.span().data(), v.d.span().size() * 4); },
      [](float, float x, float) { return x; }, same_x);
  add(
      "Fill", 1, [](Vectors& v) { v.device.for_each(ops::Fill{3}, v.d.span()); },
      [](float, float, float) { return 3.f; }, same_x);
  add(
      "Scale", 2, [](Vectors& v) { v.device.for_each(ops::Scale{-1}, v.d.span()); },
      [](float d, float, float) { return -d; }, same_x);
  add(
      "Add", 3, [](Vectors& v) { v.device.for_each(ops::Add{}, v.d.span(), read(v.x.span())); },
      [](float d, float x, float) { return d + x; }, same_x);
  add(
      "Subtract", 3, [](Vectors& v) { v.device.for_each(ops::Subtract{}, v.d.span(), read(v.x.span())); },
      [](float d, float x, float) { return d - x; }, same_x);
  add(
      "AddScaled", 3,
      [](Vectors& v) { v.device.for_each(ops::AddScaled{0.5}, v.d.span(), read(v.x.span())); },
      [](float d, float x, float) { return d + 0.5f * x; }, same_x);
  add(
      "Stretch", 3,
      [](Vectors& v) { v.device.for_each(ops::Stretch{0.25}, v.d.span(), v.x.span(), v.c.span()); },
      [](float, float x, float c) { return 0.25f * (x - c); }, same_x);
  add(
      "Retract", 4,
      [](Vectors& v) { v.device.for_each(ops::Retract{0.25}, v.d.span(), v.x.span(), v.c.span()); },
      [](float, float x, float c) { return 0.25f * (x - c); },
      [](float, float x, float c) { return x - 0.25f * (x - c); });
  add(
      "exchange", 4,  // reads and writes x and c, in blocks; d stays in the cache
      [](Vectors& v) {
        v.device.exchange(ops::Retract{0.25}, ops::Add{}, v.x.span(), v.c.span(), Span<float>(), 1e4);
      },
      same_d, [](float, float x, float c) { return x - 0.25f * (x - c); });
  add(
      "within", 1, [](Vectors& v) { benchmark::DoNotOptimize(v.device.within(read(v.x.span()), 1e4)); },
      same_d, same_x);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return failed ? 1 : 0;
}
