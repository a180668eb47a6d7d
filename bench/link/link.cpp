// SPDX-License-Identifier: Apache-2.0
// A star of links with a rate and a delay between network namespaces, for kernels without netem: one tun device in each
// namespace, and this process as the wires between them. bench/link/shaped.py makes the namespaces and starts it.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

void check(bool good, std::string const& what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

constexpr std::size_t header =
    10;  // virtio_net_hdr: segments of 64 KiB cross as one, unsplit and without checksums

struct Packet {
  Clock::time_point due;
  std::vector<char> bytes;
};

/// One host's two wires: `busy` until then each, and what is on its way to the host.
struct Host {
  int device = -1;
  Clock::time_point up_busy{}, down_busy{};
  std::deque<Packet> coming{};
  std::size_t queued = 0;
};

/// The tun device "wire" in the namespace that `ip netns add` made under this name.
int open_device(std::string const& network) {
  int const home = ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  int const there = ::open(("/run/netns/" + network).c_str(), O_RDONLY | O_CLOEXEC);
  check(there >= 0, network);
  check(::setns(there, CLONE_NEWNET) == 0, "entering " + network);
  int const device = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  check(device >= 0, "/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  std::strcpy(request.ifr_name, "wire");
  check(::ioctl(device, TUNSETIFF, &request) == 0, "TUNSETIFF");
  check(::ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) == 0, "TUNSETOFFLOAD");
  check(::setns(home, CLONE_NEWNET) == 0, "leaving " + network);
  ::close(home);
  ::close(there);
  return device;
}

class Star {
 public:
  Star(std::vector<std::string> const& networks, double bits_per_second, Nanoseconds delay)
      : nanoseconds_per_byte_(8e9 / bits_per_second),
        delay_(delay),
        // a switch's buffer: what is on the wire, and 20 ms
        room_(std::size_t((std::chrono::duration<double>(delay).count() * 2 + 0.02) * bits_per_second / 8) +
              (1u << 20)) {
    for (auto const& network : networks) hosts_.push_back({open_device(network)});
  }

  [[noreturn]] void run() {
    int const timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    check(timer >= 0, "timerfd");
    std::vector<pollfd> watched;
    for (Host const& h : hosts_) watched.push_back({h.device, POLLIN, 0});
    watched.push_back({timer, POLLIN, 0});
    for (;;) {
      auto next = Clock::time_point::max();
      for (Host& h : hosts_) {
        deliver(h);
        if (!h.coming.empty()) next = std::min(next, h.coming.front().due);
      }
      itimerspec alarm{};
      if (next != Clock::time_point::max()) {
        auto const ns =
            std::max<std::int64_t>(1, std::chrono::duration_cast<Nanoseconds>(next - Clock::now()).count());
        alarm.it_value = {ns / 1'000'000'000, ns % 1'000'000'000};
      }
      ::timerfd_settime(timer, 0, &alarm, nullptr);
      ::poll(watched.data(), watched.size(), -1);
      for (Host& h : hosts_) take(h);
    }
  }

 private:
  /// Reads what a host sends; each packet follows the one before it on its wire, and on that of its receiver.
  void take(Host& from) {
    for (int k = 0; k < 64; ++k) {
      ssize_t const n = ::read(from.device, buffer_.data(), buffer_.size());
      if (n < ssize_t(header + 20)) return;
      char const* const ip = buffer_.data() + header;
      if ((ip[0] >> 4) != 4) continue;
      std::size_t const to = std::size_t(static_cast<unsigned char>(ip[19])) - 1;  // 10.x.y.<host + 1>
      if (to >= hosts_.size()) continue;
      Host& host = hosts_[to];
      if (host.queued > room_) continue;  // lost, as at any full switch
      auto const length = Nanoseconds(std::int64_t(double(n - ssize_t(header)) * nanoseconds_per_byte_));
      from.up_busy = std::max(Clock::now(), from.up_busy) + length;
      // a bit leaves the second wire as long as the first one is busy with the next
      host.down_busy = std::max(from.up_busy, host.down_busy + length);
      host.coming.push_back({host.down_busy + delay_, {buffer_.data(), buffer_.data() + n}});
      host.queued += std::size_t(n);
    }
  }
  void deliver(Host& to) {
    for (auto const now = Clock::now(); !to.coming.empty() && to.coming.front().due <= now;
         to.coming.pop_front()) {
      auto const& bytes = to.coming.front().bytes;
      if (::write(to.device, bytes.data(), bytes.size()) < 0 && errno != EINVAL && errno != EIO)
        check(false, "write");
      to.queued -= bytes.size();
    }
  }

  double nanoseconds_per_byte_;
  Nanoseconds delay_;
  std::size_t room_;
  std::vector<Host> hosts_;
  std::array<char, 65536 + 64> buffer_{};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: bench_link MBIT_PER_SECOND DELAY_US NETWORK NETWORK...\n");
    return 2;
  }
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Star star({argv + 3, argv + argc}, std::stod(argv[1]) * 1e6,
              std::chrono::microseconds(std::stol(argv[2])));
    std::puts("ready");
    std::fflush(stdout);
    star.run();
  } catch (std::exception const& e) {
    std::fprintf(stderr, "bench_link: %s\n", e.what());
    return 1;
  }
}
