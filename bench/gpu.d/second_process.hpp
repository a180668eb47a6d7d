// SPDX-License-Identifier: Apache-2.0
// Rank 0 of a job in shared memory as a second process: this program started again, since a GPU that is in use does not
// survive a fork.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>
#include <string>

#include "elastic/transport/shared_memory.hpp"

namespace bench {

/// `<program> rank0 <role> <job>`, ended with this object at the latest.
class SecondProcess {
 public:
  explicit SecondProcess(std::string const& role)
      : job_("bench-gpu-" + std::to_string(::getpid()) + "-" + next()) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execl("/proc/self/exe", "bench", "rank0", role.c_str(), job_.c_str(), static_cast<char*>(nullptr));
      ::_exit(127);
    }
    if (pid_ < 0) throw std::runtime_error("fork failed");
  }
  SecondProcess(SecondProcess const&) = delete;
  ~SecondProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::string const& job() const { return job_; }
  /// Waits until it has ended; throws unless it did so in good order.
  void join() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    if (status != 0) throw std::runtime_error("the second process failed");
  }

 private:
  static std::string next() {
    static int count = 0;
    return std::to_string(++count);
  }
  std::string job_;
  pid_t pid_ = 0;
};

inline elastic::transport::SharedMemoryOptions member(std::string const& job, int rank) {
  return {.job = job, .rank = rank, .size = 2, .timeout = std::chrono::seconds(120)};
}

}  // namespace bench
