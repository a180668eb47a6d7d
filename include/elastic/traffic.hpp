// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace elastic {

/// What one rank's transport has moved so far: payload bytes and messages, without any framing of the wire.
struct Traffic {
  std::uint64_t sent_bytes = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t sent_messages = 0;
  std::uint64_t received_messages = 0;
};

}  // namespace elastic
