// SPDX-License-Identifier: Apache-2.0
// Names chosen at run time, types compiled ahead: every pair that exists has its own straight-line code.
//     ./05_choose_at_runtime threads async_easgd
// run: plain threads async_easgd
// run: plain threads bsp
// run: plain serial sync_easgd
// expect: ^(async_easgd|bsp|sync_easgd): variance 0\.0
#include <cstdio>

#include "elastic/elastic.hpp"

using namespace elastic;
using Nets = Types<transport::Serial, transport::Threads>;
using Rules = Types<rule::Bsp, rule::SyncEasgd, rule::AsyncEasgd>;

template <class Net>
void on_all_ranks(auto program) {
  if constexpr (std::same_as<Net, transport::Threads>) {
    transport::Threads::run(3, program);
  } else {
    Net net;
    program(net);
  }
}

int main(int argc, char** argv) try {
  if (argc != 3) return std::printf("usage: %s TRANSPORT RULE\n", argv[0]), 2;

  dispatch<device::Cpu, Nets, Rules>(argv[1], argv[2], []<class Net, class Rule>() {
    on_all_ranks<Net>([](Net& net) {
      device::Cpu cpu;
      model::Quadratic<> model(cpu, 1000);
      data::Noise<> data(1000, 1.0f, unsigned(net.rank()));
      Trainer(net, Rule{}, cpu).run(model, data, {.steps = 300, .sgd = {.learning_rate = 0.1}});
      double variance = 0;
      for (float x : model.parameters()) variance += double(x) * x / 1000;
      if (net.rank() == 0) std::printf("%s: variance %.4f\n", Rule::name.data(), variance);
    });
  });
} catch (Error const& e) {
  return std::fprintf(stderr, "%s\n", e.what()), 2;
}
