// SPDX-License-Identifier: Apache-2.0
// For tests of the TCP transport: a peer made by hand, byte for byte, and ranks in processes of their own.
#pragma once

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "elastic/transport/tcp.hpp"

namespace support {

using elastic::transport::Tcp;
using elastic::transport::TcpOptions;
namespace wire = elastic::transport::detail;
namespace asio = boost::asio;

inline TcpOptions options(int rank, int size, std::uint16_t port) {
  return {.port = port, .rank = rank, .size = size, .timeout = std::chrono::seconds(20)};
}

/// A blocking connection that keeps trying until somebody listens, for 20 s at most.
inline asio::ip::tcp::socket knock(asio::io_context& io, std::uint16_t port) {
  auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (;;) {
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("nobody listens");
    asio::ip::tcp::socket socket(io);
    boost::system::error_code error;
    socket.connect({asio::ip::make_address("127.0.0.1"), port}, error);
    if (!error) return socket;
    std::this_thread::yield();
  }
}

template <class T>
void put(asio::ip::tcp::socket& socket, T const& value) {
  asio::write(socket, asio::buffer(&value, sizeof value));
}
template <class T>
T get(asio::ip::tcp::socket& socket) {
  T value;
  asio::read(socket, asio::buffer(&value, sizeof value));
  return value;
}

inline wire::Hello hello(int rank, int size, std::string const& job = "elastic") {
  wire::Hello h;
  h.rank = rank;
  h.size = size;
  h.port = 1;
  wire::put_text(h.job, job);
  return h;
}

/// Shakes hands like a rank without a secret and returns why it was refused.
inline std::string shake(asio::ip::tcp::socket& socket, wire::Hello const& h) {
  put(socket, h);
  get<wire::Hello>(socket);
  put(socket, wire::Bytes32{});
  return wire::get_text(get<wire::Verdict>(socket).reason);
}

/// Joins a job of two as rank 1, by hand.
inline asio::ip::tcp::socket join_by_hand(asio::io_context& io, std::uint16_t port) {
  auto socket = knock(io, port);
  if (auto const reason = shake(socket, hello(1, 2)); !reason.empty()) throw std::runtime_error(reason);
  wire::Address mine;
  wire::put_text(mine.host, "127.0.0.1");
  mine.port = 1;
  put(socket, mine);
  get<std::array<wire::Address, 2>>(socket);
  return socket;
}

struct EnvironmentVariable {
  EnvironmentVariable(char const* variable, std::string const& value) : name(variable) {
    setenv(name, value.c_str(), 1);
  }
  ~EnvironmentVariable() { unsetenv(name); }
  char const* name;
};

/// Runs a rank and ends this process, with status 0 if `body` returns true.
[[noreturn]] inline void be_rank(TcpOptions const& mine, std::function<bool(Tcp&)> const& body) {
  int status = 1;
  try {
    Tcp net(mine);
    if (body(net)) status = 0;
  } catch (...) {
    status = 2;
  }
  _exit(status);
}

/// A rank in a process of its own.
inline pid_t fork_rank(TcpOptions const& mine, std::function<bool(Tcp&)> const& body) {
  pid_t const child = fork();
  if (child == 0) be_rank(mine, body);
  return child;
}

/// The same, but it joins only when it is told to: processes are forked before this one starts threads.
class Understudy {
 public:
  Understudy(TcpOptions const& mine, std::function<bool(Tcp&)> const& body) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[1]);
      char go;
      if (read(ends[0], &go, 1) != 1) _exit(3);  // the test has ended
      be_rank(mine, body);
    }
    close(ends[0]);
    go_ = ends[1];
  }
  ~Understudy() { close(go_); }
  Understudy(Understudy const&) = delete;
  Understudy& operator=(Understudy const&) = delete;

  pid_t start() {
    if (write(go_, "g", 1) != 1) throw std::runtime_error("write");
    return pid_;
  }

 private:
  pid_t pid_;
  int go_;
};

inline int status_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace support
