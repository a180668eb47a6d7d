// SPDX-License-Identifier: Apache-2.0
// What a link reads from and writes to: a non-blocking socket, as it is or under TLS.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "elastic/transport/detail/tcp_socket.hpp"
#include "elastic/transport/detail/tcp_tls.hpp"

namespace elastic::transport::detail {

class Channel {
 public:
  explicit Channel(asio::io_context& io) : socket_(io) {}
  explicit Channel(Socket socket) : socket_(std::move(socket)) { unblock(); }

  Socket& socket() { return socket_; }
  Socket const& socket() const { return socket_; }

  /// To be called once it is connected: from now on no call waits.
  void unblock() {
    error_code ignored;
    socket_.non_blocking(true, ignored);
  }

  /// From now on everything is encrypted; `shake` comes first.
  void secure(TlsKey const& key, bool accepts) { tls_ = std::make_unique<Tls>(key, accepts); }
  error_code shake() { return tls_->shake(socket_); }

  /// The same connection, on another io_context.
  Channel on(asio::io_context& io) && {
    auto const protocol = socket_.local_endpoint().protocol();
    Channel moved(Socket(io, protocol, socket_.release()));
    moved.tls_ = std::move(tls_);
    return moved;
  }

  /// Like those of a socket; would_block: come back when it is readable, or writable.
  template <class Buffers>
  std::size_t read_some(Buffers const& buffers, error_code& error) {
    return tls_ ? tls_->read_some(socket_, buffers, error) : socket_.read_some(buffers, error);
  }
  template <class Buffers>
  std::size_t write_some(Buffers const& buffers, error_code& error) {
    return tls_ ? tls_->write_some(socket_, buffers, error) : socket_.write_some(buffers, error);
  }
  /// Writes what TLS holds back.
  error_code flush() { return tls_ ? tls_->flush(socket_) : error_code{}; }
  /// TLS holds bytes that the socket has not taken, or that it has given and nobody has read.
  bool unsent() const { return tls_ && tls_->unsent(); }
  bool pending() const { return tls_ && tls_->pending(); }

  /// The latter only, as something to read from.
  struct Rest {
    Tls& tls;
    template <class Buffers>
    std::size_t read_some(Buffers const& buffers, error_code& error) {
      return tls.take_some(buffers, error);
    }
  };
  Rest rest() { return {*tls_}; }

  void close() {
    error_code ignored;
    if (socket_.is_open()) socket_.close(ignored);
  }

 private:
  Socket socket_;
  std::unique_ptr<Tls> tls_;
};

/// A part of a fixed-size record that moves in steps; a step says nothing when it is done, would_block, or why not.
inline auto reading(Channel& channel, void* to, std::size_t size) {
  return [&channel, rest = asio::mutable_buffer(to, size)]() mutable {
    error_code error;
    while (rest.size() > 0 && !error) rest += channel.read_some(asio::mutable_buffers_1(rest), error);
    return error;
  };
}
inline auto writing(Channel& channel, void const* from, std::size_t size) {
  return [&channel, rest = asio::const_buffer(from, size)]() mutable {
    error_code error;
    while (rest.size() > 0 && !error) rest += channel.write_some(asio::const_buffers_1(rest), error);
    return error ? error : channel.flush();
  };
}

/// Where a step that would block has to wait.
inline auto waits_for(Channel const& channel, bool writes) {
  return writes || channel.unsent() ? Socket::wait_write : Socket::wait_read;
}

/// Takes steps until they are done; closes the channel at the deadline.
template <class Step>
error_code finish_until(asio::io_context& io, Channel& channel, Clock::time_point deadline, bool writes,
                        Step step) {
  for (;;) {
    error_code error = step();
    if (error != asio::error::would_block) return error;
    error = run_until(io, channel.socket(), deadline,
                      [&](auto done) { channel.socket().async_wait(waits_for(channel, writes), done); });
    if (error) return error;
  }
}

template <class T>
error_code read_until(asio::io_context& io, Channel& channel, T* to, std::size_t count,
                      Clock::time_point deadline) {
  return finish_until(io, channel, deadline, false, reading(channel, to, count * sizeof(T)));
}

template <class T>
error_code write_until(asio::io_context& io, Channel& channel, T const* from, std::size_t count,
                       Clock::time_point deadline) {
  return finish_until(io, channel, deadline, true, writing(channel, from, count * sizeof(T)));
}

}  // namespace elastic::transport::detail
