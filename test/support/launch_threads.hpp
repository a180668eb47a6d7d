// SPDX-License-Identifier: Apache-2.0
// Launch for the Threads transport.
#pragma once

#include "elastic/transport/threads.hpp"
#include "support/launch.hpp"

namespace support {

template <>
struct Launch<elastic::transport::Threads> {
  static constexpr bool exact_sums = true;
  static constexpr bool can_abort = true;
  static constexpr int max_ranks = 64;

  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    Answers answers(static_cast<std::size_t>(n));
    elastic::transport::Threads::run(
        n, [&](auto& net) { answers[static_cast<std::size_t>(net.rank())] = body(net); }, {timeout});
    return answers;
  }
};

}  // namespace support
