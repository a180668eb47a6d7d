// SPDX-License-Identifier: Apache-2.0
// A callable that no event fits.
// expect: elastic: an observer must be callable with at least one elastic::event.
#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::model::Quadratic<float> model(cpu, 4);
  elastic::data::Noise<float> data(4, 1.0f, 1);
  elastic::Trainer(net, elastic::rule::SyncEasgd{}, cpu).run(model, data, {}, [](char const*) {});
}
