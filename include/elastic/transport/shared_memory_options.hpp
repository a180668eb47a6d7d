// SPDX-License-Identifier: Apache-2.0
// What a rank must know to join a job in shared memory. Apart from shared_memory.hpp so that a command line
// can fill it without the transport.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace elastic::transport {

/// How one rank finds the others on its machine; `job` and `size` are the same on every rank.
struct SharedMemoryOptions {
  /// Names the job among this user's: 1 to 100 letters, digits, '.', '_' and '-'.
  std::string job;
  int rank = 0;
  int size = 1;
  /// The longest any call blocks, joining included; above zero.
  std::chrono::duration<double> timeout = std::chrono::seconds(60);
  /// Bytes of /dev/shm for message rings and collectives, at most, as long as that leaves 4 KiB for each;
  /// rank 0 decides. Less means smaller pieces and slower bulk transfers.
  std::size_t memory = std::size_t(128) << 20;
  /// Ranks other than 0 come, go and are replaced while the job runs, which ends with rank 0; `size` is the
  /// number of places. There are no collectives then. The same on every rank.
  bool elastic = false;
};

}  // namespace elastic::transport
