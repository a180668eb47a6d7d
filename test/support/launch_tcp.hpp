// SPDX-License-Identifier: Apache-2.0
// Launch for the Tcp transport: ranks as threads of the test, or as processes.
#pragma once

#include "elastic/transport/tcp.hpp"
#include "support/launch.hpp"

namespace support {

inline auto tcp_maker(int size, Seconds timeout) {
  return [port = elastic::transport::free_port(), size, timeout](int rank) {
    return elastic::transport::Tcp({.port = port, .rank = rank, .size = size, .timeout = timeout});
  };
}

template <>
struct Launch<elastic::transport::Tcp> {
  static constexpr bool exact_sums = true;
  static constexpr bool can_abort = true;
  static constexpr int max_ranks = 16;
  /// Such sums go whole to everybody, which is more bytes and less waiting.
  static constexpr bool sums_whole(std::size_t bytes, int ranks) {
    return elastic::transport::detail::sums_whole(bytes, ranks);
  }

  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return run_threads(n, tcp_maker(n, timeout), body);
  }
};

/// Stands for Tcp with every rank in a process of its own.
struct TcpProcesses;

template <>
struct Launch<TcpProcesses> : Launch<elastic::transport::Tcp> {
  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return run_processes(n, tcp_maker(n, timeout), body);
  }
};

}  // namespace support
