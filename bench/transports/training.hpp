// SPDX-License-Identifier: Apache-2.0
// Rules run by the Trainer on a model whose gradient costs nothing, so that only exchanges are left; and the same
// calls in hand-written loops, against which the cost of the rule layer shows.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "cases.hpp"
#include "elastic/center_window.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "free_model.hpp"

namespace bench {

/// Times from a worker's first exchange to its last.
struct ExchangeClock {
  using Clock = std::chrono::steady_clock;
  Clock::time_point first{}, last{};
  long seen = 0;
  void operator()(elastic::event::Exchange const&) {
    last = Clock::now();
    if (seen++ == 0) first = last;
  }
  double seconds() const { return std::chrono::duration<double>(last - first).count(); }
};

/// `rule` exchanges in every step. With `exposed`, what counts is only the time that a worker spends in exchanges.
template <class Net, class Rule>
Case trained(Net& net, Rule rule, std::size_t bytes, std::function<void()> work = {}, bool exposed = false) {
  std::size_t const n = bytes / 4;
  auto const device = std::make_shared<elastic::device::Cpu>(device_for(net));
  auto const own = std::make_shared<Floats>(std::is_same_v<Rule, elastic::rule::Bsp> ? n : 0);
  fill(own->data(), own->size(), net.rank());
  auto const model = std::make_shared<FreeModel<>>(*device, n);
  model->work([=, at = model.get()] {
    if (work) work();
    std::copy_n(own->data(), own->size(), at->gradients().data());  // what was summed must be written again
  });
  int const rank = net.rank(), ranks = net.size();
  Case made;
  made.fill = [=] {
    fill(model->parameters().data(), n, rank);
    fill(model->gradients().data(), n, rank);
  };
  made.many = [=, &net](int calls) {
    NoData data;
    ExchangeClock clock;
    elastic::Trainer<Net, Rule, elastic::device::Cpu> trainer(net, rule, *device);
    auto const report =
        trainer.run(*model, data, elastic::Plan{.steps = calls + 1L, .same_start = false}, clock);
    if (!exposed) return clock.seconds();
    return report.role == elastic::Role::worker ? report.seconds.exchanging + report.seconds.waiting : 0;
  };
  if (std::is_same_v<Rule, elastic::rule::Bsp>)
    made.right = [=](int) { return is_sum(model->gradients().data(), n, ranks); };
  if (std::is_same_v<Rule, elastic::rule::AsyncEasgd>)
    made.held = [=, device = device] { return sum(model->parameters().data(), n); };
  return made;
}

inline Case bsp_by_hand(auto& net, std::size_t bytes) {
  std::size_t const n = bytes / 4;
  auto const device = std::make_shared<elastic::device::Cpu>(device_for(net));
  auto const g = std::make_shared<elastic::device::Cpu::Buffer<float>>(device->template allocate<float>(n));
  int const rank = net.rank(), ranks = net.size();
  auto const own = std::make_shared<Floats>(n);
  fill(own->data(), n, rank);
  return {[] {},
          [=, keep = device, &net] {
            std::copy_n(own->data(), n, g->span().data());
            net.all_reduce(g->span());
          },
          [=](int) { return is_sum(g->span().data(), n, ranks); }};
}

inline Case sync_easgd_by_hand(auto& net, elastic::rule::SyncEasgd const& rule, std::size_t bytes) {
  std::size_t const n = bytes / 4;
  auto const device = std::make_shared<elastic::device::Cpu>(device_for(net));
  auto const buffer = [&] {
    return std::make_shared<elastic::device::Cpu::Buffer<float>>(device->template allocate<float>(n));
  };
  auto const x = buffer(), center = buffer(), delta = buffer();
  elastic::ops::Retract const move{*rule.alpha};
  int const rank = net.rank();
  return {[=] {
            fill(x->span().data(), n, rank);
            fill(center->span().data(), n, 0);
          },
          [=, &net] {
            device->for_each(move, delta->span(), x->span(), center->span());
            net.all_reduce(delta->span());
            device->for_each(elastic::ops::AddScaled{1}, center->span(), delta->span());
          },
          {}};
}

/// The center lies in a window that rank 0 made; every other rank exchanges with it and tells rank 0.
template <elastic::Windowed Net>
Case async_easgd_by_hand(Net& net, elastic::rule::AsyncEasgd const& rule, std::size_t bytes) {
  using namespace elastic;
  std::size_t const n = bytes / 4;
  auto const device = std::make_shared<device::Cpu>(device_for(net));
  auto const x = std::make_shared<device::Cpu::Buffer<float>>(device->template allocate<float>(n));
  int const rank = net.rank(), ranks = net.size();
  fill(x->span().data(), n, rank);
  using Window = CenterWindow<Net, device::Cpu, float>;
  std::shared_ptr<Window> window;
  Welcome welcome{};
  if (rank == 0) {
    window = std::make_shared<Window>(net, *device, x->span(), 0);
    window->announce(welcome);
    for (int r = 1; r < ranks; ++r) net.send(read(as_bytes(welcome)), r, tag::welcome);
  } else {
    net.receive(as_bytes(welcome), 0, tag::welcome);
    window = std::make_shared<Window>(net, *device, welcome, n);
  }
  ops::Retract const move{*rule.alpha};
  return {[] {},
          [=, limit = rule.limit, keep = device, &net] {
            Ask ask{};
            if (rank == 0) {
              for (int r = 1; r < ranks; ++r) net.receive(as_bytes(ask), r, tag::ask);
            } else {
              window->exchange(move, ops::AddScaled{1}, x->span(), Span<float>(), limit);
              net.send(read(as_bytes(ask)), 0, tag::ask);
            }
          },
          {},
          100,
          [=] {
            if (rank == 0) window->snapshot(x->span());
            return sum(x->span().data(), n);
          }};
}

/// The first `workers` ranks exchange with a window, in no other words than its own.
template <elastic::Windowed Net>
Case window_case(Net& net, int workers, std::size_t bytes) {
  std::size_t const n = bytes / 4;
  int const rank = net.rank(), ranks = net.size();
  auto const x = std::make_shared<Floats>(n);
  using Window = typename Net::template Window<float>;
  std::shared_ptr<Window> window;
  if (rank == 0) {
    window = std::make_shared<Window>(net.template make_window<float>(n));
    auto handle = window->handle();
    for (int r = 1; r < ranks; ++r)
      net.send(elastic::Span<typename Net::WindowHandle const>(&handle, 1), r, 1);
  } else {
    typename Net::WindowHandle handle;
    net.receive(elastic::Span<typename Net::WindowHandle>(&handle, 1), 0, 1);
    window = std::make_shared<Window>(net.template open_window<float>(handle));
  }
  return {[=] {
            fill(x->data(), n, rank + 1);
            for (std::size_t k = 0; rank == 0 && k < window->stripes(); ++k)
              fill(window->stripe(k).data(), window->stripe(k).size(), 0);
          },
          [=] {
            if (rank >= workers) return;
            elastic::for_each_stripe(
                *window, rank, workers, [&](elastic::Span<float> stripe, std::size_t first) {
                  float* __restrict const c = stripe.data(), * __restrict const y = x->data() + first;
                  for (std::size_t i = 0; i < stripe.size(); ++i) {
                    float const d = 0.25f * (y[i] - c[i]);
                    y[i] -= d;
                    c[i] += d;
                  }
                });
          },
          {},
          100,
          [=] {
            double total = sum(x->data(), n);
            for (std::size_t k = 0; rank == 0 && k < window->stripes(); ++k)
              total += sum(window->stripe(k).data(), window->stripe(k).size());
            return total;
          }};
}

/// What a gradient of that length hides of an exchange behind it: each alone, both at once without a word to the transport
/// in between, both with a look at the ticket 50 times; and what
/// rules in their jacobi order spend in exchanges, with and without the work.
template <elastic::Collective Net>
void add_overlap(Cases& cases, Net& net) {
  using namespace elastic;
  auto const timed = [&net](std::size_t bytes, auto call) {
    std::size_t const n = bytes / 4;
    auto const device = std::make_shared<device::Cpu>(device_for(net));
    auto const x = std::make_shared<device::Cpu::Buffer<float>>(device->template allocate<float>(n));
    auto const work = std::make_shared<Work>();
    Case made = all_reduce_case(net, x, x->span());
    made.call = [=, &net] { call(net, x->span(), *work); };
    return made;
  };
  auto const nothing = [] {};
  cases["overlap_work"] = [=](std::size_t bytes) {
    Case made = timed(bytes, [=](Net&, Span<float>, Work& work) { work.run(nothing); });
    made.right = {};
    return made;
  };
  cases["overlap_sum"] = [=](std::size_t bytes) {
    return timed(bytes, [](Net& to, Span<float> x, Work&) { to.start_all_reduce(x).wait(); });
  };
  cases["overlap_both"] = [=](std::size_t bytes) {
    return timed(bytes, [=](Net& to, Span<float> x, Work& work) {
      auto sum = to.start_all_reduce(x);
      work.run(nothing);
      sum.wait();
    });
  };
  cases["overlap_polled"] = [=](std::size_t bytes) {
    return timed(bytes, [](Net& to, Span<float> x, Work& work) {
      auto sum = to.start_all_reduce(x);
      work.run([&] { sum.done(); });
      sum.wait();
    });
  };
  auto const jacobi = [&](std::string const& name, auto rule) {
    cases[name] = [&net, rule](std::size_t bytes) { return trained(net, rule, bytes, {}, true); };
    cases[name + "_with_work"] = [&net, rule](std::size_t bytes) {
      auto const work = std::make_shared<Work>();
      return trained(
          net, rule, bytes, [work] { work->run([] {}); }, true);
    };
  };
  jacobi("sync_easgd_jacobi", rule::SyncEasgd{.alpha = 0.25, .period = 1});
  if constexpr (PointToPoint<Net>) jacobi("async_easgd_jacobi", rule::AsyncEasgd{.alpha = 0.25, .period = 1});
}

/// Rules whose workers meet in collectives.
template <elastic::Collective Net>
void add_collective_rules(Cases& cases, Net& net) {
  using namespace elastic;
  static rule::SyncEasgd const sync{.alpha = 0.25, .period = 1, .order = rule::Order::post_step};
  cases["bsp"] = [&net](std::size_t bytes) { return trained(net, rule::Bsp{}, bytes); };
  cases["bsp_by_hand"] = [&net](std::size_t bytes) { return bsp_by_hand(net, bytes); };
  cases["sync_easgd"] = [&net](std::size_t bytes) { return trained(net, sync, bytes); };
  cases["sync_easgd_by_hand"] = [&net](std::size_t bytes) { return sync_easgd_by_hand(net, sync, bytes); };
}

/// Exchanges with a center.
template <elastic::PointToPoint Net>
void add_exchanges(Cases& cases, Net& net) {
  using namespace elastic;
  // Stable even if all workers read the same center.
  rule::AsyncEasgd const async{.alpha = 0.5 / net.size(), .period = 1, .order = rule::Order::post_step};
  cases["async_easgd"] = [&net, async](std::size_t bytes) { return trained(net, async, bytes); };
  if constexpr (Windowed<Net>) {
    cases["async_easgd_by_hand"] = [&net, async](std::size_t bytes) {
      return async_easgd_by_hand(net, async, bytes);
    };
    cases["window_1"] = [&net](std::size_t bytes) { return window_case(net, 1, bytes); };
    cases["window_2"] = [&net](std::size_t bytes) { return window_case(net, 2, bytes); };
  }
}

}  // namespace bench
