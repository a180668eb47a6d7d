// SPDX-License-Identifier: Apache-2.0
// A port for a job over TCP on one machine, for tests and launchers.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"

namespace elastic::transport {

/// A port of `address` that was free a moment ago, for a job on one machine.
inline std::uint16_t free_port(std::string const& address = "127.0.0.1") {
  std::random_device random;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    auto const port =
        static_cast<std::uint16_t>(20000 + random() % 12000);  // below Linux's ports for clients
    detail::asio::io_context io;
    detail::asio::ip::tcp::acceptor acceptor(io);
    boost::system::error_code taken;
    detail::asio::ip::tcp::endpoint const endpoint(detail::asio::ip::make_address(address), port);
    acceptor.open(endpoint.protocol());
    acceptor.bind(endpoint, taken);
    if (!taken) return port;
  }
  throw Error("no free port on " + address + " between 20000 and 31999");
}

}  // namespace elastic::transport
