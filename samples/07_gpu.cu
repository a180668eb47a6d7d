// SPDX-License-Identifier: Apache-2.0
// A worker on a GPU and a worker on the CPU share one center. Without a GPU here, the device that stands in for one.
// run: plain
// expect: ^center and workers on (cuda|thrust) and cpu agree within
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "elastic/device/cuda.cuh"
#include "elastic/device/thrust.hpp"
#include "elastic/elastic.hpp"
#include "elastic/transport/staged.hpp"

namespace {

/// This rank's part: the same for every device and for whatever transport reaches it.
template <class Net, class Dev>
float play(Net& net, Dev& device) {
  elastic::model::Quadratic<float, Dev> model(device, 50000);
  elastic::data::Noise<> data(50000, 0.1f, unsigned(net.rank()));
  std::vector<float> x(50000, 5);  // far from the optimum, which is 0
  device.upload(elastic::Span<float const>(x), model.parameters());
  elastic::Trainer trainer(net, elastic::rule::AsyncEasgd{.alpha = 0.3, .period = 10}, device);
  trainer.run(model, data, {.steps = 300, .sgd = {.learning_rate = 0.1}});
  device.download(elastic::read(model.parameters()), elastic::Span<float>(x));
  float largest = 0;
  for (float const value : x) largest = std::fmax(largest, std::fabs(value));
  return largest;
}

template <class Gpu>
void train() {
  std::vector<float> largest(3);
  elastic::transport::Threads::run(3, [&](auto& net) {
    if (net.rank() == 1) {  // a transport that reaches only host memory, wrapped for the device's
      Gpu device;
      elastic::transport::Staged staged(net, device);
      largest[1] = play(staged, device);
    } else {
      elastic::device::Cpu cpu;
      largest[std::size_t(net.rank())] = play(net, cpu);
    }
  });
  std::printf("center and workers on %s and cpu agree within %.1f\n", std::string(Gpu::name).c_str(),
              double(std::fmax(largest[0], std::fmax(largest[1], largest[2]))));
}

}  // namespace

int main() {
  elastic::device::Cuda::count() > 0 ? train<elastic::device::Cuda>() : train<elastic::device::Thrust>();
}
