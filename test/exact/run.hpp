// SPDX-License-Identifier: Apache-2.0
// What the exact tests share: models with a known answer, batches, starts, and one call that trains p workers
// with a rule and brings everybody's parameters home.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/staged.hpp"
#include "support/launch.hpp"

#if !defined(ELASTIC_TEST_SMALL)
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ELASTIC_TEST_SMALL
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define ELASTIC_TEST_SMALL
#endif
#endif
#endif

namespace exact {

using namespace elastic;
using rule::Order;
using support::Answers;
using support::Launch;

/// Under a sanitizer, or where ranks outnumber cores and spin, samples are fewer and tolerances wider.
#ifdef ELASTIC_TEST_SMALL
inline constexpr bool small = true;
#else
inline constexpr bool small = false;
#endif

/// The ranks that `workers` workers of this rule need.
template <class Rule>
constexpr int ranks_for(int workers) {
  return workers + (Rule::needs == Needs::point_to_point ? 1 : 0);
}

/// Which of the workers this rank is, from 0; -1 is the server.
template <class Rule, class Net>
int worker_of(Net const& net) {
  return net.rank() - ranks_for<Rule>(0);
}

/// Random numbers in [-1, 1).
template <class T>
std::vector<T> numbers(std::size_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<T> uniform(-1, 1);
  std::vector<T> values(n);
  for (T& value : values) value = uniform(random);
  return values;
}

/// Random whole numbers in [-8, 8]: sums and quarters of them are exact.
template <class T>
std::vector<T> whole_numbers(std::size_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int> uniform(-8, 8);
  std::vector<T> values(n);
  for (T& value : values) value = static_cast<T>(uniform(random));
  return values;
}

/// Batches of one and the same vector.
template <class T>
struct Same {
  std::vector<T> batch;
  std::vector<T> const& next() { return batch; }
};

/// Endless signs, +sigma or -sigma: noise of variance sigma^2, sixty-four a draw.
template <class T>
class Signs {
 public:
  Signs(std::size_t n, T sigma, unsigned seed) : batch_(n), sigma_(sigma), random_(seed) {}
  std::vector<T> const& next() {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < batch_.size(); ++i, bits >>= 1) {
      if (i % 64 == 0) bits = random_();
      batch_[i] = (bits & 1) != 0 ? sigma_ : -sigma_;
    }
    return batch_;
  }

 private:
  std::vector<T> batch_;
  T sigma_;
  std::mt19937_64 random_;
};

/// A model that is neither convex nor linear: F(x) = sum h x^2 / 2 - cos(x) / 2 - noise x. It counts its
/// gradients and adds them up.
template <class T, class Dev = device::Cpu>
class Bumpy {
 public:
  using scalar = T;
  using device_type = Dev;
  using batch = std::vector<T>;
  using View = Span<T, typename Dev::memory>;

  Bumpy(Dev& device, std::size_t n)
      : device_(device),
        x_(device.template allocate<T>(n)),
        g_(device.template allocate<T>(n)),
        here_(n),
        sum_(n) {}
  Dev& device() { return device_; }
  View parameters() { return x_.span(); }
  View gradients() { return g_.span(); }
  double gradient(batch const& noise) {
    device_.download(read(x_.span()), Span<T>(here_));
    slope(Span<T>(here_), noise, Span<T>(here_));
    device_.upload(Span<T const>(here_), g_.span());
    for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += here_[i];
    ++count_;
    return double(here_[0]);
  }
  static void slope(Span<T> x, batch const& noise, Span<T> g) {
    for (std::size_t i = 0; i < g.size(); ++i) {
      T const xi = x[i];
      g[i] = std::sin(xi) / 2 + xi - noise[i];
    }
  }
  long count() const { return count_; }
  std::vector<T> const& sum_of_gradients() const { return sum_; }

 private:
  Dev& device_;
  typename Dev::template Buffer<T> x_, g_;
  std::vector<T> here_, sum_;
  long count_ = 0;
};

/// What p workers left behind.
struct Trained {
  Answers workers;             ///< each worker's parameters
  std::vector<double> center;  ///< empty for a rule without a center
  Answers copies{};            ///< of the center, where workers have them
};

template <class T>
void set(Span<T> to, std::vector<T> const& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i];
}

template <class T>
std::vector<double> values(Span<T> from) {
  return {from.begin(), from.end()};
}

/// The same for the memory of a device.
template <class Dev, class T>
void set(Dev& device, Span<T, typename Dev::memory> to, std::vector<T> const& from) {
  device.upload(Span<T const>(from), to);
}
template <class Dev, class T>
std::vector<double> values(Dev& device, Span<T, typename Dev::memory> from) {
  std::vector<std::remove_const_t<T>> here(from.size());
  device.download(Span<std::remove_const_t<T> const, typename Dev::memory>(from.data(), from.size()),
                  Span<std::remove_const_t<T>>(here));
  return {here.begin(), here.end()};
}

/// Runs body(net, device) on n ranks, each with a device of its own and a transport that reaches it.
template <class Net, class Dev, class Body>
Answers run_on(int n, Body body) {
  return Launch<Net>::run(n, [&](Net& net) {
    Dev device;
    if constexpr (Reaches<Net, typename Dev::memory>) {
      return body(net, device);
    } else {
      transport::Staged<Net, Dev> reaching(net, device, {.piece_bytes = 64});
      return body(reaching, device);
    }
  });
}

/// How a run is set up, with defaults that suit most tests: `size` parameters, random starts that differ
/// between workers (0 is the first worker; -1 the server), normal noise that differs too.
template <class T>
struct Setup {
  std::size_t size = 37;
  std::function<std::vector<T>(int)> start = [n = size](int w) { return numbers<T>(n, unsigned(w + 17)); };
  std::function<std::vector<T>()> center = [n = size] { return numbers<T>(n, 5); };
  unsigned seed = 100;
};

/// Trains `workers` workers of this rule on Bumpy; each from its own start, the center from its own, too,
/// unless plan.same_start.
template <class Net, class T = double, class Dev = device::Cpu, class Rule>
Trained train(Rule const& rule, Plan const& plan, int workers, Setup<T> const& setup = {}) {
  bool const centered = !std::same_as<Rule, rule::Bsp>;
  Answers results = run_on<Net, Dev>(ranks_for<Rule>(workers), [&](auto& net, Dev& device) {
    int const w = worker_of<Rule>(net);
    Bumpy<T, Dev> model(device, setup.size);
    data::Noise<T> noise(setup.size, T(1), setup.seed + unsigned(w + 1));
    set(device, model.parameters(), setup.start(w));
    Trainer<std::remove_cvref_t<decltype(net)>, Rule, Dev, T> trainer(net, rule, device);
    if (centered && !plan.same_start) {
      auto const center = setup.center();
      trainer.restore("center", Span<T const>(center));
    }
    trainer.run(model, noise, plan);
    auto out = values(device, model.parameters());
    if (centered && trainer.has_state("center")) {
      auto const center = values(device, trainer.state("center"));
      out.insert(out.end(), center.begin(), center.end());
    }
    return out;
  });
  Trained trained;
  auto const n = std::ptrdiff_t(setup.size);
  if (centered) trained.center = {results[0].begin() + n, results[0].end()};
  for (std::size_t r = std::size_t(ranks_for<Rule>(0)); r < results.size(); ++r) {
    trained.workers.emplace_back(results[r].begin(), results[r].begin() + n);
    trained.copies.emplace_back(results[r].begin() + n, results[r].end());
  }
  return trained;
}

/// The largest absolute difference of two vectors; infinite if they differ in size or hold a NaN.
inline double distance(std::vector<double> const& a, std::vector<double> const& b) {
  if (a.size() != b.size() || a.empty()) return HUGE_VAL;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double const d = std::abs(a[i] - b[i]);
    if (!(d <= largest)) largest = std::isnan(d) ? HUGE_VAL : d;
  }
  return largest;
}

/// center + sum of workers, each element on its own.
inline std::vector<double> total(Trained const& trained) {
  auto sum = trained.center;
  for (auto const& x : trained.workers)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
  return sum;
}

}  // namespace exact
