// SPDX-License-Identifier: Apache-2.0
// Runs a program on n ranks of any transport and brings every rank's answer back to the one thread that
// asserts. Launch<Net> is specialized beside this file, once per transport.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/error.hpp"
#include "elastic/span.hpp"

namespace support {

using Seconds = std::chrono::duration<double>;
using Answers = std::vector<std::vector<double>>;  // by rank

/// `static Answers run(int n, body, Seconds timeout)` calls `body(net)`, which returns std::vector<double>,
/// on n ranks; the first failure of a rank is rethrown after the others were released. Besides:
///   exact_sums   sums have the bits of a serial loop in rank order
///   can_abort    abort() releases the other ranks (and does not end this program)
///   max_ranks    the largest n
///   sums_whole(bytes, ranks), if there is any: such sums go whole to everybody
template <class Net>
struct Launch;

/// Bytes that rank `rank` sends, and receives, in an all-reduce of `n` values.
template <class Run>
std::size_t all_reduce_bytes(std::size_t n, int ranks, int rank, std::size_t width) {
  if constexpr (requires { Run::sums_whole(n, ranks); })
    if (Run::sums_whole(n * width, ranks)) return std::size_t(ranks - 1) * n * width;
  return elastic::all_reduce_sent(n, ranks, rank) * width;
}

/// `n` normal values that differ by seed.
template <class T>
std::vector<T> random_values(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed * 7919 + 1);
  std::normal_distribution<T> normal;
  std::vector<T> values(n);
  for (T& v : values) v = normal(generator);
  return values;
}

/// A job name or the like that no other test of this machine uses.
inline std::string unique_name() {
  static int count = 0;
  return "test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

/// Ranks are threads, each with the endpoint that `make(rank)` returns.
template <class Make, class Body>
Answers run_threads(int n, Make make, Body body) {
  Answers answers(static_cast<std::size_t>(n));
  std::exception_ptr first;
  std::mutex mutex;
  {
    std::vector<std::jthread> ranks;
    for (int r = 0; r < n; ++r)
      ranks.emplace_back([&, r] {
        auto const record = [&] {
          std::lock_guard const lock(mutex);
          if (!first) first = std::current_exception();
        };
        try {
          auto net = make(r);
          try {
            answers[static_cast<std::size_t>(r)] = body(net);
          } catch (std::exception const& e) {
            record();
            net.abort(e.what());
          }
        } catch (...) {
          record();
        }
      });
  }
  if (first) std::rethrow_exception(first);
  return answers;
}

/// A rank in a process of its own.
struct Child {
  pid_t pid;
  int answers;  // the reading end of a pipe
};

/// Forks a process that runs `program()`, which returns std::vector<double>, and ends with status 0, or 1
/// after an exception. The child runs no destructor of the parent's objects.
template <class Program>
Child start_process(Program program) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  pid_t const pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid > 0) {
    ::close(ends[1]);
    return {pid, ends[0]};
  }
  int status = 0;
  std::vector<double> answer;
  std::string failure;
  try {
    answer = program();
  } catch (std::exception const& e) {
    failure = e.what();
    status = 1;
  }
  void const* const data = status == 0 ? static_cast<void const*>(answer.data()) : failure.data();
  std::size_t const bytes = status == 0 ? answer.size() * sizeof(double) : failure.size();
  if (::write(ends[1], data, bytes) != static_cast<ssize_t>(bytes)) status = 2;
  ::_exit(status);
}

/// Waits for the process and returns what its program returned; throws what() of what it threw, and "killed"
/// if it was.
inline std::vector<double> finish_process(Child child) {
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(child.answers, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  ::close(child.answers);
  int status = 0;
  ::waitpid(child.pid, &status, 0);
  if (!WIFEXITED(status)) throw std::runtime_error("killed by signal " + std::to_string(WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0) throw std::runtime_error(text);
  std::vector<double> answer(text.size() / sizeof(double));
  text.copy(reinterpret_cast<char*>(answer.data()), text.size());
  return answer;
}

/// Ranks are processes, each with the endpoint that `make(rank)` returns. Answers of a few kB at most.
template <class Make, class Body>
Answers run_processes(int n, Make make, Body body) {
  std::vector<Child> ranks;
  for (int r = 0; r < n; ++r)
    ranks.push_back(start_process([&, r] {
      auto net = make(r);
      try {
        return body(net);
      } catch (std::exception const& e) {
        net.abort(e.what());
        throw;
      }
    }));
  Answers answers;
  std::optional<std::string> failure;
  for (Child const& rank : ranks) {
    try {
      answers.push_back(finish_process(rank));
    } catch (std::exception const& e) {
      if (!failure) failure = e.what();
    }
  }
  if (failure) throw std::runtime_error(*failure);
  return answers;
}

}  // namespace support
