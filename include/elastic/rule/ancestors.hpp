// SPDX-License-Identifier: Apache-2.0
// How Theano-MPI exchanged in 2016, as rules that train: what ours are measured against. Use them for that.
#pragma once

#include <string_view>
#include <tuple>
#include <vector>

#include "elastic/compose.hpp"
#include "elastic/ops.hpp"
#include "elastic/rule/elastic_force.hpp"
#include "elastic/wire.hpp"

namespace elastic::rule {

/// Theano-MPI's "avg" with its exchange "asa32", or "asa16" with a wire of fp16: after every step
///
///     x <- x / p;  x <- sum_i x_i        tensor by tensor: all-to-all, sum in float32, all-gather
///
/// The same algorithm as Bsp with combine = parameters, but in 16 bits it rounds the parameters themselves.
struct AllToAllBsp {
  static constexpr std::string_view name = "all_to_all_bsp";
  static constexpr Needs needs = Needs::collective;

  Wire wire = Wire::float32;
  static constexpr auto options =
      std::tuple{Option{"wire", &AllToAllBsp::wire, "how parameters travel: as they are, or in 16 bits"}};

  void check(int) const { check_options(*this); }

  void worker(auto& w) const {
    auto x = w.parameters();
    while (w.next_step()) {
      w.compute_gradient();
      w.apply_gradient();
      w.for_each(ops::Scale{1.0 / w.workers()}, x);
      w.sum_tensors(x, wire);
      w.publish(x);
    }
  }
};

/// Theano-MPI's EASGD: after `period` local steps a worker waits for its turn with the server, and for each tensor both
/// send the other all of it (MPI_Sendrecv); then, in three passes at both ends, each with a rate of its own,
///
///     worker   x <- x - alpha (x - c)
///     server   c <- c - server_alpha (c - x)
///
/// With equal rates AsyncEasgd in post_step order is the same to rounding, where no two workers meet at the server.
struct TwoWeightsEasgd {
  static constexpr std::string_view name = "two_weights_easgd";
  static constexpr Needs needs = Needs::point_to_point;

  double alpha = 0.5;
  double server_alpha = 0.5;
  std::vector<double> alpha_epochs{};
  double alpha_change = 0;
  long period = 8;
  static constexpr auto options =
      std::tuple{Option{"alpha", &TwoWeightsEasgd::alpha, "moving rate of the workers", 0.0},
                 Option{"server_alpha", &TwoWeightsEasgd::server_alpha, "moving rate of the center", 0.0},
                 Option{"alpha_epochs", &TwoWeightsEasgd::alpha_epochs,
                        "epochs from each of which on server_alpha is alpha_change more", 0.0},
                 Option{"alpha_change", &TwoWeightsEasgd::alpha_change,
                        "what is added to server_alpha at each of alpha_epochs"},
                 Option{"period", &TwoWeightsEasgd::period, "steps from one exchange to the next", 1.0}};

  void check(int) const {
    check_options(*this);
    check_stable(rate(), 1, name);
  }

  void worker(auto& w) const {
    auto x = w.parameters();
    auto theirs = w.allocate(x.size()), difference = w.allocate(x.size());
    while (w.next_step()) {
      w.compute_gradient();
      w.apply_gradient();
      if ((w.step() + 1) % period == 0)
        w.take_turn([&] { swap_and_move(w, x, theirs.span(), difference.span(), alpha); });
    }
  }

  void server(auto& s) const {
    auto center = s.state("center", s.parameters());
    auto theirs = s.allocate(center.size()), difference = s.allocate(center.size());
    s.serve_in_turn(center, [&, this] {
      swap_and_move(s, center, theirs.span(), difference.span(), rate().server_at(s.epoch()));
    });
  }

 private:
  MovingRate rate() const { return {alpha, server_alpha, alpha_epochs, alpha_change}; }

  static void swap_and_move(auto& end, auto all_mine, auto all_theirs, auto all_differences, double rate) {
    for (auto const& tensor : end.tensors()) {
      auto const mine = all_mine.part(tensor.offset, tensor.count);
      auto const theirs = all_theirs.part(tensor.offset, tensor.count);
      auto const difference = all_differences.part(tensor.offset, tensor.count);
      end.swap(mine, theirs);
      end.for_each(ops::Stretch{1}, difference, mine, theirs);
      end.for_each(ops::Scale{rate}, difference);
      end.for_each(ops::Subtract{}, mine, difference);
    }
  }
};

}  // namespace elastic::rule
