// SPDX-License-Identifier: Apache-2.0
// Training steps of the nets on a GPU, as bench/gpu asks for them: a line `<net> <precision> <seconds>` on stdin, the
// seconds of one step (gradient and SGD, batch 128, which is on the GPU already) or `error: <why>` on stdout.
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "elastic/device/cuda.cuh"
#include "elastic/model/cuda_net.cuh"
#include "elastic/model/nets.hpp"
#include "elastic/ops.hpp"
#include "measure.cuh"
#include "random_batch.hpp"

namespace {

using namespace elastic;
using model::CudaNet;

constexpr int images = 128;

model::Architecture architecture(std::string const& name) {
  if (name == "easgd_cifar") return model::easgd_cifar();
  if (name == "async_easgd_cifar") return model::async_easgd_cifar();
  if (name == "alexnet") return model::alexnet();
  throw std::runtime_error("no net " + name);
}

model::Precision precision(std::string const& name) {
  for (auto const& [text, value] : names(model::Precision{}))
    if (text == name) return value;
  throw std::runtime_error("no precision " + name);
}

struct Job {
  Job(model::Architecture const& net, model::Precision precision, device::Cuda const& device)
      : model(net, images, 1, device, {.precision = precision, .graph = true}),
        batch(model.load(bench::random_batch(net, images))) {
    for (int i = 0; i < 5; ++i) step();
  }
  void step() {
    loss = model.gradient(batch);
    model.device().for_each(ops::AddScaled{-0.001}, model.parameters(), read(model.gradients()));
  }
  CudaNet model;
  CudaNet::Loaded batch;
  double loss = 0;
};

double seconds_of_a_step(Job& job, double about) {
  auto const run = [&](int steps) {
    return bench::wall([&] {
             for (int i = 0; i < steps; ++i) job.step();
             job.model.device().synchronize();
           }) /
           steps;
  };
  double const one = run(3);
  double const seconds = run(std::max(5, int(about / one)));
  if (!std::isfinite(job.loss)) throw std::runtime_error("the loss is not a number");
  return seconds;
}

}  // namespace

int main() {
  return bench::on_a_gpu([] {
    device::Cuda device;
    std::map<std::string, std::unique_ptr<Job>> jobs;
    std::string net, arithmetic;
    double about = 1;
    while (std::cin >> net >> arithmetic >> about) {
      try {
        auto& job = jobs[net + arithmetic];
        if (!job) job = std::make_unique<Job>(architecture(net), precision(arithmetic), device);
        std::cout << seconds_of_a_step(*job, about) << std::endl;
      } catch (std::exception const& failure) {
        std::cout << "error: " << failure.what() << std::endl;
      }
    }
  });
}
