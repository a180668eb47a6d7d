// SPDX-License-Identifier: Apache-2.0
// What one exchange of each rule costs over each kind of transport: the bytes that travel and the bytes that
// are read and written, as the rules (rule/), the roles (worker.hpp, shard_service.hpp) and the transports
// move them.
#pragma once

#include <algorithm>
#include <cmath>

#include "elastic/planner/job.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/shards.hpp"
#include "elastic/wire.hpp"

namespace elastic::planner {

/// Seconds of one exchange.
struct Exchange {
  double total = 0;    ///< from its first instruction to its last, nobody else in the way
  double visible = 0;  ///< by which a worker's period is longer; the rest is hidden behind a gradient
  double service = 0;  ///< that the server, or the memory that all share, is busy with it; 0: there is none
  double cpu = 0;      ///< of processors, in all processes of the job, for one worker's exchange
  bool together = false;  ///< all workers wait for each other
  double after = 0;       ///< for which the link is still busy with it once the worker goes on
  int steps_used = 0;     ///< of the period, when the worker has the center
};

/// Seconds to move `pieces` equal pieces through stages that all work at once, each taking so many seconds
/// for all.
template <class... Stage>
double pipelined(double pieces, Stage... stage) {
  double const slowest = std::max({double(stage)...});
  return slowest + ((double(stage) + ...) - slowest) / pieces;
}

/// A sum over all workers.
struct Sum {
  double seconds = 0;
  double cpu = 0;  ///< of one worker
};

/// Of `bytes` a worker, as the transport does it, alone: over TCP two ranks send each other everything and
/// both add; more send each rank its share to add and the sums back, which is two latencies however many they
/// are (as do sums in 16 bits, over any transport). Over MPI as a ring, the library's to improve. In shared
/// memory each rank reads and writes its share of everybody's vector in place.
inline Sum all_reduce(Site const& site, double bytes, int workers, bool whole_vectors = true) {
  double const p = workers, share = (p - 1) / p;
  if (workers == 1) return {};
  double const at_once = site.cores > 0 ? std::min(p, site.cores) : p;
  Link const& link = site.link;
  if (shares_memory(site.through) && whole_vectors) {
    double const adding = 2 * bytes / site.memory.each(at_once);
    return {2 * link.latency + adding, adding};
  }
  bool const two = workers == 2 && whole_vectors && site.through == Through::tcp;
  double const travels = 2 * share * bytes;  // out, and as much in
  double const latencies = two ? 1 : site.through == Through::mpi ? 2 * (p - 1) : 2;
  double const adding = (p + 1) * (two ? bytes : bytes / p) / site.memory.alone;
  return {latencies * link.latency + travels / link.both_ways + adding, 2 * travels * link.cpu + adding};
}

namespace detail {

/// Seconds of arithmetic that reads and writes `vectors` vectors of the model.
inline double passes(Job const& job, Site const& site, double vectors) {
  return vectors * job.bytes() / site.memory.alone;
}
inline double travelling(Job const& job, Wire wire) { return job.values * double(width_on<float>(wire)); }

}  // namespace detail

/// A mean, once each period; of gradients or velocities that is each step. Gradients are divided in the local
/// step, parameters in two passes, or ten where their way from the last mean travels; velocities are copied
/// and added.
inline Exchange exchange(rule::Bsp const& rule, Job const& job, Site const& site) {
  Sum const sum =
      all_reduce(site, detail::travelling(job, rule.wire), job.workers, rule.wire == Wire::float32);
  bool const narrow = rule.wire != Wire::float32;
  double const vectors = rule.combine == rule::Combine::gradients    ? 0
                         : rule.combine == rule::Combine::velocities ? 5
                         : narrow                                    ? 10
                                                                     : 2;
  double const arithmetic = detail::passes(job, site, vectors);
  double const all = sum.seconds + arithmetic;
  return {all, all, 0, sum.cpu + arithmetic, true};
}

/// A sum of deltas. With jacobi it travels during a gradient where the transport goes on alone: delta, its copy, one
/// vector more for the local step, and an addition; or, where sums are added as they are made, delta, local step and one
/// vector more for the sum. With post_step nothing is hidden.
inline Exchange exchange(rule::SyncEasgd const& rule, Job const& job, Site const& site) {
  bool const jacobi = rule.order == rule::Order::jacobi;
  Sum const sum =
      all_reduce(site, detail::travelling(job, rule.wire), job.workers, rule.wire == Wire::float32);
  bool const adds = adds_sums(site.through) && rule.wire == Wire::float32;
  double const arithmetic = detail::passes(job, site, !jacobi ? 4 + 3 : adds ? 3 + 1 + 1 : 3 + 2 + 1 + 3);
  double const hidden = jacobi && goes_on_alone(site.through) ? std::min(sum.seconds, job.step_seconds) : 0;
  double const all = sum.seconds + arithmetic;
  return {all, all - hidden, 0, sum.cpu + arithmetic, true};
}

/// The center comes, the delta goes, shard by shard. In shared memory the worker moves both in one pass,
/// whose stripes all workers share. By messages the server copies each shard for its way out, checks the delta
/// that comes and adds it. With jacobi the center comes during a gradient; the delta is then computed, and
/// leaves during the next ones. With post_step 8 shards come before the first delta finds room between them, so
/// that as many deltas are still on their way when the worker goes on. Two directions are never busy all the
/// time: what comes first, and with jacobi half of it, the server's link carries while the other one is idle.
inline Exchange exchange(rule::AsyncEasgd const& rule, Job const& job, Site const& site) {
  bool const jacobi = rule.order == rule::Order::jacobi;
  double const n = job.bytes();
  if (shares_memory(site.through)) {
    double const after = jacobi ? detail::passes(job, site, 1) : 0;
    double const all = detail::passes(job, site, 4) + after;
    return {all, all, 4 * n / site.memory.all, all, false};
  }
  Link const& link = site.link;
  double const bytes = detail::travelling(job, rule.wire);
  double const shards =
      Shards::of(std::size_t(std::max(1.0, job.values)), width_on<float>(rule.wire)).count();
  double const serving = detail::passes(job, site, 2 + 1 + 3), both = bytes / link.both_ways;
  double const one = bytes / link.one_way, first = one * std::min(1.0, 8 / shards);
  double const service = pipelined(shards, both, serving) + (jacobi ? one / 2 : first);
  double const own = detail::passes(job, site, jacobi ? 2 + 3 + 1 : 4);
  double const cpu = 4 * bytes * link.cpu + serving + own;
  if (!jacobi) {
    double const all = 2 * link.latency + pipelined(shards, both, serving, own);
    return {all, all, service, cpu, false, first, 0};
  }
  double const comes = 2 * link.latency + pipelined(shards, one, serving);
  double const late = goes_on_alone(site.through) ? std::max(0.0, comes - job.step_seconds) : comes;
  return {comes + own, late + own, service, cpu, false, one, 1};
}

}  // namespace elastic::planner
