// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/compose.hpp"
#include "elastic/ops.hpp"
#include "elastic/wire.hpp"

namespace elastic::rule {

/// What the workers of a bulk-synchronous step put together.
enum class Combine { gradients, parameters, velocities };

constexpr auto names(Combine) {
  return std::array{std::pair{std::string_view("gradients"), Combine::gradients},
                    std::pair{std::string_view("parameters"), Combine::parameters},
                    std::pair{std::string_view("velocities"), Combine::velocities}};
}

/// Bulk-synchronous SGD: all workers step together. With p workers:
///
///     gradients   g <- 1/p sum_i g_i, then the local step        one process on the joined batch
///     parameters  `period` local steps, then x <- 1/p sum_i x_i  Theano-MPI's "avg"; local SGD
///     velocities  v_i <- m v_i - r g_i;  x <- x + sum_i v_i      Theano-MPI's "cdd"
///
/// With equal starts and period 1, parameters at learning rate p r, velocities at r, and one process on the
/// joined batch at p r are the same in exact arithmetic, momentum included, although no velocity is ever
/// exchanged in the first.
///
/// With a wire of 16 bits all workers still end a step with the same bits. Of parameters it is then their way from the
/// last mean that travels: rounded themselves, they would not notice small steps.
struct Bsp {
  static constexpr std::string_view name = "bsp";
  static constexpr Needs needs = Needs::collective;

  Combine combine = Combine::gradients;
  long period = 1;
  Wire wire = Wire::float32;
  static constexpr auto options =
      std::tuple{Option{"combine", &Bsp::combine,
                        "what is put together: the mean of gradients, the mean of parameters, "
                        "the sum of velocities"},
                 Option{"period", &Bsp::period, "parameters: local steps from one mean to the next", 1.0},
                 Option{"wire", &Bsp::wire, "how they travel: as they are, or in 16 bits"}};

  void check(int) const {
    check_options(*this);
    if (combine != Combine::parameters && period != 1)
      throw ConfigError("bsp: period = " + to_text(period) + " is for combine = parameters; " +
                        to_text(combine) + " are put together in every step");
  }

  void worker(auto& w) const {
    auto x = w.parameters();
    bool const from_mean = combine == Combine::parameters && wire != Wire::float32;
    auto sum = w.allocate(combine == Combine::velocities ? x.size() : 0);
    auto zeros = w.allocate(from_mean ? x.size() : 0);
    auto last = from_mean ? w.state("mean", zeros.span()) : zeros.span();
    double const share = 1.0 / w.workers();

    while (w.next_step()) {
      w.compute_gradient();
      if (combine == Combine::gradients) {
        w.all_reduce(w.gradients(), wire);
        w.apply_gradient(share);
      } else if (combine == Combine::parameters) {
        w.apply_gradient();
        if ((w.step() + 1) % period == 0) {
          if (from_mean) w.for_each(ops::Subtract{}, x, last);
          w.all_reduce(x, wire);
          w.for_each(ops::Scale{share}, x);
          if (from_mean) {
            w.for_each(ops::Add{}, x, last);
            w.copy(x, last);
          }
        }
      } else {
        w.copy(w.accumulate_velocity(), sum);
        w.all_reduce(sum, wire);
        w.for_each(ops::Add{}, x, sum.span());
      }
      w.publish(x);
    }
  }
};

}  // namespace elastic::rule
