// SPDX-License-Identifier: Apache-2.0
// What transport::Nccl promises of device memory, on one rank after the other or as many as there are devices. `Bench`
// says how vectors come to a rank's device and back.
#pragma once

#include <cstddef>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/span.hpp"
#include "support/launch.hpp"

namespace conformance {

using elastic::Span;

inline constexpr std::size_t nccl_lengths[] = {0, 1, 5, 1000, 100'003};

/// Values of rank `r`; small whole numbers, whose sums are exact in any order.
template <class T>
std::vector<T> whole_values(std::size_t n, int r) {
  auto values = support::random_values<T>(n, unsigned(n) * 16 + unsigned(r));
  for (T& v : values) v = T(int(v * 8));
  return values;
}

/// How many vectors come out wrong. `on_device(values, f)` calls f(span) with a copy on the device and returns it after.
template <class T, class Net, class OnDevice>
double wrong_sums(Net& net, int team, OnDevice on_device) {
  double wrong = 0;
  for (std::size_t const n : nccl_lengths) {
    std::vector<T> sum(n);
    for (int r = 0; r < team; ++r) {
      auto const term = whole_values<T>(n, r);
      for (std::size_t i = 0; i < n; ++i) sum[i] += term[i];
    }
    auto const mine = whole_values<T>(n, net.rank());
    wrong += on_device(mine, [&](auto x) { net.all_reduce(x); }) != sum;
    wrong += on_device(mine, [&](auto x) {
               auto travelling = net.start_all_reduce(x);
               while (!travelling.done()) {
               }
               travelling.wait();
             }) != sum;
    for (int root = 0; root < team; ++root)
      wrong += on_device(mine, [&](auto x) { net.broadcast(x, root); }) != whole_values<T>(n, root);
  }
  return wrong;
}

/// What one all-reduce of 1000 floats and one broadcast of 10 doubles count, less what they should.
template <class Net, class OnDevice>
double wrong_traffic(Net& net, int team, OnDevice on_device) {
  on_device(std::vector<float>(1), [&](auto x) { net.all_reduce(x); });  // joining is not counted
  auto const before = net.traffic();
  on_device(std::vector<float>(1000), [&](auto x) { net.all_reduce(x); });
  on_device(std::vector<double>(10), [&](auto x) { net.broadcast(x, 0); });
  auto const after = net.traffic();
  std::size_t const sum = elastic::all_reduce_sent(1000, team, net.rank()) * sizeof(float);
  std::size_t const down = net.rank() == 0 ? std::size_t(team - 1) * 80 : 0, up = net.rank() == 0 ? 0 : 80;
  return double(after.sent_bytes - before.sent_bytes != sum + down) +
         double(after.received_bytes - before.received_bytes != sum + up);
}

}  // namespace conformance
