// SPDX-License-Identifier: Apache-2.0
// How the benches on a GPU measure: two ways take turns in one run, medians count, results are checked. Each row goes to
// stdout as one line of JSON, which bench/gpu reads.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "device.cuh"

namespace bench {

using Seconds = std::function<double()>;  // does something once and says how long it took

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::size_t const n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// Seconds of the host that work() takes.
template <class Work>
double wall(Work work) {
  auto const start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Row {
  std::string what;
  std::string limit;          // what it is compared with
  double bytes = 0;           // that both move, for GB/s; 0 where that says nothing
  std::optional<double> bar;  // the ratio asked for, at least
  bool inverse = false;       // the ratio is an overhead: ours / limit - 1, at most `bar`
};

inline void print(Row const& row, std::vector<double> const& ours, std::vector<double> const& limit,
                  bool correct) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < ours.size(); ++i)
    ratios.push_back(row.inverse ? ours[i] / limit[i] - 1 : limit[i] / ours[i]);
  auto const [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  double const ratio = median(ratios);
  std::printf(
      R"({"what": "%s", "limit": "%s", "bytes": %.0f, "seconds": %.9g, "limit_seconds": %.9g, "ratio": %.4f, )"
      R"("low": %.4f, "high": %.4f, "rounds": %zu, "overhead": %s, "correct": %s)",
      row.what.c_str(), row.limit.c_str(), row.bytes, median(ours), median(limit), ratio, *low, *high,
      ratios.size(), row.inverse ? "true" : "false", correct ? "true" : "false");
  if (row.bar)
    std::printf(R"(, "bar": %.3f, "met": %s)", *row.bar,
                correct && (row.inverse ? ratio <= *row.bar : ratio >= *row.bar) ? "true" : "false");
  std::printf("}\n");
  std::fflush(stdout);
}

/// What could not be measured here, and why.
inline void print_left_out(std::string const& what, std::string why) {
  std::replace(why.begin(), why.end(), '"', '\'');
  std::printf(R"({"what": "%s", "left_out": "%s"})"
              "\n",
              what.c_str(), why.c_str());
  std::fflush(stdout);
}

/// Two ways in turns, after one turn that does not count.
inline void compare(Row const& row, int rounds, Seconds const& ours, Seconds const& limit,
                    std::function<bool()> const& correct) {
  std::vector<double> mine, theirs;
  for (int round = -1; round < rounds; ++round) {
    double const a = ours(), b = limit();
    if (round < 0) continue;
    mine.push_back(a);
    theirs.push_back(b);
  }
  print(row, mine, theirs, correct());
}

/// The whole of a program: without a GPU it says so and ends with 77.
template <class Program>
int on_a_gpu(Program program) {
  if (!has_device()) {
    std::fprintf(stderr, "no GPU here: nothing is measured\n");
    return 77;
  }
  try {
    program();
    return 0;
  } catch (std::exception const& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}

}  // namespace bench
