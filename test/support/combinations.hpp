// SPDX-License-Identifier: Apache-2.0
// The lists that Transport x SyncRule x Device is made from, wherever all of it is gone through: the test matrix and
// the benches of rules. A rule that is added here is tested and measured.
#pragma once

#include <string>

#include "elastic/compose.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/dispatch.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/transport/staged.hpp"

namespace matrix {

using namespace elastic;

using Rules = Types<rule::Bsp, rule::SyncEasgd, rule::AsyncEasgd>;
using Devices = Types<device::Cpu>;

/// The transport as a device needs it.
template <class Net, class Dev, bool staged = !Reaches<Net, typename Dev::memory>>
struct ReachingOf {
  using type = Net;
};
template <class Net, class Dev>
struct ReachingOf<Net, Dev, true> {
  using type = transport::Staged<Net, Dev>;
};
template <class Net, class Dev>
using Reaching = typename ReachingOf<Net, Dev>::type;

}  // namespace matrix
