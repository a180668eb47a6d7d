// SPDX-License-Identifier: Apache-2.0
// The planner's arithmetic against numbers worked out by hand. A million parameters are 4 MB, in 16 shards of
// 250,000 bytes; a step takes 10 ms.
#include <cmath>
#include <string>

#include "elastic/planner/exchange.hpp"
#include "elastic/planner/needs.hpp"
#include "elastic/planner/prediction.hpp"
#include "elastic/planner/queue.hpp"
#include "support/catch.hpp"

namespace {

using namespace elastic;
using namespace elastic::planner;
using rule::Combine;
using rule::Order;

constexpr double ms = 1e-3;

/// 1 ms away, 400 MB/s one way, 200 MB/s each way at once: 4 MB take 10 ms and 20 ms. A pass over one vector
/// takes 1 ms, 0.5 ms while enough processes are at it.
Site far_away(Through through = Through::tcp) {
  return {through, {1 * ms, 400e6, 200e6, 1e-9}, {4e9, 8e9}, 0};
}
Job job_of(int workers) { return {1e6, 10 * ms, 0, 100, workers, true}; }

TEST_CASE("planner: a closed queue") {
  CHECK(throughput(1, 3, 1) == 0.25);
  CHECK(throughput(4, 3, 1) == 1);  // the knee
  CHECK(throughput(9, 3, 1) == 1);
  CHECK(throughput(2, 3, 0) == Approx(2.0 / 3));
  CHECK(knee(3, 1) == 4);
  CHECK(std::isinf(knee(3, 0)));
  // tau t B / n = 10 * 0.01 * 400e6 / 4e6
  CHECK(knee(10 * 10 * ms, 4e6 / 400e6) == Approx(1 + 10));
}

TEST_CASE("planner: how late the slowest is") {
  double const pi = std::acos(-1.0);
  CHECK(slowest_of(1) == Approx(0).margin(1e-9));
  CHECK(slowest_of(2) == Approx(1 / std::sqrt(pi)).epsilon(1e-5));
  CHECK(slowest_of(3) == Approx(1.5 / std::sqrt(pi)).epsilon(1e-5));
  CHECK(slowest_of(4) == Approx(1.02938).epsilon(1e-4));
}

TEST_CASE("planner: sums as the transports make them") {
  Site const tcp = far_away();
  CHECK(all_reduce(tcp, 4e6, 1).seconds == 0);
  // two: one latency, 4 MB each way, and 2 read + 1 written vectors
  CHECK(all_reduce(tcp, 4e6, 2).seconds == Approx((1 + 20 + 3) * ms));
  CHECK(all_reduce(tcp, 4e6, 2).cpu == Approx((4 + 4 + 3) * ms));
  // four: two latencies, 2 * 3/4 * 4 MB each way, and five quarters of a vector
  CHECK(all_reduce(tcp, 4e6, 4).seconds == Approx((2 + 30 + 1.25) * ms));
  // a ring of four over MPI: six latencies
  CHECK(all_reduce(far_away(Through::mpi), 4e6, 4).seconds == Approx((6 + 30 + 1.25) * ms));
  // in shared memory, two at once: each half as fast as both
  Site memory = far_away(Through::shared_memory);
  CHECK(all_reduce(memory, 4e6, 2).seconds == Approx((2 + 2) * ms));
  CHECK(all_reduce(memory, 4e6, 8).seconds == Approx((2 + 8) * ms));
  memory.cores = 2;  // of eight only two run at a time
  CHECK(all_reduce(memory, 4e6, 8).seconds == Approx((2 + 2) * ms));
}

TEST_CASE("planner: exchanges of each rule") {
  Site const tcp = far_away(), memory = far_away(Through::shared_memory);
  auto const bsp = exchange(rule::Bsp{}, job_of(2), tcp);
  CHECK(bsp.visible == Approx(24 * ms));
  CHECK(bsp.total == bsp.visible);
  CHECK(bsp.service == 0);
  auto const mean = [&](Combine combine, Wire wire) {
    return exchange(rule::Bsp{.combine = combine, .wire = wire}, job_of(2), tcp).visible;
  };
  CHECK(mean(Combine::parameters, Wire::float32) == Approx((24 + 2) * ms));
  CHECK(mean(Combine::velocities, Wire::float32) == Approx((24 + 5) * ms));
  // half the bytes, in two latencies; adding is of each rank's half
  CHECK(mean(Combine::parameters, Wire::bf16) == Approx((2 + 10 + 0.75 + 10) * ms));

  auto const sync = [&](Order order, Site const& site) {
    return exchange(rule::SyncEasgd{.order = order}, job_of(2), site);
  };
  CHECK(sync(Order::jacobi, tcp).total == Approx((24 + 9) * ms));
  CHECK(sync(Order::jacobi, tcp).visible == Approx((24 - 10 + 9) * ms));  // behind a gradient of 10 ms
  CHECK(sync(Order::post_step, tcp).visible == Approx((24 + 7) * ms));
  CHECK(sync(Order::jacobi, memory).visible == Approx((4 + 5) * ms));  // nothing goes on alone
  CHECK(sync(Order::jacobi, far_away(Through::threads)).visible == Approx((4 + 9) * ms));

  auto const async = [&](Order order, Site const& site, Wire wire = Wire::float32) {
    return exchange(rule::AsyncEasgd{.order = order, .wire = wire}, job_of(2), site);
  };
  // both ways 20 ms, the server's six passes and the worker's four in a pipeline of 16 shards
  CHECK(async(Order::post_step, tcp).visible == Approx((2 + 20 + (6 + 4) / 16.0) * ms));
  // 8 of 16 shards come while nothing goes
  CHECK(async(Order::post_step, tcp).service == Approx((20 + 6 / 16.0 + 5) * ms));
  CHECK(async(Order::post_step, tcp).after == Approx(5 * ms));
  CHECK(async(Order::post_step, tcp).steps_used == 0);
  CHECK(async(Order::post_step, tcp).cpu == Approx((16 + 6 + 4) * ms));
  // there 2 ms, the center 10 ms, hidden but for 2 + 6/16; then six passes
  CHECK(async(Order::jacobi, tcp).total == Approx((2 + 10 + 6 / 16.0 + 6) * ms));
  CHECK(async(Order::jacobi, tcp).visible == Approx((2 + 6 / 16.0 + 6) * ms));
  CHECK(async(Order::jacobi, tcp).service == Approx((20 + 6 / 16.0 + 5) * ms));
  CHECK(async(Order::jacobi, tcp).after == Approx(10 * ms));
  CHECK(async(Order::jacobi, tcp).steps_used == 1);
  CHECK(async(Order::jacobi, far_away(Through::mpi)).visible == async(Order::jacobi, tcp).total);
  // half the bytes
  CHECK(async(Order::post_step, tcp, Wire::bf16).visible == Approx((2 + 10 + (6 + 4) / 16.0) * ms));
  // in place: four passes; with jacobi the local step reads one vector more
  CHECK(async(Order::post_step, memory).visible == Approx(4 * ms));
  CHECK(async(Order::jacobi, memory).visible == Approx(5 * ms));
  CHECK(async(Order::jacobi, memory).service == Approx(2 * ms));
}

TEST_CASE("planner: periods, efficiency, and who is busy") {
  Site site = far_away();
  rule::Bsp const bsp;
  auto const two = predict(bsp, job_of(2), site);
  CHECK(two.period_seconds == Approx((10 + 24) * ms));
  CHECK(two.efficiency == Approx(10.0 / 34));
  CHECK(two.images_per_second == Approx(2 * 100 / 0.034));
  CHECK(std::isinf(two.knee));

  Job uneven = job_of(2);
  uneven.step_spread = 1 * ms;
  rule::SyncEasgd sync{.period = 4, .order = Order::post_step};
  CHECK(predict(sync, uneven, site).period_seconds ==
        Approx((40 + 31 + 2 / std::sqrt(std::acos(-1.0))) * ms).epsilon(1e-5));

  // one worker: 100 + 22.625 ms, of which the server has 25.375
  rule::AsyncEasgd const async{.period = 10, .order = Order::post_step};
  auto const one = predict(async, job_of(1), site);
  CHECK(one.period_seconds == Approx(122.625 * ms));
  CHECK(one.knee == Approx(122.625 / 25.375));
  CHECK(one.servers == 1);
  auto const many = predict(async, job_of(20), site);
  CHECK(many.period_seconds == Approx(20 * 25.375 * ms));
  CHECK(many.efficiency == Approx(100 / 507.5));
  CHECK(many.knee == Approx(one.knee));
  CHECK(many.servers == 5);

  // with jacobi the delta takes 10 ms after a step of 10: nothing is left of a period of one step to hide it
  auto const jacobi = [&](long period) {
    return predict(rule::AsyncEasgd{.period = period}, job_of(1), site).period_seconds;
  };
  CHECK(jacobi(1) == Approx((10 + 8.375 + 10) * ms));
  CHECK(jacobi(2) == Approx((20 + 8.375) * ms));

  // three workers on two cores: 3 (100 + 26) / 2 of processors' time, compared with 150 ms for nothing but
  // steps
  site.cores = 2;
  auto const crowded = predict(async, job_of(3), site);
  CHECK(crowded.period_seconds == Approx(189 * ms));
  CHECK(crowded.efficiency == Approx(150 / 189.0));

  CHECK_THROWS_WITH(predict(rule::SyncEasgd{.alpha = 0.9}, job_of(2), site),
                    Catch::Matchers::ContainsSubstring("cannot be stable"));
}

TEST_CASE("planner: the smallest period for an efficiency") {
  Site const site = far_away();
  // tau 10 / (tau 10 + 31) >= 0.95: tau >= 58.9; exactly 0.5 at 3.1
  rule::SyncEasgd const sync{.order = Order::post_step};
  CHECK(smallest_period(sync, job_of(2), site, 0.95) == 59);
  CHECK(smallest_period(sync, job_of(2), site, 0.5) == 4);
  CHECK(smallest_period(sync, job_of(1), site, 0.5) == 1);
  CHECK(smallest_period(sync, job_of(2), site, 0.95, 58) == std::nullopt);
  CHECK(smallest_period(rule::Bsp{}, job_of(2), site, 0.95) == std::nullopt);
  // tau 10 / (tau 10 + 26) >= 0.95: tau >= 49.4
  CHECK(smallest_period(rule::Bsp{.combine = Combine::parameters}, job_of(2), site, 0.95) == 50);
  // the server: tau 10 >= 0.9 * 20 * 25.375
  CHECK(smallest_period(rule::AsyncEasgd{.order = Order::post_step}, job_of(20), site, 0.9) == 46);
}

TEST_CASE("planner: memory") {
  Site const tcp = far_away(), shared = far_away(Through::threads);
  double const n = 4e6;
  CHECK(memory_need(rule::Bsp{}, job_of(2), tcp).worker == 3 * n);
  CHECK(memory_need(rule::Bsp{}, job_of(2), tcp).server == 0);
  CHECK(memory_need(rule::Bsp{.combine = Combine::velocities}, job_of(2), tcp).worker == 4 * n);
  // mean, zeros, and in 16 bits a vector and the other's half of it
  CHECK(memory_need(rule::Bsp{.combine = Combine::parameters, .wire = Wire::fp16}, job_of(2), tcp).worker ==
        5 * n + 0.75 * n);
  CHECK(memory_need(rule::SyncEasgd{}, job_of(2), tcp).worker == 6 * n);
  Job plain = job_of(3);
  plain.velocity = false;
  CHECK(memory_need(rule::SyncEasgd{}, plain, tcp).worker == 5 * n);
  CHECK(memory_need(rule::SyncEasgd{.order = Order::post_step}, plain, tcp).worker == 4 * n);
  CHECK(memory_need(rule::SyncEasgd{}, plain, far_away(Through::shared_memory)).worker == 4 * n);
  CHECK(memory_need(rule::AsyncEasgd{}, plain, tcp).worker == 4 * n);
  CHECK(memory_need(rule::AsyncEasgd{}, plain, tcp).server == 8 * n);
  CHECK(memory_need(rule::AsyncEasgd{.order = Order::post_step}, plain, tcp).worker == 2 * n + 8 * 250'000);
  CHECK(memory_need(rule::AsyncEasgd{}, plain, shared).worker == 3 * n);
  CHECK(memory_need(rule::AsyncEasgd{}, plain, shared).server == 3 * n);
}

TEST_CASE("planner: what alpha a rule takes is what it does not refuse") {
  CHECK_FALSE(alpha_range(rule::Bsp{}, 4));
  rule::SyncEasgd sync;
  rule::AsyncEasgd async;
  for (int const p : {1, 2, 4, 16})
    for (auto const order : {Order::jacobi, Order::post_step}) {
      INFO(p);
      sync.order = async.order = order;
      auto const s = alpha_range(sync, p).value(), a = alpha_range(async, p).value();
      CHECK(s.standard == Approx(0.9 / p));
      CHECK(s.most == Approx(2.0 / (p + 1)));
      CHECK(a.most == 1);
      CHECK(a.safe == s.most);
      auto const refuses = [&](auto rule, double alpha) {
        rule.alpha = alpha;
        try {
          rule.check(p);
        } catch (ConfigError const&) {
          return true;
        }
        return false;
      };
      CHECK_FALSE(refuses(sync, s.most * (1 - 1e-9)));
      CHECK(refuses(sync, s.most * (1 + 1e-9)));
      CHECK_FALSE(refuses(async, a.most));
      CHECK(refuses(async, a.most * (1 + 1e-9)));
    }
}

}  // namespace
