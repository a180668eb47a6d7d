// SPDX-License-Identifier: Apache-2.0
// What nets are tested against: every layer as its definition says, in double and in simple loops over NCHW,
// without sharing a line with the backends.
#pragma once

#include <cmath>
#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"

namespace elastic::test {

using Doubles = std::vector<double>;

class ReferenceNet {
 public:
  explicit ReferenceNet(model::Architecture architecture)
      : parameters(architecture.parameter_count()),
        gradients(architecture.parameter_count()),
        net_(std::move(architecture)) {}

  Doubles parameters, gradients;
  Doubles logits;

  /// Mean loss in training mode, Auxiliaries included; dropout draws from a copy of `random`.
  double loss(model::Batch const& batch, model::Generator random) {
    count_ = batch.count;
    labels_ = batch.labels;
    loss_ = 0;
    Doubles x(batch.images.begin(), batch.images.begin() + size(net_.input()) * count_);
    logits = forward(net_.layers(), std::move(x), tape_, random);
    return loss_ + cross_entropy(logits);
  }

  /// The loss, and its gradient.
  double gradient(model::Batch const& batch, model::Generator random) {
    double const mean = loss(batch, random);
    gradients.assign(gradients.size(), 0);
    backward(net_.layers(), tape_, cross_entropy_slope(logits));
    return mean;
  }

 private:
  static std::size_t at(long i) { return static_cast<std::size_t>(i); }
  static long size(model::Shape shape) { return static_cast<long>(shape.size()); }
  static long at(model::Shape s, int n, int c, int y, int x) {
    return ((static_cast<long>(n) * s.channels + c) * s.height + y) * s.width + x;
  }

  /// What a layer leaves behind on its way forward.
  struct Trace {
    Doubles x, y;
    std::vector<float> mask;                // of a Dropout
    std::vector<std::vector<Trace>> inner;  // of the layers it holds
  };
  using Tape = std::vector<Trace>;

  Doubles forward(std::vector<model::PlacedLayer> const& layers, Doubles x, Tape& tape,
                  model::Generator& random) {
    tape.assign(layers.size(), {});
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Trace& t = tape[i];
      t.x = std::move(x);
      t.y.resize(at(size(layers[i].out) * count_));
      std::visit([&](auto const& layer) { forward(layer, layers[i], t, t.x, t.y, random); }, layers[i].layer);
      x = t.y;
    }
    return x;
  }
  Doubles backward(std::vector<model::PlacedLayer> const& layers, Tape const& tape, Doubles dy) {
    for (std::size_t i = layers.size(); i-- > 0;) {
      Doubles dx(tape[i].x.size());
      std::visit([&](auto const& layer) { backward(layer, layers[i], tape[i], dy, dx); }, layers[i].layer);
      dy = std::move(dx);
    }
    return dy;
  }

  double cross_entropy(Doubles const& of) const {
    double sum = 0;
    for (int n = 0; n < count_; ++n) sum -= std::log(probability(of, n, labels_[at(n)]));
    return sum / count_;
  }
  Doubles cross_entropy_slope(Doubles const& of) const {
    Doubles dy(of.size());
    for (int n = 0; n < count_; ++n)
      for (int k = 0; k < net_.classes(); ++k)
        dy[at(n * net_.classes() + k)] = (probability(of, n, k) - (labels_[at(n)] == k ? 1 : 0)) / count_;
    return dy;
  }
  double probability(Doubles const& of, int n, int k) const {
    double sum = 0;
    double const aim = of[at(n * net_.classes() + k)];
    for (int j = 0; j < net_.classes(); ++j) sum += std::exp(of[at(n * net_.classes() + j)] - aim);
    return 1 / sum;
  }

  // f(output index, input index, weight index) for each product of a convolution.
  template <class F>
  void each_product(model::Conv const& conv, model::PlacedLayer const& p, F f) const {
    int const inputs = p.in.channels / conv.groups, outputs = p.out.channels / conv.groups;
    for (int n = 0; n < count_; ++n)
      for (int o = 0; o < p.out.channels; ++o)
        for (int y = 0; y < p.out.height; ++y)
          for (int x = 0; x < p.out.width; ++x)
            for (int i = 0; i < inputs; ++i)
              for (int ky = 0; ky < conv.kernel; ++ky)
                for (int kx = 0; kx < conv.kernel; ++kx) {
                  int const row = y * conv.stride - conv.pad + ky, column = x * conv.stride - conv.pad + kx;
                  if (row < 0 || row >= p.in.height || column < 0 || column >= p.in.width) continue;
                  long const w = ((static_cast<long>(o) * inputs + i) * conv.kernel + ky) * conv.kernel + kx;
                  f(at(at(p.out, n, o, y, x)), at(at(p.in, n, o / outputs * inputs + i, row, column)),
                    p.weights.offset + at(w));
                }
  }

  void forward(model::Conv const& conv, model::PlacedLayer const& p, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = parameters[p.biases.offset + channel(p.out, i)];
    each_product(conv, p,
                 [&](std::size_t out, std::size_t in, std::size_t w) { y[out] += parameters[w] * x[in]; });
  }
  void backward(model::Conv const& conv, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    for (std::size_t j = 0; j < dy.size(); ++j) gradients[p.biases.offset + channel(p.out, j)] += dy[j];
    each_product(conv, p, [&](std::size_t out, std::size_t in, std::size_t w) {
      dx[in] += parameters[w] * dy[out];
      gradients[w] += t.x[in] * dy[out];
    });
  }

  void forward(model::Linear const&, model::PlacedLayer const& p, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    std::size_t const inputs = p.in.size(), outputs = p.out.size();
    for (std::size_t j = 0; j < y.size(); ++j) {
      y[j] = parameters[p.biases.offset + j % outputs];
      for (std::size_t k = 0; k < inputs; ++k)
        y[j] += parameters[p.weights.offset + j % outputs * inputs + k] * x[j / outputs * inputs + k];
    }
  }
  void backward(model::Linear const&, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    std::size_t const inputs = p.in.size(), outputs = p.out.size();
    for (std::size_t j = 0; j < dy.size(); ++j) {
      gradients[p.biases.offset + j % outputs] += dy[j];
      for (std::size_t k = 0; k < inputs; ++k) {
        std::size_t const w = p.weights.offset + j % outputs * inputs + k, in = j / outputs * inputs + k;
        gradients[w] += t.x[in] * dy[j];
        dx[in] += parameters[w] * dy[j];
      }
    }
  }

  // f(output index, input index) for each value of each window of a pool.
  template <class F>
  void each_pooled(int kernel, int stride, int pad, model::PlacedLayer const& p, F f) const {
    if (stride == 0) stride = kernel;
    for (int n = 0; n < count_; ++n)
      for (int c = 0; c < p.out.channels; ++c)
        for (int oy = 0; oy < p.out.height; ++oy)
          for (int ox = 0; ox < p.out.width; ++ox)
            for (int ky = 0; ky < kernel; ++ky)
              for (int kx = 0; kx < kernel; ++kx) {
                int const row = oy * stride - pad + ky, column = ox * stride - pad + kx;
                if (row < 0 || row >= p.in.height || column < 0 || column >= p.in.width) continue;
                f(at(at(p.out, n, c, oy, ox)), at(at(p.in, n, c, row, column)));
              }
  }
  // The index of each window's largest value.
  std::vector<std::size_t> maxima(model::MaxPool const& pool, model::PlacedLayer const& p,
                                  Doubles const& x) const {
    std::vector<std::size_t> best(at(size(p.out) * count_), x.size());
    each_pooled(pool.kernel, pool.stride, pool.pad, p, [&](std::size_t out, std::size_t in) {
      if (best[out] == x.size() || x[in] > x[best[out]]) best[out] = in;
    });
    return best;
  }
  void forward(model::MaxPool const& pool, model::PlacedLayer const& p, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    auto const best = maxima(pool, p, x);
    for (std::size_t j = 0; j < y.size(); ++j) y[j] = x[best[j]];
  }
  void backward(model::MaxPool const& pool, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    auto const best = maxima(pool, p, t.x);
    for (std::size_t j = 0; j < dy.size(); ++j) dx[best[j]] += dy[j];
  }

  void forward(model::AvgPool const& pool, model::PlacedLayer const& p, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    each_pooled(pool.kernel, pool.stride, 0, p,
                [&](std::size_t out, std::size_t in) { y[out] += x[in] / (pool.kernel * pool.kernel); });
  }
  void backward(model::AvgPool const& pool, model::PlacedLayer const& p, Trace const&, Doubles const& dy,
                Doubles& dx) {
    each_pooled(pool.kernel, pool.stride, 0, p,
                [&](std::size_t out, std::size_t in) { dx[in] += dy[out] / (pool.kernel * pool.kernel); });
  }

  void forward(model::Relu const&, model::PlacedLayer const&, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    for (std::size_t j = 0; j < x.size(); ++j) y[j] = x[j] > 0 ? x[j] : 0;
  }
  void backward(model::Relu const&, model::PlacedLayer const&, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    for (std::size_t j = 0; j < dy.size(); ++j) dx[j] = t.x[j] > 0 ? dy[j] : 0;
  }

  void forward(model::Dropout const& dropout, model::PlacedLayer const&, Trace& t, Doubles const& x,
               Doubles& y, model::Generator& random) {
    t.mask.resize(x.size());
    model::draw_dropout_mask(random, dropout.rate, t.mask);
    for (std::size_t j = 0; j < x.size(); ++j) y[j] = x[j] * static_cast<double>(t.mask[j]);
  }
  void backward(model::Dropout const&, model::PlacedLayer const&, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    for (std::size_t j = 0; j < dy.size(); ++j) dx[j] = dy[j] * static_cast<double>(t.mask[j]);
  }

  struct ChannelMoments {
    Doubles mean, variance;
    double samples;
  };
  ChannelMoments channel_moments(model::Shape shape, Doubles const& x) const {
    auto const channels = static_cast<std::size_t>(shape.channels);
    ChannelMoments m{Doubles(channels), Doubles(channels), double(count_) * shape.height * shape.width};
    for (std::size_t j = 0; j < x.size(); ++j) m.mean[channel(shape, j)] += x[j] / m.samples;
    for (std::size_t j = 0; j < x.size(); ++j) {
      double const off = x[j] - m.mean[channel(shape, j)];
      m.variance[channel(shape, j)] += off * off / m.samples;
    }
    return m;
  }
  void forward(model::BatchNorm const& norm, model::PlacedLayer const& p, Trace&, Doubles const& x,
               Doubles& y, model::Generator&) {
    ChannelMoments const m = channel_moments(p.in, x);
    for (std::size_t j = 0; j < x.size(); ++j) {
      std::size_t const c = channel(p.in, j);
      y[j] = parameters[p.weights.offset + c] * (x[j] - m.mean[c]) / std::sqrt(m.variance[c] + norm.epsilon) +
             parameters[p.biases.offset + c];
    }
  }
  // Mean and variance depend on every value: dL/dx = sum over paths, written out path by path.
  void backward(model::BatchNorm const& norm, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    Doubles const& x = t.x;
    ChannelMoments const m = channel_moments(p.in, x);
    Doubles by_variance(m.mean.size()), by_mean(m.mean.size());
    for (std::size_t j = 0; j < x.size(); ++j) {
      std::size_t const c = channel(p.in, j);
      double const inverse = 1 / std::sqrt(m.variance[c] + norm.epsilon), off = x[j] - m.mean[c];
      double const gamma = parameters[p.weights.offset + c];
      gradients[p.weights.offset + c] += dy[j] * off * inverse;
      gradients[p.biases.offset + c] += dy[j];
      by_variance[c] += dy[j] * gamma * off * -0.5 * inverse * inverse * inverse;
      by_mean[c] -= dy[j] * gamma * inverse;
    }
    for (std::size_t j = 0; j < x.size(); ++j) {
      std::size_t const c = channel(p.in, j);
      dx[j] = dy[j] * parameters[p.weights.offset + c] / std::sqrt(m.variance[c] + norm.epsilon) +
              by_variance[c] * 2 * (x[j] - m.mean[c]) / m.samples + by_mean[c] / m.samples;
    }
  }

  // The indices of the values whose squares normalize value i, itself among them.
  template <class F>
  static void each_around(model::Lrn const& lrn, model::Shape shape, std::size_t i, F f) {
    auto const own = static_cast<long>(channel(shape, i)),
               area = static_cast<long>(shape.height) * shape.width;
    for (long c = own - lrn.size / 2; c <= own + lrn.size / 2; ++c)
      if (c >= 0 && c < shape.channels) f(at(static_cast<long>(i) + (c - own) * area));
  }
  static double lrn_scale(model::Lrn const& lrn, model::Shape shape, Doubles const& x, std::size_t i) {
    double sum = 0;
    each_around(lrn, shape, i, [&](std::size_t j) { sum += x[j] * x[j]; });
    return lrn.k + lrn.alpha * sum;
  }
  void forward(model::Lrn const& lrn, model::PlacedLayer const& p, Trace&, Doubles const& x, Doubles& y,
               model::Generator&) {
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::pow(lrn_scale(lrn, p.in, x, i), lrn.beta);
  }
  // Each output by each of the values that it depends on.
  void backward(model::Lrn const& lrn, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    Doubles const& x = t.x;
    for (std::size_t i = 0; i < x.size(); ++i) {
      double const scale = lrn_scale(lrn, p.in, x, i);
      dx[i] += dy[i] * std::pow(scale, -lrn.beta);
      each_around(lrn, p.in, i, [&](std::size_t j) {
        dx[j] -= dy[i] * x[i] * lrn.beta * std::pow(scale, -lrn.beta - 1) * lrn.alpha * 2 * x[j];
      });
    }
  }

  // f(index in the output of Branches, branch, index in that branch's output).
  template <class F>
  void each_joined(model::PlacedLayer const& p, F f) const {
    for (int n = 0; n < count_; ++n) {
      long to = n * size(p.out);
      for (std::size_t b = 0; b < p.nested.size(); ++b) {
        long const length = size(p.nested[b].empty() ? p.in : p.nested[b].back().out);
        for (long j = 0; j < length; ++j) f(at(to++), b, at(n * length + j));
      }
    }
  }
  void forward(model::Branches const&, model::PlacedLayer const& p, Trace& t, Doubles const& x, Doubles& y,
               model::Generator& random) {
    std::vector<Doubles> outputs;
    t.inner.resize(p.nested.size());
    for (std::size_t b = 0; b < p.nested.size(); ++b)
      outputs.push_back(forward(p.nested[b], x, t.inner[b], random));
    each_joined(p, [&](std::size_t out, std::size_t b, std::size_t j) { y[out] = outputs[b][j]; });
  }
  void backward(model::Branches const&, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    std::vector<Doubles> slopes(p.nested.size());
    each_joined(p, [&](std::size_t out, std::size_t b, std::size_t j) {
      slopes[b].resize(j + 1);
      slopes[b][j] = dy[out];
    });
    for (std::size_t b = 0; b < p.nested.size(); ++b) {
      Doubles const part = backward(p.nested[b], t.inner[b], slopes[b]);
      for (std::size_t j = 0; j < dx.size(); ++j) dx[j] += part[j];
    }
  }

  void forward(model::Auxiliary const& side, model::PlacedLayer const& p, Trace& t, Doubles const& x,
               Doubles& y, model::Generator& random) {
    t.inner.resize(1);
    loss_ += side.weight * cross_entropy(forward(p.nested[0], x, t.inner[0], random));
    y = x;
  }
  void backward(model::Auxiliary const& side, model::PlacedLayer const& p, Trace const& t, Doubles const& dy,
                Doubles& dx) {
    Doubles slope = cross_entropy_slope(t.inner[0].back().y);
    for (double& each : slope) each *= side.weight;
    dx = backward(p.nested[0], t.inner[0], slope);
    for (std::size_t j = 0; j < dx.size(); ++j) dx[j] += dy[j];
  }

  static std::size_t channel(model::Shape shape, std::size_t i) {
    return i / static_cast<std::size_t>(shape.height * shape.width) %
           static_cast<std::size_t>(shape.channels);
  }

  model::Architecture net_;
  int count_ = 0;
  std::vector<int> labels_;
  double loss_ = 0;  // of the Auxiliaries so far
  Tape tape_;
};

}  // namespace elastic::test
