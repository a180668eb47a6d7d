// SPDX-License-Identifier: Apache-2.0
// The collectives of a transport, call by call.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <vector>

#include "../transports/values.hpp"
#include "allocations.hpp"
#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "outcome.hpp"

namespace bench {

/// Where a rule over this transport has its vectors: where the transport reaches them in place, if it says.
template <class Net>
elastic::device::Cpu device_near(Net& net) {
  if constexpr (requires { net.resident(); })
    return elastic::device::Cpu(net.resident());
  else
    return elastic::device::Cpu();
}

/// Calls `call` so many times; `before_each`, which is not timed, sets its data.
template <class Net, class Before, class Call>
Outcome timed_calls(Net& net, long calls, Before before_each, Call call, std::function<bool()> right) {
  Seen seen;
  std::vector<double> allocated;
  auto const count = static_cast<std::size_t>(calls);
  seen.rounds.reserve(count);
  allocated.reserve(count);
  before_each();
  call();
  seen.wrong = right() ? 0 : 1;
  auto const before = net.traffic();
  for (long k = 0; k < calls; ++k) {
    before_each();
    long const had = allocations.load(std::memory_order_relaxed);
    auto const start = Clock::now();
    call();
    seen.rounds.push_back(seconds_since(start));
    allocated.push_back(static_cast<double>(allocations.load(std::memory_order_relaxed) - had));
  }
  auto const after = net.traffic();
  seen.wrong += right() ? 0 : 1;
  seen.traffic.sent_bytes = after.sent_bytes - before.sent_bytes;
  seen.traffic.sent_messages = after.sent_messages - before.sent_messages;
  seen.steps = seen.exchanges = static_cast<double>(calls);
  seen.allocations = quantile(std::move(allocated), 0.5);
  return together(net, seen, calls);
}

/// Sums of small whole numbers, which are exact.
template <elastic::Collective Net>
Outcome all_reduce_calls(Net& net, std::size_t bytes, long calls) {
  std::size_t const n = bytes / sizeof(float);
  auto device = device_near(net);
  auto const x = device.template allocate<float>(n);
  std::vector<float> own(n);
  fill(own.data(), n, net.rank());
  return timed_calls(
      net, calls,
      [&] {
        std::copy(own.begin(), own.end(), x.span().data());
        net.barrier();
      },
      [&] { net.all_reduce(x.span()); }, [&] { return is_sum(x.span().data(), n, net.size()); });
}

template <elastic::Collective Net>
Outcome broadcast_calls(Net& net, std::size_t bytes, long calls) {
  std::size_t const n = bytes / sizeof(float);
  auto device = device_near(net);
  auto const x = device.template allocate<float>(n);
  fill(x.span().data(), n, net.rank());
  return timed_calls(
      net, calls, [&] { net.barrier(); }, [&] { net.broadcast(x.span(), 0); },
      [&] {
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < n; ++i) wrong += x.span()[i] != value(0, i);
        return wrong == 0;
      });
}

/// Nobody leaves before all have come: clocks of one machine tell.
template <elastic::Collective Net>
Outcome barrier_calls(Net& net, std::size_t, long calls) {
  double came = 0, left = 0;
  auto const now = [] { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); };
  return timed_calls(
      net, calls, [&] { came = now(); },
      [&] {
        net.barrier();
        left = now();
      },
      [&] { return largest(net, came) <= -largest(net, -left); });
}

}  // namespace bench
