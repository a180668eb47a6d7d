// SPDX-License-Identifier: Apache-2.0
// What a rule needs besides time: vectors in memory, and a moving rate that is stable.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

#include "elastic/planner/job.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/elastic_force.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/shards.hpp"
#include "elastic/wire.hpp"

namespace elastic::planner {

/// Bytes of vectors as long as the model's, without its activations and a transport's own buffers.
struct MemoryNeed {
  double worker = 0;
  double server = 0;  ///< at most, with all workers at it; 0: there is none
};

namespace detail {

/// Parameters, gradients and velocity.
inline double trained(Job const& job) { return job.bytes() * (job.velocity ? 3 : 2); }
/// What MessageSum has of its own: values on their way, and those of the others for this rank's part.
inline double message_sum(Job const& job, Wire wire) {
  if (wire == Wire::float32 || job.workers == 1) return 0;
  return job.values * double(width_on<float>(wire)) * (2 - 1.0 / job.workers);
}

}  // namespace detail

inline MemoryNeed memory_need(rule::Bsp const& rule, Job const& job, Site const&) {
  bool const from_mean = rule.combine == rule::Combine::parameters && rule.wire != Wire::float32;
  double const own = rule.combine == rule::Combine::velocities ? 1 : from_mean ? 2 : 0;
  return {detail::trained(job) + own * job.bytes() + detail::message_sum(job, rule.wire), 0};
}

/// The center's copy, the delta, and with jacobi its sum, unless that is added as it is made.
inline MemoryNeed memory_need(rule::SyncEasgd const& rule, Job const& job, Site const& site) {
  bool const adds = adds_sums(site.through) && rule.wire == Wire::float32;
  double const own = rule.order == rule::Order::jacobi && !adds ? 3 : 2;
  return {detail::trained(job) + own * job.bytes() + detail::message_sum(job, rule.wire), 0};
}

/// In shared memory x as it was, or nothing, and the center once. By messages also the shards that are on
/// their way, all of them with jacobi and 8 with post_step; the server has as many of every worker's, out and
/// in, at most.
inline MemoryNeed memory_need(rule::AsyncEasgd const& rule, Job const& job, Site const& site) {
  bool const jacobi = rule.order == rule::Order::jacobi;
  double const n = job.bytes(), own = detail::trained(job) + (jacobi ? n : 0);
  if (shares_memory(site.through)) return {own, 3 * n};  // parameters, center, and the one that all move
  std::size_t const width = width_on<float>(rule.wire);
  auto const shards = Shards::of(std::size_t(std::max(1.0, job.values)), width);
  double const all = job.values * double(width), ahead = double(8 * shards.each * width);
  double const way = jacobi ? all : std::min(all, ahead);
  return {own + way, 2 * n + 2 * job.workers * way};
}

/// Which alpha an elastic rule takes.
struct AlphaRange {
  double standard = 0;  ///< what the rule takes unless told otherwise
  double most = 0;      ///< the rule refuses more
  double safe = 0;      ///< stable even if all workers read the center before any of them has moved it
};

/// None: the rule has no elastic force.
inline std::optional<AlphaRange> alpha_range(rule::Bsp const&, int) { return std::nullopt; }

/// Where directions have little curvature, where the bounds are lowest: critical_alpha() at eta h = 0.
template <class Rule>
std::optional<AlphaRange> alpha_range(Rule const& rule, int workers) {
  bool const together = Rule::needs == Needs::collective;
  auto const bound = [&](int at_once) { return rule::critical_alpha(rule.order, at_once, 0, rule.period); };
  return AlphaRange{rule::moving_rate(rule, workers).worker, bound(together ? workers : 1), bound(workers)};
}

}  // namespace elastic::planner
