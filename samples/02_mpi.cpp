// SPDX-License-Identifier: Apache-2.0
// The same program over MPI: one include and one line differ.     mpirun -n 4 ./02_mpi
// needs: mpi
// run: mpirun 1
// run: mpirun 3
// expect: ^loss of the last batch 0\.0
#include <cstdio>

#include "elastic/elastic.hpp"
#include "elastic/transport/mpi.hpp"

int main(int argc, char** argv) {
  elastic::transport::Mpi net(argc, argv);
  elastic::device::Cpu cpu;
  elastic::model::Quadratic<> model(cpu, 50000);
  elastic::data::Noise<> data(50000, 1.0f, unsigned(net.rank()));

  elastic::Trainer trainer(net, elastic::rule::SyncEasgd{.beta = 0.9, .period = 1}, cpu);
  auto report = trainer.run(model, data, {.steps = 100, .sgd = {.learning_rate = 0.1}},
                            [](elastic::event::Step const& step) {
                              if (step.rank == 0 && step.step % 20 == 0)
                                std::printf("step %2ld  loss %.4f\n", step.step, step.loss);
                            });
  if (net.rank() == 0) std::printf("loss of the last batch %.4f\n", report.loss);
}
