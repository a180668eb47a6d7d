// SPDX-License-Identifier: Apache-2.0
// The fused passes of the rules and of the local steps against device-to-device copies of as many bytes.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "elastic/ops.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "measure.cuh"

namespace {

using namespace elastic;
using bench::Gpu;
using View = Span<float, bench::Memory>;
namespace step = optimizer::ops;

/// Value i of vector v, between -1 and 1: no two neighbors and no two vectors are alike.
ELASTIC_FN float value(std::size_t v, std::size_t i) {
  return float(((i + v * 977) * 2654435761ull >> 8) % 4096) / 2048.f - 1.f;
}
struct Pattern {
  float* to;
  std::size_t vector;
  ELASTIC_FN void operator()(std::size_t i) const { to[i] = value(vector, i); }
};

/// Up to three vectors of n values, and as much again to copy to.
class Vectors {
 public:
  Vectors(Gpu& device, std::size_t n)
      : n_(n),
        device_(device),
        memory_(device.allocate<float>(3 * n)),
        copy_(device.allocate<float>(3 * n)) {}

  View operator[](std::size_t v) { return memory_.span().part(v * n_, n_); }
  void fill() {
    for (std::size_t v = 0; v < 3; ++v) device_.launch(n_, Pattern{(*this)[v].data(), v});
  }
  /// Copies `bytes` / 2, which are then read and written; in several copies if that is more than three vectors.
  void copy(double bytes) {
    std::size_t left = std::size_t(bytes / 8);
    for (std::size_t part = 0; left > 0; left -= part) {
      part = std::min(left, 3 * n_);
      device_.copy(read(memory_.span().part(0, part)), copy_.span().part(0, part));
    }
  }
  /// Whether all three vectors hold what `expected` makes of one value of each; asks a few thousand.
  template <class Expected>
  bool hold(Expected expected) {
    bool good = true;
    for (std::size_t const first : {std::size_t(0), n_ / 2 + 1, n_ - 4096}) {
      std::vector<float> now[3];
      for (std::size_t v = 0; v < 3; ++v) {
        now[v].resize(4096);
        device_.download(read((*this)[v].part(first, 4096)), Span<float>(now[v]));
      }
      for (std::size_t i = 0; i < 4096; ++i) {
        float x[3] = {value(0, first + i), value(1, first + i), value(2, first + i)};
        expected(x[0], x[1], x[2]);
        for (std::size_t v = 0; v < 3; ++v) good = good && std::abs(now[v][i] - x[v]) < 1e-5f;
      }
    }
    return good;
  }

 private:
  std::size_t n_;
  Gpu& device_;
  Gpu::Buffer<float> memory_, copy_;
};

void measure(Gpu& device, std::size_t n) {
  std::string const size = n >= 1'000'000'000 ? "1 G" : std::to_string(n / 1'000'000) + " M";
  if (double(bench::free_memory()) < 25.0 * double(n))
    return bench::print_left_out(
        "passes over " + size + " parameters",
        "they want " + std::to_string(n / 40'000'000) + " GB of the device's memory");
  Vectors v(device, n);
  bench::DeviceClock const clock(device);
  int const repeats = n >= 1'000'000'000 ? 3 : 20;
  auto const row = [&](std::string const& what, double values, auto apply, auto expected) {
    v.fill();
    apply();
    bool const correct = v.hold(expected);
    double const bytes = values * 4 * double(n);
    bench::compare(
        {what + ", " + size + " parameters", "copy on the device", bytes, 0.92}, 11,
        [&] { return clock.time(repeats, apply); },
        [&] { return clock.time(repeats, [&] { v.copy(bytes); }); }, [&] { return correct; });
  };

  // values read and written per parameter; rates that keep every value changing, as what stays is not written
  row(
      "elastic move (exchange)", 4,
      [&] { device.exchange(ops::Retract{1}, ops::Add{}, v[0], v[1], View(), 1e30); },
      [](float& x, float& c, float&) {
        float d = 0;
        ops::Retract{1}(d, x, c);
        ops::Add{}(c, d);
      });
  row(
      "elastic force (Retract)", 4, [&] { device.for_each(ops::Retract{2}, v[0], v[1], read(v[2])); },
      [](float& d, float& x, float& c) { ops::Retract{2}(d, x, c); });
  row(
      "SGD step", 3,
      [&] {
        device.for_each(step::Descend{0.01, 1e-3}, v[0], read(v[1]));
      },
      [](float& x, float& g, float&) {
        step::Descend{0.01, 1e-3}(x, g);
      });
  row(
      "momentum step", 5,
      [&] {
        device.for_each(step::HeavyBall{0.9, 0.01, 1e-3}, v[0], v[1], read(v[2]));
      },
      [](float& x, float& u, float& g) {
        step::HeavyBall{0.9, 0.01, 1e-3}(x, u, g);
      });
  row(
      "Nesterov step, both halves", 9,
      [&] {
        device.for_each(step::LookAhead{0.9}, v[0], v[1]);
        device.for_each(step::Correct{0.01, 1e-3}, v[0], v[1], read(v[2]));
      },
      [](float& x, float& u, float& g) {
        step::LookAhead{0.9}(x, u);
        step::Correct{0.01, 1e-3}(x, u, g);
      });
}

}  // namespace

int main() {
  return bench::on_a_gpu([] {
    Gpu device;
    measure(device, bench::scaled(61'000'000, 100'003));
    measure(device, bench::scaled(1'000'000'000, 200'000));
  });
}
