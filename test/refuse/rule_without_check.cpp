// SPDX-License-Identifier: Apache-2.0
// A rule that cannot say which options do not work.
// expect: elastic: the second policy does not model elastic::SyncRule (compose.hpp).
#include <tuple>

#include "elastic/device/cpu.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"

namespace {

struct Unchecked {
  static constexpr std::string_view name = "unchecked";
  static constexpr elastic::Needs needs = elastic::Needs::collective;
  static constexpr std::tuple<> options{};
  void worker(auto&) const {}
};

}  // namespace

void refused(elastic::transport::Serial& net, elastic::device::Cpu& cpu) {
  elastic::Trainer trainer(net, Unchecked{}, cpu);
}
