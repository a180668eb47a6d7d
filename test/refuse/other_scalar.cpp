// SPDX-License-Identifier: Apache-2.0
// A model in double under a trainer in float.
// expect: elastic: the model's scalar and device are not the Trainer's; name them: Trainer<Net, Rule, Dev,
// T>.
#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::model::Quadratic<double> model(cpu, 4);
  elastic::data::Noise<double> data(4, 1.0, 1);
  elastic::Trainer(net, elastic::rule::SyncEasgd{}, cpu).run(model, data, {});
}
