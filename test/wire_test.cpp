// SPDX-License-Identifier: Apache-2.0
// Values that travel in 16 bits: the conversions against Eigen's, sums by messages against a loop to the bit, and what
// every rule keeps whatever is rounded on its way.
#include "elastic/wire.hpp"

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "conformance/rule.hpp"
#include "elastic/device/thrust.hpp"
#include "elastic/message_sum.hpp"
#include "exact/conservation.hpp"
#include "support/catch.hpp"
#include "support/launch_tcp.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using codec::Bf16;
using codec::Fp16;
using device::Cpu;
using device::Thrust;
using exact::distance;
using exact::Order;
using support::Launch;
using transport::Tcp;
using transport::Threads;

float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }

TEST_CASE("wire: 16 bits are Eigen's, but finite values stay finite") {
  std::size_t wrong = 0;
  auto const check = [&](std::uint32_t bits) {
    float const x = float_of(bits);
    std::uint16_t half = Eigen::half(x).x, brain = Eigen::bfloat16(x).value;
    if (std::isfinite(x) && (half & 0x7FFF) == 0x7C00) --half;
    if (std::isfinite(x) && (brain & 0x7FFF) == 0x7F80) --brain;
    bool const same =
        std::isnan(x) ? std::isnan(Fp16::decode(Fp16::encode(x))) && std::isnan(Bf16::decode(Bf16::encode(x)))
                      : Fp16::encode(x) == half && Bf16::encode(x) == brain;
    wrong += same ? 0 : 1;
  };
  for (std::uint64_t bits = 0; bits < std::uint64_t(1) << 32; bits += 1021) check(std::uint32_t(bits));
  for (std::uint32_t h = 0; h < 1 << 16; ++h) {
    auto const value = static_cast<std::uint16_t>(h);
    Eigen::half half;
    half.x = value;
    float const x = float(half), y = Fp16::decode(value);
    wrong += std::isnan(x) ? !std::isnan(y) : bits_of(x) != bits_of(y);
    wrong += bits_of(Bf16::decode(value)) != h << 16;
    // itself, and where rounding goes from one number to the next: half way, and one bit beside it
    std::uint32_t const next = bits_of(Fp16::decode(static_cast<std::uint16_t>(h + 1)));
    std::uint32_t const step = (next - bits_of(y)) / 2;
    for (std::uint32_t const near : {0u, step - 1, step, step + 1}) check(bits_of(y) + near);
    for (std::uint32_t const near : {0u, 0x7FFFu, 0x8000u, 0x8001u}) check((h << 16) + near);
  }
  CHECK(wrong == 0);
  CHECK(Fp16::decode(Fp16::encode(1e30f)) == 65504);
  CHECK(Fp16::decode(Fp16::encode(-1e30)) == -65504);
  CHECK(Bf16::decode(Bf16::encode(-std::numeric_limits<float>::max())) == -Bf16::largest);
  CHECK(Fp16::decode(Fp16::encode(std::numeric_limits<float>::infinity())) == HUGE_VALF);
}

template <class T>
T through(Wire wire, T x) {
  return with_codec<T>(wire, [x]<class Codec>(Codec) { return T(Codec::decode(Codec::encode(x))); });
}

/// What the ranks end with, in a loop: the sum, and what goes back to rank r.
std::vector<float> summed(std::vector<std::vector<float>> const& xs, Wire wire) {
  std::vector<float> sums(xs[0].size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    float sum = through(wire, xs[0][i]);
    for (std::size_t r = 1; r < xs.size(); ++r) sum += through(wire, xs[r][i]);
    sums[i] = sum;
  }
  return sums;
}

template <class Net, class Dev>
void sums_are_those_of_a_loop(int ranks, std::size_t n, Wire wire) {
  std::vector<std::vector<float>> xs;
  for (int r = 0; r < ranks; ++r) xs.push_back(support::random_values<float>(n, unsigned(r + 40)));
  auto const exact = summed(xs, wire);
  for (bool const gives_back : {false, true}) {
    auto const answers = exact::run_on<Net, Dev>(ranks, [&](auto& net, Dev& device) {
      Timeline<> line(net.rank());
      MessageSum<std::remove_cvref_t<decltype(net)>, Dev, float> sum(net, device, ranks, line);
      auto x = device.template allocate<float>(n), back = device.template allocate<float>(gives_back ? n : 0);
      auto const mine = xs[std::size_t(net.rank())];
      exact::set(device, x.span(), mine);
      std::uint64_t const before = net.traffic().sent_bytes;
      sum.start(x.span(), wire, back.span());
      if (gives_back)
        while (!sum.done()) std::this_thread::yield();
      sum.finish();
      auto answer = exact::values(device, x.span());
      for (double const rest : exact::values(device, back.span())) answer.push_back(rest);
      answer.push_back(double(net.traffic().sent_bytes - before));
      return answer;
    });
    CAPTURE(ranks, n, to_text(wire), gives_back);
    std::size_t wrong = 0;
    for (int r = 0; r < ranks; ++r) {
      auto const& answer = answers[std::size_t(r)];
      REQUIRE(answer.size() == n * (gives_back ? 2 : 1) + 1);
      Chunk const own = chunk(n, ranks, r);
      for (std::size_t i = 0; i < n; ++i) {
        float const sum = through(wire, exact[i]), x = xs[std::size_t(r)][i];
        wrong += answer[i] != double(sum);
        float rest = x - through(wire, x);
        if (i >= own.first && i < own.first + own.count) rest += exact[i] - sum;
        if (gives_back) wrong += answer[n + i] != double(rest);
      }
      CHECK(answer.back() == double(all_reduce_sent(n, ranks, r) * width_on<float>(wire)));
    }
    CHECK(wrong == 0);
  }
}

TEMPLATE_TEST_CASE("wire: sums by messages are those of a loop, to the bit and the byte", "", Threads, Tcp) {
  for (Wire const wire : {Wire::float32, Wire::bf16, Wire::fp16}) {
    for (int const ranks : {1, 2, 3, 5})
      for (std::size_t const n : {1u, 3u, 4u, 1000u}) sums_are_those_of_a_loop<TestType, Cpu>(ranks, n, wire);
    sums_are_those_of_a_loop<TestType, Cpu>(3, 400'001, wire);  // several messages to each
    sums_are_those_of_a_loop<TestType, Thrust>(3, 1000, wire);
  }
}

/// Dyadic numbers, whose rounded parts and what is left of them are exact: a conserved sum is so to the bit.
template <class Net, class Rule, class Dev = Cpu>
void conserves_to_the_bit() {
  constexpr int workers = 3;
  bool const together = Rule::needs == Needs::collective;  // or one after another: fewer exchanges are exact
  auto const setup = exact::exact_setup<float>();
  auto const expected = exact::total_at_start(setup, workers);
  for (Order const order : {Order::jacobi, Order::post_step}) {
    Plan const plan{.steps = together ? 8 : 3, .sgd = {.learning_rate = 0}, .same_start = false};
    Rule rule{.alpha = .25, .period = 1, .order = order};
    auto const plain = exact::train<Net, float, Dev>(rule, plan, workers, setup);
    for (Wire const wire : {Wire::bf16, Wire::fp16}) {
      rule.wire = wire;
      auto const trained = exact::train<Net, float, Dev>(rule, plan, workers, setup);
      CAPTURE(Net::name, Rule::name, order == Order::jacobi, to_text(wire));
      CHECK(distance(exact::total(trained), expected) == 0);
      if (together) {  // or else the result depends on who came first
        CHECK(distance(trained.center, plain.center) > 0);
        CHECK(distance(trained.center, plain.center) < (wire == Wire::bf16 ? 0.1 : 0.01));
        for (auto const& copy : trained.copies) CHECK(distance(copy, trained.center) == 0);
      }
    }
  }
}

TEST_CASE("wire: elastic exchanges conserve center + workers whatever is rounded") {
  conserves_to_the_bit<Threads, rule::SyncEasgd>();
  conserves_to_the_bit<Threads, rule::AsyncEasgd>();
  conserves_to_the_bit<Tcp, rule::SyncEasgd>();
  conserves_to_the_bit<Tcp, rule::AsyncEasgd>();
  conserves_to_the_bit<Tcp, rule::SyncEasgd, Thrust>();
  conserves_to_the_bit<Tcp, rule::AsyncEasgd, Thrust>();
}

TEST_CASE("wire: a center in shared memory and one by messages round alike") {
  for (Order const order : {Order::jacobi, Order::post_step})
    for (Wire const wire : {Wire::bf16, Wire::fp16}) {
      rule::AsyncEasgd const rule{.alpha = .3, .period = 2, .order = order, .wire = wire};
      Plan const plan{.steps = 20, .sgd = {.learning_rate = .1}, .same_start = false};
      auto const shared = exact::train<Threads, float>(rule, plan, 1);
      auto const messages = exact::train<Tcp, float>(rule, plan, 1);
      auto const device = exact::train<Tcp, float, Thrust>(rule, plan, 1);
      CHECK(distance(shared.workers[0], messages.workers[0]) == 0);
      CHECK(distance(shared.center, messages.center) == 0);
      CHECK(distance(shared.center, device.center) == 0);
    }
}

TEST_CASE("wire: bulk-synchronous workers end with the same bits, near those of float32") {
  using rule::Combine;
  Plan plan{.steps = 30,
            .sgd = {.learning_rate = .05, .momentum = .5, .momentum_kind = optimizer::Momentum::heavy_ball}};
  for (Combine const combine : {Combine::gradients, Combine::parameters, Combine::velocities})
    for (bool const same_start : {true, false}) {
      if (!same_start && combine != Combine::parameters) continue;  // they would stay apart
      plan.same_start = same_start;
      auto const plain = exact::train<Tcp, float>(rule::Bsp{.combine = combine}, plan, 3);
      for (Wire const wire : {Wire::bf16, Wire::fp16}) {
        auto const trained = exact::train<Tcp, float>(rule::Bsp{.combine = combine, .wire = wire}, plan, 3);
        CAPTURE(to_text(combine), to_text(wire), same_start);
        for (auto const& x : trained.workers) CHECK(distance(x, trained.workers[0]) == 0);
        double const off = distance(trained.workers[0], plain.workers[0]);
        CHECK(off > 0);
        CHECK(off < (wire == Wire::bf16 ? 0.02 : 0.003));
      }
    }
}

TEST_CASE("wire: what fp16 would hide is refused, and ranks compare their wires") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH((rule::AsyncEasgd{.wire = Wire::fp16, .limit = 1e5}.check(2)),
                    ContainsSubstring("65504"));
  CHECK_NOTHROW(rule::AsyncEasgd{.wire = Wire::bf16, .limit = 1e5}.check(2));
  for (auto const& terms :
       {describe(rule::AsyncEasgd{.wire = Wire::fp16}), describe(rule::Bsp{.wire = Wire::fp16})})
    CHECK_THAT(terms, ContainsSubstring("wire=fp16\n"));
}

// What every rule promises, where 16 bits make a difference.
struct NarrowSync : rule::SyncEasgd {
  NarrowSync() { wire = Wire::bf16; }
};
TEST_CASE("wire: a tester's question is not mistaken for a part of a sum") {
  conformance::serves_a_tester<Tcp, NarrowSync, Cpu>();
}
TEST_CASE("wire: a failure ends all") { conformance::a_failure_ends_all<Tcp, NarrowSync, Cpu>(); }

}  // namespace
