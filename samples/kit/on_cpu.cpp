// SPDX-License-Identifier: Apache-2.0
// Parts that are played on the CPU.
#include <memory_resource>

#include "elastic/device/cpu.hpp"
#include "elastic/model/convnet.hpp"
#include "play.hpp"

namespace sample {

struct OnCpu {
  /// Where ranks share memory, vectors live there, so that sums need no copies.
  template <class Net>
  static elastic::device::Cpu device([[maybe_unused]] Net& net, Part const& part) {
    int const threads = part.compute.threads;
    if constexpr (requires { net.resident(); }) return elastic::device::Cpu(net.resident(), threads);
    return elastic::device::Cpu(*std::pmr::new_delete_resource(), threads);
  }
  static elastic::model::Convnet model(elastic::model::Architecture architecture, int max_batch,
                                       elastic::device::Cpu device, Part const& part) {
    return {std::move(architecture), max_batch, std::uint64_t(part.job.seed), device};
  }
};

template <class Net, class Rule>
bool play_on_cpu(Net& net, Rule const& rule, Part const& part) {
  return play<OnCpu>(net, rule, part);
}
SAMPLE_PLAY_BETWEEN_PROCESSES(play_on_cpu)
SAMPLE_PLAY_OVER(play_on_cpu, transport::Threads)
template bool play_on_cpu(transport::Serial&, elastic::rule::SyncEasgd const&, Part const&);
template bool play_on_cpu(transport::Serial&, elastic::rule::Bsp const&, Part const&);

}  // namespace sample
