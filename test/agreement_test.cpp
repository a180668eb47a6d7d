// SPDX-License-Identifier: Apache-2.0
// Ranks that were started with different options all stop with the same sentence, which names field and rank.
#include "elastic/agreement.hpp"

#include <string>
#include <vector>

#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "support/catch.hpp"
#include "support/launch_threads.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using Net = transport::Threads;

/// What each of `ranks` ranks throws as Disagreement when it calls body(net).
template <class Body>
std::vector<std::string> disagreements(int ranks, Body body) {
  std::vector<std::string> said(static_cast<std::size_t>(ranks));
  support::Launch<Net>::run(ranks, [&](Net& net) -> std::vector<double> {
    try {
      body(net);
    } catch (Disagreement const& e) {
      said[std::size_t(net.rank())] = e.what();
    }
    return {};
  });
  return said;
}

/// Runs a trainer with a rule, `n` parameters and `testers` testers.
template <class Rule, class T = float>
void train(Net& net, Rule const& rule, std::size_t n = 8, int testers = 0) {
  device::Cpu cpu;
  model::Quadratic<T> model(cpu, n);
  data::Noise<T> noise(n, 1, 3);
  Trainer<Net, Rule, device::Cpu, T>(net, rule, cpu).run(model, noise, {.steps = 3, .testers = testers});
}

void check_all_say(std::vector<std::string> const& said, std::string const& expected) {
  for (auto const& sentence : said) {
    CHECK_THAT(sentence, ContainsSubstring(expected));
    CHECK(sentence == said[0]);
  }
}

TEST_CASE("equal terms are agreed on, of any length") {
  for (std::string const& terms : {std::string(), std::string("a=1\n"), std::string(60'000, 'x')})
    for (auto const& said : disagreements(3, [&](Net& net) { agree(net, terms); })) CHECK(said.empty());
}

TEST_CASE("the first line that differs is named with its rank, on every rank") {
  check_all_say(
      disagreements(
          4, [](Net& net) { agree(net, "a=1\nb=" + std::string(net.rank() == 2 ? "3" : "2") + "\nc=4\n"); }),
      "rank 0 trains with b=2, rank 2 with b=3");
  check_all_say(disagreements(3, [](Net& net) { agree(net, net.rank() == 1 ? "a=1\n" : "a=1\nb=2\n"); }),
                "rank 0 trains with b=2, rank 1 with nothing");
  check_all_say(disagreements(3, [](Net& net) { agree(net, net.rank() == 2 ? "a=1\nb=2\n" : "a=1\n"); }),
                "rank 0 trains with nothing, rank 2 with b=2");
}

TEST_CASE("of several differences that of the lowest rank is told") {
  check_all_say(disagreements(3, [](Net& net) { agree(net, "a=" + std::to_string(net.rank()) + "\n"); }),
                "rank 0 trains with a=0, rank 1 with a=1");
}

TEST_CASE("a Trainer compares rule, options, scalar, size and testers") {
  using rule::AsyncEasgd, rule::Order, rule::SyncEasgd;
  auto const odd = [](Net& net) { return net.rank() == 1; };
  check_all_say(disagreements(3, [&](Net& net) { train(net, SyncEasgd{.alpha = odd(net) ? .2 : .1}); }),
                "alpha=0.1, rank 1 with alpha=0.2");
  check_all_say(disagreements(3, [&](Net& net) { train(net, AsyncEasgd{.period = odd(net) ? 4 : 5}); }),
                "period=5, rank 1 with period=4");
  check_all_say(
      disagreements(
          3, [&](Net& net) { train(net, SyncEasgd{.order = odd(net) ? Order::post_step : Order::jacobi}); }),
      "order=jacobi, rank 1 with order=post_step");
  check_all_say(
      disagreements(3, [&](Net& net) { odd(net) ? train(net, AsyncEasgd{}) : train(net, SyncEasgd{}); }),
      "rule=sync_easgd, rank 1 with rule=async_easgd");
  check_all_say(
      disagreements(
          3,
          [&](Net& net) { odd(net) ? train<SyncEasgd, double>(net, SyncEasgd{}) : train(net, SyncEasgd{}); }),
      "scalar=32 bits, rank 1 with scalar=64 bits");
  check_all_say(disagreements(3, [&](Net& net) { train(net, SyncEasgd{}, odd(net) ? 9 : 8); }),
                "parameters=8, rank 1 with parameters=9");
  check_all_say(disagreements(3, [&](Net& net) { train(net, SyncEasgd{}, 8, odd(net) ? 1 : 0); }),
                "testers=0, rank 1 with testers=1");
}

}  // namespace
