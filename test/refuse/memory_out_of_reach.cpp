// SPDX-License-Identifier: Apache-2.0
// A device whose memory the transport cannot read.
// expect: elastic: this Transport cannot read this Device's memory; wrap it in transport::Staged.
#include "elastic/device/cpu.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/threads.hpp"

namespace {

struct Far {
  static constexpr std::string_view name = "far";
  using memory = elastic::memory::Cuda;
  template <class T>
  struct Buffer {
    elastic::Span<T, memory> span() const { return {}; }
  };
  template <class T>
  Buffer<T> allocate(std::size_t) {
    return {};
  }
  void copy(auto, auto) {}
  void download(auto, auto) {}
  void upload(auto, auto) {}
  void for_each(auto, auto...) {}
  bool within(auto, double) { return true; }
  void exchange(auto...) {}
  std::uint32_t refused() { return 0; }
  void synchronize() {}
};

}  // namespace

void refused(elastic::transport::Threads& net, Far& far) {
  elastic::Trainer trainer(net, elastic::rule::SyncEasgd{}, far);
}
