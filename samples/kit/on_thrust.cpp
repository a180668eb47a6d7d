// SPDX-License-Identifier: Apache-2.0
// Parts that are played as on a GPU, by the CPU.
#include "elastic/device/thrust.hpp"
#include "elastic/model/detail/host_kit.hpp"
#include "elastic/model/device_net.hpp"
#include "play.hpp"

namespace sample {

struct OnThrust {
  using Model = elastic::model::DeviceNet<elastic::device::Thrust, elastic::model::detail::HostKit>;
  template <class Net>
  static elastic::device::Thrust device(Net&, Part const&) {
    return {};
  }
  static Model model(elastic::model::Architecture architecture, int max_batch, elastic::device::Thrust device,
                     Part const& part) {
    return {std::move(architecture), max_batch, std::uint64_t(part.job.seed), device, part.compute.net};
  }
};

template <class Net, class Rule>
bool play_on_thrust(Net& net, Rule const& rule, Part const& part) {
  return play<OnThrust>(net, rule, part);
}
SAMPLE_PLAY_BETWEEN_PROCESSES(play_on_thrust)

}  // namespace sample
