// SPDX-License-Identifier: Apache-2.0
// Your model, in any framework, is two flat vectors and a gradient: here logistic regression, written by
// hand.
// run: plain
// expect: ^error 0\.0[0-9]*$
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "elastic/elastic.hpp"

struct Example {
  float x[2];
  bool positive;
};

/// elastic::Trainable: a scalar, a device, a batch, parameters(), gradients(), and gradient(batch).
struct Logistic {
  using scalar = float;
  using device_type = elastic::device::Cpu;
  using batch = std::vector<Example>;
  elastic::device::Cpu cpu;
  std::vector<float> w = {0, 0, 0}, g = {0, 0, 0};

  elastic::device::Cpu& device() { return cpu; }
  elastic::Span<float> parameters() { return w; }
  elastic::Span<float> gradients() { return g; }
  float score(Example const& e) const { return w[0] * e.x[0] + w[1] * e.x[1] + w[2]; }

  double gradient(batch const& examples) {
    double loss = 0;
    g.assign(3, 0);
    for (Example const& e : examples) {
      float const p = 1 / (1 + std::exp(-score(e))), error = (p - float(e.positive)) / float(examples.size());
      g[0] += error * e.x[0], g[1] += error * e.x[1], g[2] += error;
      loss -= std::log(e.positive ? p : 1 - p) / double(examples.size());
    }
    return loss;
  }
};

/// elastic::DataSource: points of the plane, positive above the line x0 + 2 x1 = 1.
struct Points {
  std::mt19937 random;
  std::vector<Example> batch = std::vector<Example>(64);
  std::vector<Example> const& next() {
    std::normal_distribution<float> normal;
    for (Example& e : batch) {
      e.x[0] = normal(random), e.x[1] = normal(random);
      e.positive = e.x[0] + 2 * e.x[1] > 1;
    }
    return batch;
  }
};

int main() {
  elastic::transport::Threads::run(3, [](auto& net) {  // a server and two workers
    Logistic model;
    Points data{std::mt19937(unsigned(net.rank()))};
    elastic::Trainer trainer(net, elastic::rule::AsyncEasgd{.period = 4}, model.cpu);
    trainer.run(model, data, {.steps = 1000, .sgd = {.learning_rate = 0.5, .momentum = 0.9}});
    if (net.rank() != 0) return;
    int wrong = 0, seen = 0;
    for (int k = 0; k < 50; ++k)
      for (Example const& e : data.next()) wrong += (model.score(e) > 0) != e.positive, ++seen;
    std::printf("error %.4f\n", double(wrong) / seen);
  });
}
