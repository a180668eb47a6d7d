// SPDX-License-Identifier: Apache-2.0
// Trains AlexNet on photographs with any rule over any transport: one binary, a role for each process.
//
//   imagenet client --index 1 --clients 2 --data DIR &  imagenet client --index 2 --clients 2 --data DIR
#include <string_view>

#include "../kit/program.hpp"
#include "photographs.hpp"
#include "prepare.hpp"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "prepare") return sample::prepare(argc - 1, argv + 1);
  return sample::guarded([&] {
    sample::Job job;
    job.rule = "bsp";
    job.transport = "shared_memory";
    job.job = "imagenet";
    job.testers = 0;
    job.batch = 128;
    job.epochs = 70;
    job.validate_every = 1;
    job.train_images = 5000;
    sample::Photographs photographs;
    sample::Reading reading;
    reading.normalize = elastic::data::Normalize::mean_image;
    sample::Program program(
        "Trains AlexNet on photographs with BSP, synchronous or asynchronous EASGD.\n"
        "One process for each role; here two workers that sum their gradients in shared memory:\n"
        "  imagenet client --index 1 --data DIR &  imagenet client --index 2 --data DIR\n"
        "Photographs that are decoded once and for all train faster: imagenet prepare --help",
        job,
        {.learning_rate = 0.01,
         .momentum = 0.9,
         .momentum_kind = elastic::optimizer::Momentum::heavy_ball,
         .weight_decay = 5e-4,
         .bias_rate = 2,
         .schedule = {.decay = elastic::optimizer::Decay::step, .decay_epochs = {20, 40, 60}}});
    program.add("The data and the net", photographs);
    program.add("How images are read", reading);
    return program.run(argc, argv, [&](sample::Job const&) { return sample::load(photographs, reading); });
  });
}
