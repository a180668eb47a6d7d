// SPDX-License-Identifier: Apache-2.0
// A server program that asks for a gradient: a server has none.
// expect: no member named
#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/threads.hpp"

namespace {

struct Confused : elastic::rule::AsyncEasgd {
  void server(auto& s) const { s.compute_gradient(); }
};

}  // namespace

void refused(elastic::transport::Threads& net, elastic::device::Cpu& cpu, elastic::model::Quadratic<>& model,
             elastic::data::Noise<>& noise) {
  elastic::Trainer(net, Confused{}, cpu).run(model, noise, {});
}
