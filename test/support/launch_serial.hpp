// SPDX-License-Identifier: Apache-2.0
// Launch for the Serial transport: one rank, the caller.
#pragma once

#include "elastic/transport/serial.hpp"
#include "support/launch.hpp"

namespace support {

template <>
struct Launch<elastic::transport::Serial> {
  static constexpr bool exact_sums = true;
  static constexpr bool can_abort = true;
  static constexpr int max_ranks = 1;

  template <class Body>
  static Answers run(int, Body body, Seconds = std::chrono::seconds(60)) {
    elastic::transport::Serial net;
    return {body(net)};
  }
};

}  // namespace support
