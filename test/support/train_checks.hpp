// SPDX-License-Identifier: Apache-2.0
// Whether a net on a device trains by a rule, as a user's program would have it.
#pragma once

#include <vector>

#include "elastic/model/nets.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"
#include "support/catch.hpp"
#include "support/net_checks.hpp"

namespace elastic::test {

/// The same batch again and again.
struct OneBatch {
  model::Batch batch;
  model::Batch const& next() const { return batch; }
};

/// One batch is learned by heart: its loss falls to less than a tenth, and every prediction is right.
template <class Net, class Dev>
void check_trains(Dev gpu, typename Net::Options const& options) {
  model::Architecture const architecture(
      {2, 6, 6}, {model::Conv{.channels = 8, .kernel = 3}, model::BatchNorm{}, model::Relu{},
                  model::MaxPool{}, model::Linear{.outputs = 5}});
  OneBatch data{random_batch(architecture.input(), 20, 5, 3)};
  Net net(architecture, /*max_batch=*/20, /*seed=*/1, gpu, options);
  double const before = net.gradient(data.batch);
  transport::Serial link;
  Trainer trainer(link, rule::Bsp{}, gpu);
  trainer.run(net, data, {.steps = 200, .sgd = {.learning_rate = 0.05, .momentum = 0.9}});
  CHECK(net.gradient(data.batch) < before / 10);
  net.recompute_statistics(std::vector{data.batch});
  CHECK(net.evaluate(data.batch).correct == 20);
}

}  // namespace elastic::test
