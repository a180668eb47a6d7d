// SPDX-License-Identifier: Apache-2.0
// What a rule moves is known to the byte.
#pragma once

#include <cstddef>

#include "exact/run.hpp"
#include "support/catch.hpp"
#include "support/named_case.hpp"

namespace exact {

/// Sent and received bytes of every rank in a run of this rule.
template <class Net, class T, class Rule>
Answers traffic_of(Rule const& rule, long steps, int workers, std::size_t n) {
  return Launch<Net>::run(ranks_for<Rule>(workers), [&](Net& net) {
    device::Cpu cpu;
    Bumpy<T> model(cpu, n);
    data::Noise<T> noise(n, 1, unsigned(net.rank()));
    Trainer<Net, Rule, device::Cpu, T> trainer(net, rule, cpu);
    auto const traffic = trainer.run(model, noise, {.steps = steps}).traffic;
    return std::vector{double(traffic.sent_bytes), double(traffic.received_bytes)};
  });
}

template <class Net, class T, class Rule>
void check_collective_traffic(Rule const& rule, long steps, long exchanges, int workers, std::size_t n) {
  auto const answers = traffic_of<Net, T>(rule, steps, workers, n);
  CAPTURE(Rule::name, workers, n);
  for (int r = 0; r < workers; ++r) {
    double const bytes =
        double(exchanges) * double(support::all_reduce_bytes<Launch<Net>>(n, workers, r, sizeof(T)));
    CHECK(answers[std::size_t(r)] == std::vector{bytes, bytes});
  }
}

template <class Net>
void collective_traffic() {
  for (int const workers : {1, 2, 4})
    for (std::size_t const n : {std::size_t(1000), std::size_t(13)}) {
      if (n % std::size_t(workers) != 0 && !Launch<Net>::exact_sums)
        continue;  // chunks that nobody else knows
      check_collective_traffic<Net, float>(rule::Bsp{}, 7, 7, workers, n);
      check_collective_traffic<Net, double>(rule::SyncEasgd{.period = 4}, 9, 3, workers, n);
      check_collective_traffic<Net, float>(rule::SyncEasgd{.period = 4, .order = Order::post_step}, 9, 2,
                                           workers, n);
    }
}

/// In 16 bits a value is two bytes, of a vector of any size: each rank's parts to the others, then its sums to them.
template <class Net>
void narrow_collective_traffic() {
  for (int const workers : {2, 3})
    for (std::size_t const n : {std::size_t(1001), std::size_t(2)}) {
      auto const check = [&](auto const& rule, long steps, long exchanges) {
        auto const answers = traffic_of<Net, float>(rule, steps, workers, n);
        CAPTURE(workers, n);
        for (int r = 0; r < workers; ++r) {
          double const bytes = double(exchanges) * 2 * double(all_reduce_sent(n, workers, r));
          CHECK(answers[std::size_t(r)] == std::vector{bytes, bytes});
        }
      };
      check(rule::Bsp{.wire = Wire::bf16}, 7, 7);
      check(rule::SyncEasgd{.period = 4, .wire = Wire::fp16}, 9, 3);
    }
}

/// By messages; where the center is in shared memory, only the worker's word about each exchange travels.
template <class Net>
void server_traffic() {
  constexpr int workers = 3;
  for (auto const& [order, wire] : {std::pair(Order::jacobi, Wire::float32),
                                    {Order::post_step, Wire::float32},
                                    {Order::jacobi, Wire::bf16},
                                    {Order::post_step, Wire::fp16}})
    for (std::size_t const n : {std::size_t(501), std::size_t(100'000), std::size_t(700'000)}) {
      double const exchanges = order == Order::jacobi ? 3 : 2;
      auto const answers =
          traffic_of<Net, float>(rule::AsyncEasgd{.period = 4, .order = order, .wire = wire}, 9, workers, n);
      bool const shared = shares_center<Net, device::Cpu>;
      std::size_t const width = wire == Wire::float32 ? sizeof(float) : 2;
      auto const shards = Shards::of(n, width).count();
      double const asks = order == Order::jacobi || shards <= 8 ? 1 : 1 + (shards - 8);
      double const values = shared ? 0 : double(n * width);
      double const sent =
          exchanges * (sizeof(Ask) * (shared ? 1 : asks) + values) + sizeof(Request);  // farewell
      double const received = shared ? 0 : exchanges * (sizeof(Status) + values);
      CAPTURE(order == Order::jacobi, to_text(wire), n, shards);
      for (std::size_t r = 1; r <= workers; ++r) CHECK(answers[r] == std::vector{sent, received});
      double const welcome = sizeof(Welcome) + sizeof(Status) + double(n * sizeof(float));  // with the start
      CHECK(answers[0] == std::vector{workers * (welcome + received), workers * sent});
    }
}

template <class Net>
bool add_traffic_cases() {
  std::string const net(Net::name);
  if constexpr (PointToPoint<Net>)
    if (!support::add_case(narrow_collective_traffic<Net>, net + ": bytes of sums in 16 bits", "[exact]"))
      return false;
  return support::add_case(collective_traffic<Net>, net + ": bytes of the collective rules", "[exact]") &&
         support::add_case(server_traffic<Net>, net + ": bytes of a server and its workers", "[exact]");
}

}  // namespace exact
