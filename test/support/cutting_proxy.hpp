// SPDX-License-Identifier: Apache-2.0
// A TCP relay on loopback that cuts the connections it carries after so many bytes, in the middle of whatever
// is on its way.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace support {

/// Listens on a port of its own and relays to `target`. Connection `i` (from 0) is cut, hard (RST) or soft
/// (FIN), when `limit(i)` bytes have passed in both directions together.
class CuttingProxy {
 public:
  using Limit = std::function<std::uint64_t(int)>;

  CuttingProxy(std::uint16_t target, Limit limit)
      : target_(target), limit_(std::move(limit)), door_(listen()) {
    thread_ = std::jthread([this](std::stop_token stop) { serve(stop); });
  }
  ~CuttingProxy() {
    thread_.request_stop();
    thread_.join();
    ::close(door_);
  }
  std::uint16_t port() const { return port_; }
  int cuts() const { return cuts_; }

 private:
  struct Pipe {
    int a, b;
    std::uint64_t left;
    bool hard;
  };

  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  int listen() {
    int const door = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    if (door < 0 || ::bind(door, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::listen(door, 64) != 0 || ::getsockname(door, reinterpret_cast<sockaddr*>(&address), &length) != 0)
      throw std::runtime_error("no port for a proxy");
    port_ = ntohs(address.sin_port);
    return door;
  }

  void serve(std::stop_token const& stop) {
    std::list<Pipe> pipes;
    while (!stop.stop_requested()) {
      std::vector<pollfd> wanted{{door_, POLLIN, 0}};
      for (Pipe const& p : pipes) {
        wanted.push_back({p.a, POLLIN, 0});
        wanted.push_back({p.b, POLLIN, 0});
      }
      ::poll(wanted.data(), nfds_t(wanted.size()), 20);
      std::size_t at = 1;
      for (auto p = pipes.begin(); p != pipes.end(); at += 2) {
        bool const alive = (wanted[at].revents == 0 || relay(p->a, p->b, *p)) &&
                           (wanted[at + 1].revents == 0 || relay(p->b, p->a, *p));
        if (alive) {
          ++p;
          continue;
        }
        end(*p);
        p = pipes.erase(p);
      }
      if (wanted[0].revents != 0) {
        int const visitor = ::accept(door_, nullptr, nullptr);
        int const onward = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in const address = loopback(target_);
        if (::connect(onward, reinterpret_cast<sockaddr const*>(&address), sizeof address) != 0) {
          ::close(visitor);
          ::close(onward);
        } else {
          int const yes = 1;
          for (int const socket : {visitor, onward})
            ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
          pipes.push_back({visitor, onward, limit_(accepted_), accepted_ % 2 == 0});
          ++accepted_;
        }
      }
    }
    for (Pipe const& p : pipes) end(p);
  }
  bool relay(int from, int to, Pipe& pipe) {
    std::array<char, 16384> buffer;
    ssize_t const got = ::recv(from, buffer.data(), std::min<std::uint64_t>(buffer.size(), pipe.left), 0);
    if (got <= 0) return false;
    pipe.left -= std::uint64_t(got);
    for (ssize_t sent = 0; sent < got;) {
      ssize_t const count = ::send(to, buffer.data() + sent, std::size_t(got - sent), MSG_NOSIGNAL);
      if (count <= 0) return false;
      sent += count;
    }
    if (pipe.left > 0) return true;
    ++cuts_;
    return false;
  }
  static void end(Pipe const& pipe) {
    linger const now{1, 0};
    for (int const socket : {pipe.a, pipe.b}) {
      if (pipe.hard) ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      ::close(socket);
    }
  }

  std::uint16_t target_;
  Limit limit_;
  std::uint16_t port_ = 0;
  int door_;
  int accepted_ = 0;
  std::atomic<int> cuts_ = 0;
  std::jthread thread_;
};

}  // namespace support
