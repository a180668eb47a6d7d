// SPDX-License-Identifier: Apache-2.0
// A run that ends halfway and goes on from its checkpoints has the same center, to the bit, as one that did not.
// run: plain
// expect: ^the same: 50000 of 50000 values$
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "elastic/checkpoints.hpp"
#include "elastic/elastic.hpp"

/// Three workers train until `steps` and keep checkpoints in `folder`; returns the center.
std::vector<float> train(std::filesystem::path const& folder, long steps, bool resume) {
  std::vector<float> center;
  elastic::transport::Threads::run(3, [&](auto& net) {
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 50000);
    elastic::data::Noise<> data(50000, 1.0f, unsigned(net.rank()));
    elastic::rule::SyncEasgd const rule{.period = 4};
    elastic::Plan plan{.steps = steps, .sgd = {.learning_rate = 0.1, .momentum = 0.9}};
    elastic::Layout const workers{net.size(), /*servers=*/0, /*testers=*/0};

    elastic::Checkpoints checkpoints({.folder = folder,
                                      .terms = elastic::checkpoint_terms(rule, plan, workers.workers()),
                                      .resume = resume,
                                      .every_steps = 20},
                                     workers, net.rank());
    elastic::Trainer trainer(net, rule, cpu);
    if (checkpoints.open(net)) checkpoints.found()->restore(model, data, trainer, plan);
    trainer.run(model, data, plan, checkpoints.saver(net, model, data));
    if (net.rank() == 0) center.assign(trainer.state("center").begin(), trainer.state("center").end());
  });
  return center;
}

int main() {
  auto const folder = std::filesystem::temp_directory_path() / "elastic-08_checkpoints";
  std::filesystem::remove_all(folder);
  auto const straight = train(folder / "straight", 100, false);
  train(folder / "halves", 50, false);
  auto const halves = train(folder / "halves", 100, true);
  std::size_t same = 0;
  for (std::size_t i = 0; i < straight.size(); ++i) same += straight[i] == halves[i] ? 1 : 0;
  std::printf("the same: %zu of %zu values\n", same, straight.size());
  std::filesystem::remove_all(folder);
}
