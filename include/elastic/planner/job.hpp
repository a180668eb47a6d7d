// SPDX-License-Identifier: Apache-2.0
// What a plan is made from: the job, the machine it runs on and the link between its processes, in numbers
// that can be measured on two processes.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace elastic::planner {

/// What the ranks of a job exchange through.
enum class Through { tcp, mpi, shared_memory, threads };

constexpr auto names(Through) {
  return std::array{std::pair{std::string_view("tcp"), Through::tcp},
                    std::pair{std::string_view("mpi"), Through::mpi},
                    std::pair{std::string_view("shared_memory"), Through::shared_memory},
                    std::pair{std::string_view("threads"), Through::threads}};
}

/// Whether workers move the center themselves, in memory that all of them see; no bytes travel then.
constexpr bool shares_memory(Through through) {
  return through == Through::shared_memory || through == Through::threads;
}

/// Whether a sum of float32 values is added to another vector in the pass that makes it.
constexpr bool adds_sums(Through through) { return through == Through::shared_memory; }

/// Whether messages and sums go on while their process computes; elsewhere they advance inside calls only.
constexpr bool goes_on_alone(Through through) { return through == Through::tcp; }

/// The way between two processes.
struct Link {
  double latency = 0;    ///< seconds one way, of a message with next to nothing in it
  double one_way = 0;    ///< bytes/s in one direction while nothing comes back
  double both_ways = 0;  ///< bytes/s in each direction while as much comes back
  double cpu = 0;        ///< seconds of a processor that each end spends on a byte, out or in
};

/// How fast elementwise arithmetic is, in bytes read and written per second, on vectors as long as the
/// model's.
struct Memory {
  double alone = 0;  ///< by one process
  double all = 0;    ///< by all processes of the machine together, when several are at it

  /// By each of `processes` at once.
  double each(double processes) const { return std::min(alone, all / std::max(1.0, processes)); }
};

/// Where the job runs.
struct Site {
  Through through = Through::tcp;
  Link link{};
  Memory memory{};
  double cores = 0;  ///< that all processes of the job share; 0: each has one of its own
};

/// What each worker computes.
struct Job {
  double values = 0;        ///< parameters, of 4 bytes
  double step_seconds = 0;  ///< of a gradient and a local step, nothing else running
  double step_spread = 0;   ///< standard deviation of that, which whoever waits for all pays for
  int batch = 0;            ///< images of a step
  int workers = 1;
  bool velocity = true;  ///< momentum > 0: one more vector

  static constexpr double width = 4;  ///< bytes of a parameter in memory
  double bytes() const { return values * width; }
};

}  // namespace elastic::planner
