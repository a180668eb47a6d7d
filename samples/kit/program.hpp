// SPDX-License-Identifier: Apache-2.0
// The main function of a program that trains: options, signals, exit codes; what it trains is the caller's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compute.hpp"
#include "elastic/cli/command_line.hpp"
#include "elastic/cli/settings.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "job.hpp"
#include "task.hpp"

namespace sample {

class Program {
 public:
  /// `job` and `sgd` hold the defaults of this program.
  Program(std::string const& description, Job job, elastic::optimizer::Sgd sgd);

  /// Options of the program's own; `options` must live until run() returns.
  template <class Policy>
  void add(std::string const& heading, Policy& options) {
    line_.add(heading, options);
    readers_.push_back(
        [&options](elastic::cli::Settings const& settings) { elastic::cli::apply(settings, options); });
  }

  /// Reads the options, calls load(), plays this process's role to its end and returns the exit code; 75 if a
  /// signal stopped it with the center saved. Throws ConfigError for options that cannot work.
  int run(int argc, char** argv, std::function<std::unique_ptr<Task>(Job const&)> const& load);

 private:
  Job job_;
  Compute compute_;
  elastic::optimizer::Sgd sgd_;
  std::string role_;
  elastic::cli::CommandLine line_;
  std::vector<std::function<void(elastic::cli::Settings const&)>> readers_;
};

/// Calls `program` with signals watched from before its first thread; prints what it throws. 2: the user's mistake.
int guarded(std::function<int()> const& program);

}  // namespace sample
