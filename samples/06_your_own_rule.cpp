// SPDX-License-Identifier: Apache-2.0
// A rule of your own, in your own file, over every transport that has what it needs: here SlowMo (Wang et al.
// 2020), local SGD whose average takes a heavy-ball step of its own.
// run: plain
// expect: ^variance of the center 0\.0
#include <cstdio>

#include "elastic/elastic.hpp"

struct SlowMo {
  static constexpr std::string_view name = "slow_mo";
  static constexpr elastic::Needs needs = elastic::Needs::collective;

  double momentum = 0.5;
  long period = 10;
  static constexpr auto options =
      std::tuple{elastic::Option{"momentum", &SlowMo::momentum, "of the outer step", 0.0, 1.0},
                 elastic::Option{"period", &SlowMo::period, "local steps per average", 1.0}};
  void check(int) const { elastic::check_options(*this); }

  void worker(auto& w) const {
    auto x = w.parameters();
    auto center = w.state("center", x);
    auto u = w.allocate(x.size());
    while (w.next_step()) {
      w.compute_gradient();
      w.apply_gradient();
      if ((w.step() + 1) % period != 0) continue;
      w.all_reduce(x);
      w.for_each(elastic::ops::Scale{1.0 / w.workers()}, x);
      w.for_each(elastic::ops::Subtract{}, x, elastic::read(center));  // x = mean - c
      w.for_each(elastic::ops::Scale{momentum}, u.span());             // u = m u + (mean - c)
      w.for_each(elastic::ops::Add{}, u.span(), elastic::read(x));
      w.for_each(elastic::ops::Add{}, center, elastic::read(u.span()));  // c = c + u
      w.copy(center, x);
      w.publish(center);
    }
  }
};

int main() {
  elastic::transport::Threads::run(4, [](auto& net) {
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 10000);
    elastic::data::Noise<> data(10000, 1.0f, unsigned(net.rank()));
    elastic::Trainer trainer(net, SlowMo{}, cpu);
    trainer.run(model, data, {.steps = 300, .sgd = {.learning_rate = 0.1}});
    double variance = 0;
    for (float c : trainer.state("center")) variance += double(c) * c / 10000;
    if (net.rank() == 0) std::printf("variance of the center %.5f\n", variance);
  });
}
