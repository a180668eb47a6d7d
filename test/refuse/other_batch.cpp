// SPDX-License-Identifier: Apache-2.0
// Data whose batches the model does not take.
// expect: elastic: the data does not model elastic::DataSource: next() must return the model's batch
// (concepts.hpp).
#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::model::Quadratic<float> model(cpu, 4);
  elastic::data::Noise<double> data(4, 1.0, 1);
  elastic::Trainer(net, elastic::rule::SyncEasgd{}, cpu).run(model, data, {});
}
