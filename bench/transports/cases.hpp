// SPDX-License-Identifier: Apache-2.0
// What is measured of every transport, in the transports' own words.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/device/cpu.hpp"
#include "rank.hpp"

namespace bench {

/// An exchange with a server is cut into shards of at most 1 MiB, so many of them in flight.
constexpr std::size_t shard_floats = std::size_t(1) << 18;
constexpr std::size_t in_flight = 4;
constexpr std::size_t request_floats = 6;

/// x and a copy of the center move toward each other; the copy becomes what x gave up.
inline void move_to_center(float* __restrict x, float* __restrict center_then_delta, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    float const d = 0.25f * (x[i] - center_then_delta[i]);
    x[i] -= d;
    center_then_delta[i] = d;
  }
}
inline void add(float* __restrict x, float const* __restrict d, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] += d[i];
}

/// An elastic exchange of rank 1 with the center on rank 0, over anything with start_send and start_receive.
template <class Net>
class Exchange {
 public:
  Exchange(Net& net, std::size_t n)
      : net_(net),
        n_(n),
        shards_((n + shard_floats - 1) / shard_floats),
        x_(n),
        stage_(2 * in_flight * shard_floats) {}

  Floats const& held() const { return x_; }

  /// The center goes out while the deltas come in.
  void serve() {
    Floats_ request{};
    net_.receive(elastic::Span<float>(request), 1, 0);
    for (std::size_t k = 0; k < shards_; ++k) {
      if (k >= in_flight) take(k - in_flight);
      receives_[k % in_flight].emplace(net_.start_receive(place(k), 1, 2));
      sends_[k % in_flight].emplace(net_.start_send(elastic::read(shard(k)), 1, 1));
    }
    for (std::size_t k = shards_ - std::min(in_flight, shards_); k < shards_; ++k) take(k);
  }

  /// Each shard of the center goes back as a delta, from the place where it came in.
  void ask() {
    Floats_ const request{1, 2, 3, 4, 5, 6};
    for (std::size_t k = 0; k < std::min(in_flight, shards_); ++k) expect(k);
    net_.send(elastic::Span<float const>(request), 0, 0);
    for (std::size_t k = 0; k < shards_; ++k) {
      receives_[k % in_flight]->wait();
      move_to_center(shard(k).data(), place(k).data(), shard(k).size());
      if (auto& before = sends_[k % in_flight]) before->wait();
      sends_[k % in_flight].emplace(net_.start_send(elastic::read(place(k)), 0, 2));
      if (k + in_flight < shards_) expect(k + in_flight);
    }
    for (auto& send : sends_)
      if (send) send->wait();
  }

 private:
  using Floats_ = std::array<float, request_floats>;
  using View = elastic::Span<float>;

  std::size_t count(std::size_t k) const { return std::min(shard_floats, n_ - k * shard_floats); }
  View shard(std::size_t k) const { return {x_.data() + k * shard_floats, count(k)}; }
  View place(std::size_t k) const { return {stage_.data() + k % (2 * in_flight) * shard_floats, count(k)}; }
  void expect(std::size_t k) { receives_[k % in_flight].emplace(net_.start_receive(place(k), 0, 1)); }
  void take(std::size_t k) {
    sends_[k % in_flight]->wait();
    receives_[k % in_flight]->wait();
    add(shard(k).data(), place(k).data(), count(k));
  }

  Net& net_;
  std::size_t n_, shards_;
  Floats x_, stage_;
  std::array<std::optional<decltype(std::declval<Net&>().start_receive(View(), 0, 0))>, in_flight> receives_;
  std::array<std::optional<decltype(std::declval<Net&>().start_send(elastic::read(View()), 0, 0))>, in_flight>
      sends_;
};

/// An exchange between ranks 0 and 1; the others have nothing to do.
template <class Net>
Case exchange_case(Net& net, int rank, std::size_t bytes) {
  auto const e = std::make_shared<Exchange<Net>>(net, bytes / 4);
  return {[=] { fill(e->held().data(), e->held().size(), rank); },
          [=] {
            if (rank == 0) e->serve();
            if (rank == 1) e->ask();
          },
          {},
          100,
          [=] { return rank < 2 ? sum(e->held().data(), e->held().size()) : 0; }};
}

/// All-reduces of what `owner` owns.
template <class Net>
Case all_reduce_case(Net& net, std::shared_ptr<void const> owner, elastic::Span<float> x) {
  int const rank = net.rank(), ranks = net.size();
  return {[=] { fill(x.data(), x.size(), rank); }, [=, &net] { net.all_reduce(x); },
          [=](int calls) { return is_all_reduced(x.data(), x.size(), ranks, calls) && owner; },
          all_reduces_in_range(ranks)};
}
template <class Net>
Case all_reduce_case(Net& net, std::size_t bytes) {
  auto const x = std::make_shared<Floats>(bytes / 4);
  return all_reduce_case(net, x, {x->data(), x->size()});
}

/// Where a rule over this transport has its vectors: where the transport reaches them in place, if it says.
template <class Net>
elastic::device::Cpu device_for(Net& net) {
  if constexpr (requires { net.resident(); })
    return elastic::device::Cpu(net.resident());
  else
    return elastic::device::Cpu();
}

template <elastic::Collective Net>
Cases cases_of(Net& net) {
  Cases cases;
  cases["all_reduce"] = [&net](std::size_t bytes) { return all_reduce_case(net, bytes); };
  cases["exchange"] = [&net](std::size_t bytes) { return exchange_case(net, net.rank(), bytes); };
  if constexpr (requires { net.resident(); })
    cases["all_reduce_resident"] = [&net](std::size_t bytes) {
      auto const x = std::make_shared<elastic::device::Cpu::Buffer<float>>(
          device_for(net).template allocate<float>(bytes / 4));
      return all_reduce_case(net, x, x->span());
    };
  return cases;
}

}  // namespace bench
