// SPDX-License-Identifier: Apache-2.0
// Asynchronous EASGD between processes: a server, two workers, and a tester that looks at the center now and
// then.
// run: plain
// expect: ^the server's center moved 40 times
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "elastic/elastic.hpp"
#include "elastic/transport/shared_memory.hpp"

int main() {
  int rank = 0;  // this process is the server; its children are ranks 1, 2 (workers) and 3 (tester)
  for (int child = 1; child < 4 && rank == 0; ++child)
    if (fork() == 0) rank = child;

  {
    elastic::transport::SharedMemory net({.job = "sample-03", .rank = rank, .size = 4});
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 1000);
    elastic::data::Noise<> data(1000, 1.0f, unsigned(rank));
    for (float& x : model.parameters()) x = 5;  // far from the optimum

    elastic::Trainer trainer(net, elastic::rule::AsyncEasgd{.alpha = 0.3, .period = 10}, cpu);
    elastic::Plan plan{.steps = 200, .sgd = {.learning_rate = 0.1}, .testers = 1, .test_every = 0.01};
    auto report = trainer.run(model, data, plan, [&](elastic::event::Snapshot const& snapshot) {
      if (snapshot.last)
        std::printf("the tester's last center is at %.1f\n", double(model.parameters()[0])),
            std::fflush(stdout);
    });
    if (rank != 0) return 0;
    while (wait(nullptr) > 0) continue;
    std::printf("the server's center moved %s times\n", std::to_string(report.exchanges).c_str());
  }
}
