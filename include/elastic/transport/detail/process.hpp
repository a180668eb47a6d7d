// SPDX-License-Identifier: Apache-2.0
// Is that process still the one I met, and does it still run? The question behind every PeerLost of the
// shared-memory transport.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace elastic::transport::detail {

/// A process that cannot be taken for a later one with the same number.
struct ProcessId {
  std::int32_t pid = 0;
  std::uint64_t started = 0;  // clock ticks since boot
};

/// When process `pid` started, in clock ticks since boot; 0 if there is none or it has ended. A zombie counts
/// as ended: its parent may take any time to collect it. Source: proc(5), fields 3 and 22 of /proc/PID/stat.
inline std::uint64_t start_time(std::int32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return 0;
  auto const name_ends = line.rfind(')');  // a process may have spaces and parentheses in its name
  if (name_ends == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_ends + 1));
  char state = 0;
  fields >> state;
  if (state == 'Z' || state == 'X') return 0;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  std::uint64_t started = 0;
  fields >> started;
  return started;
}

inline ProcessId this_process() {
  auto const pid = static_cast<std::int32_t>(::getpid());
  return {pid, start_time(pid)};
}

inline bool alive(ProcessId process) {
  return process.started != 0 && start_time(process.pid) == process.started;
}

}  // namespace elastic::transport::detail
