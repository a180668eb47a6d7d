// SPDX-License-Identifier: Apache-2.0
// What a project outside the tree does first: train over threads with what elastic.hpp alone brings.
#include <cstdio>

#include "elastic/elastic.hpp"
#include "elastic/version.hpp"

int main() {
  double error = 1e9;
  elastic::transport::Threads::run(3, [&](elastic::transport::Threads& net) {
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<float> model(cpu, 8);
    for (float& x : model.parameters()) x = 5;
    elastic::data::Noise<float> data(8, 0.0f, 1);
    elastic::Plan plan;
    plan.steps = 1000;
    plan.sgd.learning_rate = 0.1;
    elastic::Trainer trainer(net, elastic::rule::SyncEasgd{.period = 2}, cpu);
    trainer.run(model, data, plan);
    if (net.rank() == 0) error = double(trainer.state("center")[0]);
  });
  std::printf("elastic %d.%d: the center is %g from the optimum\n", elastic::library_version.major,
              elastic::library_version.minor, error);
  return error < 1e-3 ? 0 : 1;
}
