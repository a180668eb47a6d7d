// SPDX-License-Identifier: Apache-2.0
// Trains a classifier of small images with any rule over any transport: one binary, a role for each process.
//
//   cifar10 server & cifar10 client --index 1 & cifar10 client --index 2 & cifar10 tester
#include "../kit/program.hpp"
#include "images.hpp"

int main(int argc, char** argv) {
  return sample::guarded([&] {
    sample::Job job;
    job.job = "cifar10";
    sample::Images images;
    sample::Reading reading;
    sample::Program program(
        "Trains an image classifier on Fashion-MNIST or CIFAR-10 with BSP, synchronous or asynchronous "
        "EASGD.\n"
        "`samples/run` starts a whole job; by hand, one process for each role:\n"
        "  cifar10 server &  cifar10 client --index 1 &  cifar10 client --index 2 &  cifar10 tester",
        job,
        {.learning_rate = 0.05,
         .momentum = 0.9,
         .weight_decay = 1e-4,
         .schedule = {.decay = elastic::optimizer::Decay::polynomial, .power = 1}});
    program.add("The data and the net", images);
    program.add("How images are read", reading);
    return program.run(argc, argv, [&](sample::Job const&) { return sample::load(images, reading); });
  });
}
