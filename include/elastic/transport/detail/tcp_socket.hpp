// SPDX-License-Identifier: Apache-2.0
// Boost.Asio sockets as the handshake needs them: tuned, described in words, and never waiting past a
// deadline.
#pragma once

#include "elastic/transport/detail/asio_config.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace elastic::transport::detail {

namespace asio = boost::asio;
using boost::system::error_code;
using Socket = asio::ip::tcp::socket;
using Endpoint = asio::ip::tcp::endpoint;
using Clock = std::chrono::steady_clock;

/// "host:port", with brackets around an IPv6 address.
inline std::string describe(std::string const& host, unsigned port) {
  bool const v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}
inline std::string describe(Endpoint const& end) { return describe(end.address().to_string(), end.port()); }

/// No delay for small messages, and a vanished host noticed within about `timeout`. An option that a system
/// lacks is not missed: every wait has its own deadline.
inline void tune(Socket& socket, std::chrono::duration<double> timeout) {
  error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  auto const set = [&](int option, int value) {
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof value);
  };
  double const seconds = std::clamp(timeout.count(), 1.0, 3600.0);
  set(TCP_USER_TIMEOUT, static_cast<int>(seconds * 1000));
  set(TCP_KEEPIDLE, static_cast<int>(std::max(1.0, seconds / 4)));
  set(TCP_KEEPINTVL, static_cast<int>(std::max(1.0, seconds / 8)));
  set(TCP_KEEPCNT, 6);
}

/// Whether the other side has neither closed nor broken the connection.
inline bool alive(Socket const& socket) {
  ::pollfd state{const_cast<Socket&>(socket).native_handle(), POLLRDHUP, 0};
  return ::poll(&state, 1, 0) == 0;
}

/// Seconds from a byte to its acknowledgment, as the kernel has seen them so far; 0 if it does not say.
inline double round_trip(Socket const& socket) {
  ::tcp_info info{};
  ::socklen_t size = sizeof info;
  int const fd = const_cast<Socket&>(socket).native_handle();
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? 1e-6 * info.tcpi_rtt : 0;
}

/// Runs one asynchronous operation on `socket` to its end; closes the socket at the deadline.
template <class Start>
error_code run_until(asio::io_context& io, Socket& socket, Clock::time_point deadline, Start start) {
  std::optional<error_code> result;
  start([&result](error_code error, auto&&...) { result = error; });
  io.restart();
  while (!result && io.run_one_until(deadline) != 0) {
  }
  if (result) return *result;
  error_code ignored;
  socket.close(ignored);
  io.restart();
  while (!result) io.run_one();  // the cancelled handler still refers to this frame
  return asio::error::timed_out;
}

inline error_code connect_until(asio::io_context& io, Socket& socket, Endpoint const& end,
                                Clock::time_point deadline) {
  return run_until(io, socket, deadline, [&](auto done) { socket.async_connect(end, done); });
}

}  // namespace elastic::transport::detail
