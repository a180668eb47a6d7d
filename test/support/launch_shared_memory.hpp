// SPDX-License-Identifier: Apache-2.0
// Launch for the SharedMemory transport: ranks as threads of the test, or as processes.
#pragma once

#include "elastic/transport/shared_memory.hpp"
#include "support/launch.hpp"

namespace support {

/// The endpoint of rank `rank` of a small job: tests run many, and all of /dev/shm may be 64 MB.
inline auto shared_memory_maker(int size, Seconds timeout) {
  return [job = unique_name(), size, timeout](int rank) {
    return elastic::transport::SharedMemory(
        {.job = job, .rank = rank, .size = size, .timeout = timeout, .memory = std::size_t(16) << 20});
  };
}

template <>
struct Launch<elastic::transport::SharedMemory> {
  static constexpr bool exact_sums = true;
  static constexpr bool can_abort = true;
  static constexpr int max_ranks = 64;

  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return run_threads(n, shared_memory_maker(n, timeout), body);
  }
};

/// Stands for Net with every rank in a process of its own.
template <class Net>
struct Forked;

template <>
struct Launch<Forked<elastic::transport::SharedMemory>> : Launch<elastic::transport::SharedMemory> {
  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return run_processes(n, shared_memory_maker(n, timeout), body);
  }
};

}  // namespace support
