// SPDX-License-Identifier: Apache-2.0
// The local step of every rule: SGD, heavy-ball momentum, Nesterov. EAMSGD is an EASGD rule with the Nesterov
// step.
#pragma once

#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/concepts.hpp"
#include "elastic/optimizer/schedule.hpp"
#include "elastic/options.hpp"
#include "elastic/parameter_group.hpp"

namespace elastic::optimizer {

enum class Momentum { heavy_ball, nesterov };

constexpr auto names(Momentum) {
  return std::array{std::pair{std::string_view("heavy_ball"), Momentum::heavy_ball},
                    std::pair{std::string_view("nesterov"), Momentum::nesterov}};
}

/// With rate r, momentum m, weight decay l, and g the gradient:
///
///     plain       x <- x - r (g(x) + l x)
///     heavy ball  v <- m v - r (g(x) + l x);  x <- x + v
///     Nesterov    v <- m v;  x <- x + v;  d = r (g(x) + l x);  v <- v - d;  x <- x - d
///
/// l is 0 for biases and normalization parameters unless `decay_biases`; r is `bias_rate` times as large for
/// biases.
struct Sgd {
  double learning_rate = 0.01;
  double momentum = 0;
  Momentum momentum_kind = Momentum::nesterov;
  double weight_decay = 0;
  bool decay_biases = false;
  double bias_rate = 1;
  Schedule schedule{};

  static constexpr auto options = std::tuple{
      Option{"learning_rate", &Sgd::learning_rate, "step size of the local step", 0.0},
      Option{"momentum", &Sgd::momentum, "0 for plain SGD", 0.0, 1.0},
      Option{"momentum_kind", &Sgd::momentum_kind, "which momentum; EASGD with nesterov is EAMSGD"},
      Option{"weight_decay", &Sgd::weight_decay, "l2 coefficient on weights", 0.0},
      Option{"decay_biases", &Sgd::decay_biases, "also decay biases and normalization parameters"},
      Option{"bias_rate", &Sgd::bias_rate, "learning rate of biases as a multiple (2 in Theano-MPI)", 0.0},
  };

  bool looks_ahead() const { return momentum > 0 && momentum_kind == Momentum::nesterov; }

  void check() const {
    check_options(*this);
    schedule.check();
    if (momentum >= 1)
      throw ConfigError("momentum: 1 never forgets a gradient and cannot be stable; expected [0, 1)");
  }
};

namespace ops {

struct Descend {
  double rate, decay;
  template <class T>
  ELASTIC_FN void operator()(T& x, T g) const {
    x -= T(rate) * (g + T(decay) * x);
  }
};

struct Accumulate {
  double momentum, rate, decay;
  template <class T>
  ELASTIC_FN void operator()(T& v, T g, T x) const {
    v = T(momentum) * v - T(rate) * (g + T(decay) * x);
  }
};

struct HeavyBall {
  double momentum, rate, decay;
  template <class T>
  ELASTIC_FN void operator()(T& x, T& v, T g) const {
    v = T(momentum) * v - T(rate) * (g + T(decay) * x);
    x += v;
  }
};

struct LookAhead {
  double momentum;
  template <class T>
  ELASTIC_FN void operator()(T& x, T& v) const {
    v = T(momentum) * v;
    x += v;
  }
};

struct Correct {
  double rate, decay;
  template <class T>
  ELASTIC_FN void operator()(T& x, T& v, T g) const {
    T const step = T(rate) * (g + T(decay) * x);
    x -= step;
    v -= step;
  }
};

/// A step, and x <- x - d behind it.
template <class Step>
struct AndSubtract {
  Step step;
  template <class T>
  ELASTIC_FN void operator()(T& x, T g, T d) const {
    step(x, g);
    x -= d;
  }
  template <class T>
  ELASTIC_FN void operator()(T& x, T& v, T g, T d) const {
    step(x, v, g);
    x -= d;
  }
};

}  // namespace ops

/// The step at one rate, on one model. `velocity` is empty for plain SGD.
template <class Dev, class T>
class LocalStep {
 public:
  using View = Span<T, typename Dev::memory>;
  LocalStep(Dev& device, Sgd const& sgd, View x, View velocity)
      : device_(device), sgd_(sgd), x_(x), v_(velocity) {}

  /// Before the gradient: to where Nesterov evaluates it. Nothing otherwise.
  void look_ahead() {
    if (sgd_.looks_ahead()) device_.for_each(ops::LookAhead{sgd_.momentum}, x_, v_);
  }

  /// After it: the rest of the step on the parameters of `group`, along the gradient `share` g, which takes no pass of
  /// its own: r (share g + l x) = (share r) (g + l / share x), to the bit where `share` is a power of two. In the same
  /// pass x loses `less`, unless that is empty.
  void apply(View g, double rate, ParameterGroup const& group, double share = 1, View less = View()) {
    auto const [whole, decay] = of(group, rate);
    double const r = share * whole, l = decay / share;
    auto const pass = [&]<class Step>(Step step, auto... moved) {
      if (less.size() == 0)
        device_.for_each(step, moved..., read(part(g, group)));
      else
        device_.for_each(ops::AndSubtract<Step>{step}, moved..., read(part(g, group)),
                         read(part(less, group)));
    };
    View const x = part(x_, group);
    if (sgd_.momentum == 0) {
      pass(ops::Descend{r, l}, x);
    } else if (sgd_.looks_ahead()) {
      pass(ops::Correct{r, l}, x, part(v_, group));
    } else {
      pass(ops::HeavyBall{sgd_.momentum, r, l}, x, part(v_, group));
    }
  }

  /// The velocity's half of a heavy-ball (or plain) step; x stays.
  void accumulate(View g, double rate, ParameterGroup const& group) {
    auto const [r, l] = of(group, rate);
    device_.for_each(ops::Accumulate{sgd_.momentum, r, l}, part(v_, group), read(part(g, group)),
                     read(part(x_, group)));
  }

 private:
  static View part(View all, ParameterGroup const& group) { return all.part(group.offset, group.count); }

  std::pair<double, double> of(ParameterGroup const& group, double rate) const {
    bool const weight = group.kind == ParameterKind::weight;
    return {rate * (group.kind == ParameterKind::bias ? sgd_.bias_rate : 1),
            weight || sgd_.decay_biases ? sgd_.weight_decay : 0};
  }

  Dev& device_;
  Sgd const& sgd_;
  View x_, v_;
};

}  // namespace elastic::optimizer
