// SPDX-License-Identifier: Apache-2.0
// How files of a run name the process that wrote them.
#pragma once

#include <unistd.h>

#include <array>
#include <chrono>
#include <string>

namespace elastic::observer::detail {

inline std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// Seconds since 1970.
inline double unix_time(std::chrono::system_clock::time_point when = std::chrono::system_clock::now()) {
  return std::chrono::duration<double>(when.time_since_epoch()).count();
}

}  // namespace elastic::observer::detail
