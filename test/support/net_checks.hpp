// SPDX-License-Identifier: Apache-2.0
// What every backend must do, as checks over nets that put each layer where it can go wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "elastic/model/architecture.hpp"
#include "elastic/model/batch.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/ops.hpp"
#include "elastic/span.hpp"
#include "support/catch.hpp"
#include "support/reference_net.hpp"

namespace elastic::test {

/// Evenly spread over [-1, 1), the same with every library.
class Uniform {
 public:
  explicit Uniform(std::uint64_t seed) : engine_(seed) {}
  float operator()() {
    return static_cast<float>(static_cast<double>(engine_() >> 11) / 4503599627370496.0 - 1);
  }
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }

 private:
  std::mt19937_64 engine_;
};

inline model::Batch random_batch(model::Shape shape, int count, int classes, std::uint64_t seed) {
  Uniform uniform(seed);
  model::Batch batch{{}, {}, count, shape.channels, shape.height, shape.width};
  batch.images.resize(static_cast<std::size_t>(count) * shape.size());
  for (float& value : batch.images) value = uniform();
  batch.labels.resize(static_cast<std::size_t>(count));
  for (int& label : batch.labels) label = uniform.below(classes);
  return batch;
}

/// What a view into the memory of a net's device holds.
template <class Net, class View>
std::vector<float> values_of(Net& net, View view) {
  std::vector<float> values(view.size());
  net.device().download(view, Span<float>(values));
  return values;
}
template <class Net>
void set_parameters(Net& net, std::vector<float> const& values) {
  net.device().upload(Span<float const>(values), net.parameters());
}

/// No parameter keeps a value that would hide a mistake, as a bias of 0 or a scale of 1 would.
inline void disturb(std::span<float> parameters, std::uint64_t seed) {
  Uniform uniform(seed);
  for (float& value : parameters) value += 0.2f * uniform();
}
template <class Net>
void disturb_net(Net& net, std::uint64_t seed) {
  std::vector<float> parameters = values_of(net, net.parameters());
  disturb(parameters, seed);
  set_parameters(net, parameters);
}

/// ||a - b|| / ||b||
template <class A, class B>
double distance(A const& a, B const& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    double const off = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += off * off;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / norm);
}

struct Case {
  std::string name;
  model::Architecture net;
};

inline std::vector<Case> small_nets() {
  using namespace model;
  return {
      {"linear on an image", {{2, 3, 4}, {Linear{.outputs = 5}}}},
      {"two linears", {{3, 1, 1}, {Linear{.outputs = 7}, Linear{.outputs = 4}}}},
      {"conv", {{3, 7, 6}, {Conv{.channels = 5, .kernel = 3}, Linear{.outputs = 4}}}},
      {"two convs, padded, strided",
       {{3, 9, 8},
        {Conv{.channels = 17, .kernel = 5, .pad = 2, .stride = 2}, Conv{.channels = 6, .kernel = 3, .pad = 1},
         Linear{.outputs = 4}}}},
      {"grouped convs",
       {{4, 6, 5},
        {Conv{.channels = 6, .kernel = 3, .pad = 1, .groups = 2},
         Conv{.channels = 9, .kernel = 2, .stride = 3, .groups = 3}, Linear{.outputs = 3}}}},
      {"conv of one pixel last",
       {{2, 4, 4}, {Conv{.channels = 3, .kernel = 1}, Conv{.channels = 5, .kernel = 4}}}},
      {"conv after linear",
       {{2, 4, 4}, {Linear{.outputs = 6}, Conv{.channels = 8, .kernel = 1}, Relu{}, Linear{.outputs = 3}}}},
      {"overlapping pools",
       {{2, 9, 8},
        {Conv{.channels = 4, .kernel = 2}, MaxPool{.kernel = 3, .stride = 2}, Linear{.outputs = 3}}}},
      {"relu, pool, relu",
       {{2, 8, 8},
        {Conv{.channels = 4, .kernel = 3, .pad = 1}, Relu{}, MaxPool{.kernel = 2},
         Conv{.channels = 5, .kernel = 3, .pad = 1}, MaxPool{.kernel = 2}, Relu{}, Linear{.outputs = 3}}}},
      {"in-place layers first",
       {{2, 5, 5}, {Dropout{.rate = 0.25}, Relu{}, Conv{.channels = 3, .kernel = 3}, Linear{.outputs = 3}}}},
      {"pool first", {{3, 6, 6}, {MaxPool{.kernel = 2}, Relu{}, Linear{.outputs = 3}}}},
      {"dropout on images and vectors",
       {{2, 6, 6},
        {Conv{.channels = 5, .kernel = 3}, Relu{}, Dropout{.rate = 0.3}, Linear{.outputs = 9}, Relu{},
         Dropout{.rate = 0.5}, Linear{.outputs = 4}}}},
      {"norms after conv and linear",
       {{3, 6, 6},
        {Conv{.channels = 7, .kernel = 3, .pad = 1}, BatchNorm{.epsilon = 1e-3}, Relu{}, MaxPool{.kernel = 2},
         Linear{.outputs = 6}, BatchNorm{}, Relu{}, Linear{.outputs = 3}}}},
      {"norm first", {{3, 4, 4}, {BatchNorm{}, Conv{.channels = 4, .kernel = 3}, Linear{.outputs = 3}}}},
      {"response normalized over neighbors",
       {{3, 7, 6},
        {Conv{.channels = 11, .kernel = 3}, Relu{}, MaxPool{.kernel = 2},
         Lrn{.size = 5, .k = 2, .alpha = 0.3, .beta = 0.75}, Conv{.channels = 4, .kernel = 2}, Relu{},
         Linear{.outputs = 3}}}},
      {"response normalized over all and over one",
       {{2, 5, 5},
        {Conv{.channels = 4, .kernel = 3}, Lrn{.size = 9, .k = 1, .alpha = 0.5, .beta = 0.5},
         Dropout{.rate = 0.2}, Linear{.outputs = 5}, Lrn{.size = 1, .k = 1.5, .alpha = 0.7, .beta = 1.25},
         Linear{.outputs = 3}}}},
      {"padded and averaged pools",
       {{2, 9, 7},
        {Conv{.channels = 4, .kernel = 3, .pad = 1}, Relu{}, MaxPool{.kernel = 3, .stride = 2, .pad = 1},
         Conv{.channels = 5, .kernel = 2}, AvgPool{.kernel = 2, .stride = 1}, Relu{}, AvgPool{.kernel = 2},
         Linear{.outputs = 3}}}},
      {"an inception module, and one with a branch that passes its input on",
       {{3, 7, 6},
        {Conv{.channels = 6, .kernel = 3, .pad = 1}, Relu{},
         Branches{
             {{Conv{.channels = 16, .kernel = 1}, Relu{}},
              {Conv{.channels = 4, .kernel = 1}, Relu{}, Conv{.channels = 16, .kernel = 3, .pad = 1}, Relu{}},
              {MaxPool{.kernel = 3, .stride = 1, .pad = 1}, Conv{.channels = 3, .kernel = 1}, Relu{}}}},
         Branches{{{}, {Conv{.channels = 5, .kernel = 1}}}}, Relu{},
         MaxPool{.kernel = 3, .stride = 2, .pad = 1}, Conv{.channels = 4, .kernel = 2},
         Linear{.outputs = 3}}}},
      {"branches first, with layers in place, in one another",
       {{2, 5, 6},
        {Branches{{{Relu{}, Conv{.channels = 3, .kernel = 1}},
                   {Dropout{.rate = 0.3}},
                   {Branches{{{Relu{}}, {Conv{.channels = 2, .kernel = 3, .pad = 1}, Dropout{.rate = 0.2}}}},
                    MaxPool{.kernel = 3, .stride = 1, .pad = 1}}}},
         Linear{.outputs = 3}}}},
      {"branches of vectors",
       {{2, 3, 3},
        {Branches{{{Linear{.outputs = 6}, Relu{}}, {Conv{.channels = 3, .kernel = 3}}}}, Linear{.outputs = 4},
         Branches{{{Relu{}, Linear{.outputs = 5}}, {}}}, Linear{.outputs = 3}}}},
      {"auxiliaries",
       {{3, 8, 7},
        {Conv{.channels = 6, .kernel = 3},
         Auxiliary{0.3,
                   {Relu{}, AvgPool{.kernel = 3, .stride = 2}, Conv{.channels = 4, .kernel = 1}, Relu{},
                    Linear{.outputs = 5}, Relu{}, Dropout{.rate = 0.7}, Linear{.outputs = 4}}},
         Relu{},
         Branches{{{Conv{.channels = 5, .kernel = 1}, Relu{}}, {Auxiliary{0.7, {Linear{.outputs = 4}}}}}},
         Auxiliary{1.5, {Dropout{.rate = 0.2}, Linear{.outputs = 4}}}, Dropout{.rate = 0.5},
         Linear{.outputs = 4}}}},
      {"auxiliaries first",
       {{2, 4, 4},
        {Auxiliary{0.5, {Conv{.channels = 3, .kernel = 4}}}, Relu{}, Auxiliary{0.4, {Linear{.outputs = 3}}},
         Conv{.channels = 3, .kernel = 4}}}},
      {"norms in branches and aside",
       {{2, 6, 5},
        {Branches{{{Conv{.channels = 4, .kernel = 3}, BatchNorm{}, Relu{}},
                   {MaxPool{.kernel = 3, .stride = 1}, BatchNorm{}}}},
         Auxiliary{0.3, {BatchNorm{}, Relu{}, Linear{.outputs = 3}}}, Conv{.channels = 5, .kernel = 2},
         BatchNorm{}, Relu{}, Linear{.outputs = 3}}}},
  };
}

/// Loss, predictions and every gradient of each small net equal the reference's, to a relative 2e-5; a net whose
/// products round their factors gets a larger `tolerance` for all of them, and may predict otherwise.
template <class Net>
void check_against_reference(double tolerance = 2e-5) {
  bool const rounds = tolerance > 2e-5;
  for (Case const& each : small_nets()) {
    // Rounding changes who wins in pools on the way; layers that hold others have no products of their own.
    if (rounds &&
        std::ranges::any_of(each.net.layers(), [](auto const& placed) { return !placed.nested.empty(); }))
      continue;
    for (int const count : {1, 3, 16}) {
      bool const normalizes = each.name.find("norm") != std::string::npos;
      if (normalizes && count == 1) continue;  // one sample after Linear has no variance
      INFO(each.name << ", " << count << " images");
      Net net(each.net, 16, 7);
      disturb_net(net, 5);
      net.gradient(
          random_batch(each.net.input(), 16, each.net.classes(), 4));  // leaves its traces in every buffer
      net.device().for_each(ops::Fill{1e6}, net.gradients());
      net.reseed(11, 2);
      model::Batch const batch = random_batch(each.net.input(), count, each.net.classes(), 3);
      model::Batch const before = batch;

      ReferenceNet reference(each.net);
      std::vector<float> const parameters = values_of(net, net.parameters());
      reference.parameters.assign(parameters.begin(), parameters.end());
      double const expected = reference.gradient(batch, model::make_generator(11, 2));
      CHECK(net.gradient(batch) == Approx(expected).epsilon(rounds ? tolerance / 2 : 1e-5));
      CHECK(batch.images == before.images);
      std::vector<float> const gradients = values_of(net, net.gradients());
      for (ParameterGroup const& group : net.groups()) {
        INFO("parameters from " << group.offset);
        std::span const wanted = std::span(reference.gradients).subspan(group.offset, group.count);
        std::span const given = std::span(gradients).subspan(group.offset, group.count);
        double norm = 0;
        for (double const g : wanted) norm += g * g;
        if (norm < 1e-20) {  // a bias before a norm: no effect but rounding
          for (float const g : given) CHECK(std::abs(g) < (rounds ? 1e-2f : 1e-5f));
        } else {
          CHECK(distance(given, wanted) < tolerance);
        }
      }
      for (int n = 0; n < count; ++n) {
        int best = 0;
        auto const row = std::span(reference.logits)
                             .subspan(static_cast<std::size_t>(n * each.net.classes()),
                                      static_cast<std::size_t>(each.net.classes()));
        for (int k = 1; k < each.net.classes(); ++k)
          if (row[static_cast<std::size_t>(k)] > row[static_cast<std::size_t>(best)]) best = k;
        if (!rounds) CHECK(net.predictions()[static_cast<std::size_t>(n)] == best);
      }
    }
  }
}

/// Equal seeds yield equal bits; another seed, or another stream for dropout, does not.
template <class Net>
void check_determinism() {
  model::Architecture const architecture = model::easgd_cifar(1);
  model::Batch const batch = random_batch(architecture.input(), 5, 10, 1);
  auto const train = [&](std::uint64_t seed, std::uint64_t stream) {
    Net net(architecture, 5, seed);
    net.reseed(seed, stream);
    for (int step = 0; step < 3; ++step) {
      net.gradient(batch);
      net.device().for_each(ops::AddScaled{-0.1}, net.parameters(), read(net.gradients()));
    }
    return values_of(net, net.parameters());
  };
  std::vector<float> const once = train(1, 0);
  CHECK(once == train(1, 0));
  CHECK(once != train(2, 0));
  CHECK(once != train(1, 1));
}

/// A batch's images count alike wherever batches are cut; evaluation drops nothing and leaves gradients
/// alone.
template <class Net>
void check_evaluation() {
  model::Architecture const architecture = model::easgd_cifar(1, 10, model::Init{});
  model::Batch const all = random_batch(architecture.input(), 23, 10, 9);
  Net net(architecture, 23, 4);
  net.gradient(all);
  std::vector<float> const gradient = values_of(net, net.gradients());
  model::Evaluation const whole = net.evaluate(all);
  std::vector<int> const predictions(net.predictions().begin(), net.predictions().end());
  CHECK(whole.count == 23);
  CHECK(predictions.size() == 23);
  CHECK(values_of(net, net.gradients()) == gradient);

  model::Evaluation parts;
  std::vector<int> joined;
  for (int first = 0; first < 23; first += 8) {
    model::Batch part = all;
    part.count = std::min(8, 23 - first);
    part.images.erase(part.images.begin(), part.images.begin() + first * 28 * 28);
    part.labels.erase(part.labels.begin(), part.labels.begin() + first);
    parts += net.evaluate(part);
    joined.insert(joined.end(), net.predictions().begin(), net.predictions().end());
  }
  CHECK(parts.count == 23);
  CHECK(parts.correct == whole.correct);
  CHECK(parts.top5 == whole.top5);
  CHECK(whole.top5 > whole.correct);
  CHECK(parts.loss_sum == Approx(whole.loss_sum).epsilon(1e-5));
  CHECK(joined == predictions);
  long hits = 0;
  for (std::size_t i = 0; i < 23; ++i) hits += predictions[i] == all.labels[i];
  CHECK(hits == whole.correct);
}

/// Statistics of one batch make evaluation see what training saw; those of two halves see their union.
template <class Net>
void check_calibration() {
  using namespace model;
  Architecture const architecture({3, 5, 5}, {Conv{.channels = 6, .kernel = 3}, BatchNorm{.epsilon = 1e-3},
                                              Relu{}, Linear{.outputs = 4}});
  Batch const all = random_batch(architecture.input(), 12, 4, 21);
  Net net(architecture, 12, 3);
  disturb_net(net, 6);
  CHECK_THROWS_AS(net.evaluate(all), ConfigError);

  double const training = net.gradient(all);
  CHECK_THROWS_AS(net.evaluate(all), ConfigError);
  net.recompute_statistics(std::vector<Batch>{all});
  CHECK(net.evaluate(all).loss() == Approx(training).epsilon(1e-5));

  // The only norm sees the convolution's output, so unequal parts must add up to the moments of the whole.
  std::vector<Batch> parts(2, all);
  parts[0].count = 5;
  parts[1].count = 7;
  parts[1].images.erase(parts[1].images.begin(), parts[1].images.begin() + 5 * 75);
  parts[1].labels.erase(parts[1].labels.begin(), parts[1].labels.begin() + 5);
  net.recompute_statistics(parts);
  CHECK(net.evaluate(all).loss() == Approx(training).epsilon(1e-5));

  net.recompute_statistics(std::vector<Batch>{parts[0]});
  CHECK(net.evaluate(all).loss() != Approx(training).epsilon(1e-5));
  net.reset_statistics();
  CHECK_THROWS_AS(net.evaluate(all), ConfigError);
}

/// Auxiliaries add to the loss, and to gradients, in training; whatever else the net says is what it says without.
template <class Net>
void check_auxiliaries() {
  using namespace model;
  Layer const trunk = Conv{.channels = 6, .kernel = 3};
  std::vector<Layer> const side{BatchNorm{}, Linear{.outputs = 4}},
      rest{BatchNorm{.epsilon = 1e-3}, Relu{}, Linear{.outputs = 4}};
  Shape const input{3, 5, 6};
  auto const lined_up = [&](std::vector<Layer> layers, std::vector<Layer> const& more) {
    layers.insert(layers.end(), more.begin(), more.end());
    return Architecture(input, layers);
  };
  Net both(lined_up({trunk, Auxiliary{0.3, side}}, rest), 9, 3);
  Net without(lined_up({trunk}, rest), 9, 3), alone(lined_up({trunk}, side), 9, 3);
  disturb_net(both, 6);
  std::vector<float> const all = values_of(both, both.parameters());
  auto const trunk_end = all.begin() + 6 * 27 + 6, side_end = trunk_end + 2 * 6 + 4 * 6 * 12 + 4;
  std::vector<float> main(all.begin(), trunk_end);
  main.insert(main.end(), side_end, all.end());
  set_parameters(without, main);
  set_parameters(alone, {all.begin(), side_end});

  Batch const batch = random_batch(input, 9, 4, 8);
  double const loss = without.gradient(batch), aside = alone.gradient(batch);
  CHECK(both.gradient(batch) == Approx(loss + 0.3 * aside).epsilon(1e-6));
  CHECK(both.training_error() == without.training_error());
  std::vector<float> const gradients = values_of(both, both.gradients());
  std::vector<float> const of_main = values_of(without, without.gradients());
  std::vector<float> const of_side = values_of(alone, alone.gradients());
  for (std::size_t i = 0; i < 6 * 27; ++i)
    CHECK(gradients[i] == Approx(of_main[i] + 0.3f * of_side[i]).margin(1e-5));
  Batch const other = random_batch(input, 8, 4, 9);
  both.recompute_statistics(std::vector{other});
  without.recompute_statistics(std::vector{other});
  CHECK(both.evaluate(other).loss_sum == Approx(without.evaluate(other).loss_sum).epsilon(1e-6));
  CHECK(values_of(both, both.gradients()) == gradients);
  double const again = both.gradient(batch);  // nothing of the last time is left
  CHECK(again == Approx(loss + 0.3 * aside).epsilon(1e-6));
  CHECK(values_of(both, both.gradients()) == gradients);
}

/// Batches that do not fit are refused with what was expected, and the net works on.
template <class Net>
void check_refusals() {
  using Catch::Matchers::ContainsSubstring;
  model::Architecture const architecture({2, 3, 3}, {model::Linear{.outputs = 4}});
  CHECK_THROWS_AS(Net(architecture, 0, 1), ConfigError);
  Net net(architecture, 3, 1);
  auto const good = random_batch(architecture.input(), 3, 4, 2);
  auto wrong = good;
  wrong.channels = 1;
  CHECK_THROWS_WITH(net.gradient(wrong), ContainsSubstring("1x3x3") && ContainsSubstring("2x3x3"));
  wrong = random_batch(architecture.input(), 4, 4, 2);
  CHECK_THROWS_AS(net.gradient(wrong), DataError);
  wrong.count = 0;
  CHECK_THROWS_AS(net.evaluate(wrong), DataError);
  wrong = good;
  wrong.images.pop_back();
  CHECK_THROWS_AS(net.gradient(wrong), DataError);
  wrong = good;
  wrong.labels[1] = 4;
  CHECK_THROWS_WITH(net.gradient(wrong), ContainsSubstring("label 4"));
  CHECK(net.gradient(good) > 0);
}

/// Batches in the device's memory stay as they are and train as those of the host; this net's first layer works in
/// place, and drops.
template <class Net>
void check_loaded() {
  model::Architecture const architecture = small_nets()[9].net;
  auto const batch = random_batch(architecture.input(), 5, architecture.classes(), 2);
  Net there(architecture, 6, 8), here(architecture, 6, 8);
  auto const loaded = there.load(batch);
  for (int step = 0; step < 4; ++step) {
    CHECK(there.gradient(loaded) == here.gradient(batch));
    CHECK(values_of(there, there.gradients()) == values_of(here, here.gradients()));
  }
  auto wrong = batch;
  wrong.labels[2] = -1;
  CHECK_THROWS_AS(there.load(wrong), DataError);
  Net smaller(architecture, 4, 8), other(small_nets()[0].net, 6, 8);
  CHECK_THROWS_AS(smaller.gradient(loaded), DataError);
  CHECK_THROWS_AS(other.gradient(loaded), DataError);
}

/// Two kinds of net start and train alike, to a relative 1e-4.
template <class One, class Other>
void check_same(One&& one, Other&& other, int count) {
  CHECK(values_of(one, one.parameters()) == values_of(other, other.parameters()));
  one.reseed(5, 3);
  other.reseed(5, 3);
  auto const& architecture = one.architecture();
  auto const batch = random_batch(architecture.input(), count, architecture.classes(), 17);
  CHECK(one.gradient(batch) == Approx(other.gradient(batch)).epsilon(1e-5));
  CHECK(distance(values_of(one, one.gradients()), values_of(other, other.gradients())) < 1e-4);
  one.recompute_statistics(std::vector{batch});
  other.recompute_statistics(std::vector{batch});
  auto const a = one.evaluate(batch), b = other.evaluate(batch);
  CHECK(a.loss_sum == Approx(b.loss_sum).epsilon(1e-5));
  CHECK(a.correct == b.correct);
}
template <class One, class Other>
void check_same(model::Architecture const& architecture, int count) {
  check_same(One(architecture, 4, 5), Other(architecture, 4, 5), count);
}

/// Moved nets keep their parameters and work on.
template <class Net>
void check_move() {
  model::Architecture const architecture = small_nets()[12].net;
  model::Batch const batch = random_batch(architecture.input(), 6, architecture.classes(), 2);
  Net first(architecture, 6, 8);
  double const loss = first.gradient(batch);
  Net second(std::move(first));
  CHECK(second.gradient(batch) == loss);
}

}  // namespace elastic::test
