// SPDX-License-Identifier: Apache-2.0
// Four workers in one process train by synchronous EASGD; the noise of the center is what theory says it is.
// run: plain
// expect: ^variance of the center 0\.010[345]
#include <cstdio>

#include "elastic/elastic.hpp"

int main() {
  elastic::transport::Threads::run(4, [](auto& net) {
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 50000);  // 50,000 times F(x) = x^2 / 2
    elastic::data::Noise<> data(50000, 1.0f, unsigned(net.rank()));

    elastic::Trainer trainer(net, elastic::rule::SyncEasgd{.beta = 0.9, .period = 1}, cpu);
    trainer.run(model, data, {.steps = 100, .sgd = {.learning_rate = 0.1}});

    double variance = 0;
    for (float c : trainer.state("center")) variance += double(c) * c / 50000;
    if (net.rank() == 0) std::printf("variance of the center %.5f, in theory 0.01046\n", variance);
  });
}
