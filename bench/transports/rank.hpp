// SPDX-License-Identifier: Apache-2.0
// One rank of a bench: a process that lives through the whole run, sleeps on a Unix socket and measures what the
// controller (bench/transports/run) asks for, so that many contenders can take turns without being started again.
#pragma once

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "fork_ranks.hpp"
#include "values.hpp"

namespace bench {

using Json = nlohmann::json;

/// Private memory in huge pages where the machine gives them, touched once, so that no page fault is measured.
class Floats {
 public:
  explicit Floats(std::size_t n, int sharing = MAP_PRIVATE) : size_(n), bytes_(std::max(n * 4, page)) {
    bytes_ = (bytes_ + page - 1) / page * page;
    void* const at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    data_ = static_cast<float*>(at);
    ::madvise(at, bytes_, MADV_HUGEPAGE);
    if (sharing == MAP_PRIVATE) std::fill_n(data_, n, 1.f);
  }
  Floats(Floats const&) = delete;
  ~Floats() { ::munmap(data_, bytes_); }
  float* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t page = std::size_t(2) << 20;
  float* data_ = nullptr;
  std::size_t size_, bytes_;
};

inline double median(std::vector<double> values) {
  auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// What is measured.
struct Case {
  std::function<void()> fill;      ///< sets the data to its start
  std::function<void()> call;      ///< what is timed
  std::function<bool(int)> right;  ///< is the data right after so many calls? (may be empty)
  int most_calls = 100;  ///< in one part of a measurement; before the next, checked data is filled again
  std::function<double()> held{};     ///< the sum of what this rank holds, where sums are conserved
  std::function<double(int)> many{};  ///< instead of `call`: makes so many and returns the seconds they took
};
using Cases = std::map<std::string, std::function<Case(std::size_t bytes)>>;

/// The controller's end of this rank.
class Controller {
 public:
  Controller(std::string const& group, int rank, int size) {
    char const* const path = std::getenv("ELASTIC_BENCH_SOCKET");
    if (path == nullptr) throw std::runtime_error("start this through bench/transports/run");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::system_error(errno, std::generic_category(), path);
    say({{"group", group}, {"rank", rank}, {"size", size}, {"pid", ::getpid()}});
  }
  Controller(Controller const&) = delete;
  ~Controller() { ::close(socket_); }

  void say(Json const& what) {
    std::string const line = what.dump() + "\n";
    for (std::size_t sent = 0; sent < line.size();) {
      auto const n = ::send(socket_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) throw std::runtime_error("the controller is gone");
      sent += static_cast<std::size_t>(n);
    }
  }
  /// The next command; empty at the end.
  std::string hear() {
    for (;;) {
      if (auto const end = heard_.find('\n'); end != std::string::npos) {
        std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        return line;
      }
      char buffer[512];
      auto const n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n <= 0) return {};
      heard_.append(buffer, static_cast<std::size_t>(n));
    }
  }

 private:
  int socket_ = -1;
  std::string heard_;
};

/// Obeys until the controller says good-bye:
///   fill NAME BYTES   makes the case and fills it; answers with what this rank holds
///   go CALLS          calls, times, checks; answers with seconds a call (the median over parts of the measurement,
///                     so that what else the machine does for a moment does not count) and whether the data was right
///   held              answers with what this rank holds now
///   release           frees the case
inline void serve(std::string const& group, int rank, int size, Cases const& cases) {
  using Clock = std::chrono::steady_clock;
  Controller controller(group, rank, size);
  Case current;
  std::string made;
  for (std::string line; !(line = controller.hear()).empty();) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    Json answer = Json::object();
    if (verb == "fill") {
      std::string name;
      std::size_t bytes = 0;
      words >> name >> bytes;
      if (made != line) {
        current = {};
        current = cases.at(name)(bytes);
        made = line;
      }
      current.fill();
      answer["held"] = current.held ? current.held() : 0;
    } else if (verb == "go") {
      int calls = 0;
      words >> calls;
      std::vector<double> seconds;  // a call, by part of the measurement
      bool right = true;
      if (current.many) {
        seconds.push_back(current.many(calls) / calls);
        if (current.right) right = current.right(calls);
      }
      for (int done = 0; !current.many && done < calls;) {
        int const n = std::min(calls - done, current.most_calls - 1);
        if (done > 0 && current.right) current.fill();
        current.call();  // all ranks are here when it returns
        auto const start = Clock::now();
        for (int k = 0; k < n; ++k) current.call();
        seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() / n);
        if (current.right) right = right && current.right(n + 1);
        done += n;
      }
      // Ranks that were woken on one core are apart by then.
      seconds.erase(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 3));
      answer = {{"seconds", median(std::move(seconds))}, {"right", right}};
    } else if (verb == "held") {
      answer["held"] = current.held ? current.held() : 0;
    } else if (verb == "release") {
      current = {};
      made.clear();
    }
    controller.say(answer);
  }
}

/// The value of `--name` among the arguments, or `otherwise`.
inline std::string argument(int argc, char** argv, std::string const& name, std::string otherwise = {}) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == "--" + name) return argv[i + 1];
  return otherwise;
}

}  // namespace bench
