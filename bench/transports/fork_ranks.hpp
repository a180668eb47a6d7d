// SPDX-License-Identifier: Apache-2.0
// Ranks as processes that end with the one that started them.
#pragma once

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <system_error>
#include <vector>

namespace bench {

/// Runs `body(rank)` in `ranks` processes that end with this one, and ends when they have; its exit status.
template <class Body>
int fork_ranks(int ranks, Body body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<pid_t> children;
  for (int r = 0; r < ranks; ++r) {
    pid_t const pid = ::fork();
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid > 0) {
      children.push_back(pid);
      continue;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int status = 0;
    try {
      body(r);
    } catch (std::exception const& e) {
      std::fprintf(stderr, "rank %d: %s\n", r, e.what());
      status = 1;
    }
    std::fflush(stdout);
    ::_exit(status);
  }
  int worst = 0;
  for (pid_t const pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (status != 0) worst = 1;
  }
  return worst;
}

}  // namespace bench
