// SPDX-License-Identifier: Apache-2.0
// Rank 0 runs Google Benchmark and reports; the others do with it what it asks for. So all of them make the same
// number of rounds, whatever is filtered and however often it is repeated.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cells.hpp"
#include "elastic/version.hpp"
#include "options.hpp"

namespace bench {

/// What rank 0 asks for: a cell by its number (below 0: the end), bytes and rounds.
using Order = std::array<double, 3>;

template <class Net>
class Lead {
 public:
  Lead(Net& net, std::vector<Cell<Net>> const& cells, Options const& options)
      : net_(net), cells_(cells), options_(options) {
    for (std::size_t k = 0; k < cells.size(); ++k) {
      if (!cells[k].sized || !cells[k].refusal.empty()) {
        add(k, 0);
      } else {
        for (std::size_t const bytes : options.sizes) add(k, bytes);
      }
    }
  }
  bool failed() const { return failed_; }

 private:
  void add(std::size_t k, std::size_t bytes) {
    std::string name = cells_[k].name;
    if (bytes > 0) name.append("/").append(std::to_string(bytes));
    name.append("/ranks:").append(std::to_string(net_.size()));
    benchmark::RegisterBenchmark(name.c_str(),
                                 [this, k, bytes](benchmark::State& state) { run(state, k, bytes); })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMicrosecond);
  }

  Outcome ask(std::size_t k, std::size_t bytes, long rounds) {
    Order order{double(k), double(bytes), double(rounds)};
    net_.broadcast(elastic::Span<double>(order), 0);
    return cells_[k].measure(net_, bytes, rounds);
  }

  /// As many rounds as fill the time, found once and kept for all repetitions.
  long agreed_rounds(std::size_t k, std::size_t bytes) {
    if (options_.rounds > 0) return options_.rounds;
    long& rounds = rounds_[{k, bytes}];
    if (rounds == 0) {
      double const once = std::max(1e-8, ask(k, bytes, 4).p50);
      double const better =
          std::max(1e-8, ask(k, bytes, std::clamp(std::lround(0.02 / once), 4L, 1000L)).p50);
      rounds = std::clamp(std::lround(options_.seconds / better), 16L, 20'000L);
    }
    return rounds;
  }

  void run(benchmark::State& state, std::size_t k, std::size_t bytes) {
    Cell<Net> const& cell = cells_[k];
    for ([[maybe_unused]] auto _ : state) {
      if (!cell.refusal.empty()) {
        state.SetIterationTime(0);
        state.SetLabel("refused: " + cell.refusal);
        continue;
      }
      Outcome const out = ask(k, bytes, agreed_rounds(k, bytes));
      state.SetIterationTime(out.seconds);
      if (!out.right) {
        failed_ = true;
        state.SkipWithError("the data is not what it should be");
        break;
      }
      count(state, cell, bytes, out);
    }
  }

  void count(benchmark::State& state, Cell<Net> const& cell, std::size_t bytes, Outcome const& out) const {
    auto& counters = state.counters;
    double const p = net_.size();
    if (bytes > 0) {
      counters["algbw"] = double(bytes) / out.seconds;
      if (cell.sums && p > 1) counters["busbw"] = double(bytes) / out.seconds * 2 * (p - 1) / p;
    }
    counters["p50_us"] = out.p50 * 1e6;
    counters["p99_us"] = out.p99 * 1e6;
    counters["waiting_us"] = out.waiting * 1e6;
    counters["bytes"] = out.bytes;
    counters["messages"] = out.messages;
    counters["exchanges"] = out.exchanges;
    counters["allocations"] = out.allocations;
    counters["rounds"] = double(out.rounds);
    if (!std::isnan(out.hidden)) counters["hidden"] = out.hidden;
    if (!std::isnan(out.bare)) counters["bare_share"] = out.bare / out.seconds;
  }

  Net& net_;
  std::vector<Cell<Net>> const& cells_;
  Options const& options_;
  std::map<std::pair<std::size_t, std::size_t>, long> rounds_;
  bool failed_ = false;
};

/// What a file of results must say to be compared with another.
inline void add_context(std::map<std::string, std::string> const& more) {
  std::string cpu = "unknown";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) {
      cpu = line.substr(line.find(':') + 2);
      break;
    }
  char const* const commit = std::getenv("ELASTIC_BENCH_COMMIT");  // bench/run knows
  benchmark::AddCustomContext("cpu", cpu);
  benchmark::AddCustomContext("cores", std::to_string(std::thread::hardware_concurrency()));
  benchmark::AddCustomContext("compiler", __VERSION__);
  auto const [major, minor, patch] = elastic::library_version;
  benchmark::AddCustomContext(
      "elastic", std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch));
  benchmark::AddCustomContext("commit", commit != nullptr ? commit : "unknown");
  for (auto const& [key, value] : more) benchmark::AddCustomContext(key, value);
}

/// This rank's part in the benches of one transport; the exit status of its process.
template <class Net>
int play(Net& net, Options options, std::map<std::string, std::string> context = {}) {
  auto const cells = cells_of<Net>(matrix::Devices{});
  if (net.rank() != 0) {
    for (;;) {
      Order order{};
      net.broadcast(elastic::Span<double>(order), 0);
      if (order[0] < 0) return 0;
      cells[std::size_t(order[0])].measure(net, std::size_t(order[1]), static_cast<long>(order[2]));
    }
  }
  bool good = options.give_rest();
  context["ranks"] = std::to_string(net.size());
  add_context(context);
  Lead<Net> lead(net, cells, options);
  if (good) {
    benchmark::RunSpecifiedBenchmarks();
    good = !lead.failed();
  }
  Order end{-1, 0, 0};
  net.broadcast(elastic::Span<double>(end), 0);
  return good ? 0 : 1;
}

/// The main function of a bench: `body(options)`, and what it throws as one line.
template <class Body>
int bench_main(int argc, char** argv, Body body) {
  try {
    return body(Options(argc, argv));
  } catch (std::exception const& e) {
    std::cerr << argv[0] << ": " << e.what() << "\n";
    return 1;
  }
}

}  // namespace bench
