// SPDX-License-Identifier: Apache-2.0
// What a job's options say of checkpoints, and what a run must have in common with the one it continues.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "elastic/checkpoints.hpp"
#include "elastic/data/image_set.hpp"
#include "elastic/plan.hpp"
#include "elastic/role.hpp"
#include "job.hpp"
#include "task.hpp"

namespace sample {

/// Everything that decides the result; where the images lie, and who reads them, does not.
template <class Rule>
std::string terms(Rule const& rule, elastic::Plan const& plan, elastic::Layout const& layout, Job const& job,
                  Task const& task) {
  std::string text = elastic::checkpoint_terms(rule, plan, layout.workers()) +
                     "batch=" + std::to_string(job.batch) + "\nseed=" + std::to_string(job.seed) +
                     "\ntraining images=" + std::to_string(task.count(elastic::data::Split::train)) + "\n";
  std::istringstream lines(task.describe());
  for (std::string line; std::getline(lines, line);) {
    constexpr std::array<std::string_view, 3> may_change{"data=", "val_labels=", "loaders="};
    if (std::ranges::none_of(may_change, [&](auto key) { return line.starts_with(key); }))
      text += line + "\n";
  }
  return text;
}

/// The job's checkpoints; none unless it keeps some.
template <class Rule>
std::optional<elastic::Checkpoints> checkpoints_of(Rule const& rule, elastic::Plan const& plan,
                                                   elastic::Layout const& layout, int rank, Job const& job,
                                                   Task const& task) {
  if (job.checkpoint.empty()) return std::nullopt;
  long const steps = std::lround(job.checkpoint_every * plan.steps_per_epoch);
  return std::optional<elastic::Checkpoints>(
      std::in_place,
      elastic::CheckpointOptions{.folder = job.checkpoint,
                                 .terms = terms(rule, plan, layout, job, task),
                                 .resume = job.resume,
                                 .every_steps = job.checkpoint_every > 0 ? std::max(1L, steps) : 0,
                                 .keep = job.keep},
      layout, rank);
}

}  // namespace sample
