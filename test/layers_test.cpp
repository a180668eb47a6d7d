// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/initialize.hpp"
#include "elastic/model/moments.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/model/schedule.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/model/tensor_places.hpp"
#include "support/catch.hpp"
#include "support/net_checks.hpp"
#include "support/reference_net.hpp"

using namespace elastic;
using namespace elastic::model;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("the nets have the parameters of their papers and programs", "[model]") {
  CHECK(easgd_cifar().parameter_count() == 351'946);
  CHECK(async_easgd_cifar().parameter_count() == 4'328'970);
  CHECK(perceptron().parameter_count() == 669'706);
  CHECK(alexnet().parameter_count() == 60'965'224);
  std::vector<int> heights;
  Architecture const paper = easgd_cifar();
  for (PlacedLayer const& placed : paper.layers())
    if (heights.empty() || placed.out.height != heights.back()) heights.push_back(placed.out.height);
  CHECK(heights == std::vector{24, 12, 8, 4, 2, 1});
  Architecture const async = async_easgd_cifar();
  CHECK(async.layers().back().in == Shape{512, 2, 2});
  CHECK_THROWS_AS(async_easgd_cifar(3, 15), ConfigError);
}

TEST_CASE("alexnet has the shapes, groups and starting values that Theano-MPI tabulates", "[model]") {
  Architecture const net = alexnet();
  std::vector<Shape> convolved, pooled, normalized;
  std::vector<int> groups;
  std::vector<double> biases, deviations;
  for (PlacedLayer const& placed : net.layers()) {
    if (auto const* conv = std::get_if<Conv>(&placed.layer)) {
      convolved.push_back(placed.out);
      groups.push_back(conv->groups);
      biases.push_back(conv->bias);
      deviations.push_back(conv->init.deviation);
    }
    if (auto const* linear = std::get_if<Linear>(&placed.layer)) {
      biases.push_back(linear->bias);
      deviations.push_back(linear->init.deviation);
    }
    if (std::holds_alternative<MaxPool>(placed.layer)) pooled.push_back(placed.out);
    if (std::holds_alternative<Lrn>(placed.layer)) normalized.push_back(placed.in);
  }
  CHECK(convolved ==
        std::vector<Shape>{{96, 55, 55}, {256, 27, 27}, {384, 13, 13}, {384, 13, 13}, {256, 13, 13}});
  CHECK(pooled == std::vector<Shape>{{96, 27, 27}, {256, 13, 13}, {256, 6, 6}});
  CHECK(normalized == std::vector<Shape>{{96, 27, 27}, {256, 13, 13}});
  CHECK(groups == std::vector{1, 2, 1, 2, 2});
  CHECK(biases == std::vector<double>{0, 0.1, 0, 0.1, 0, 0.1, 0.1, 0});
  CHECK(deviations == std::vector{0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01});
  CHECK(net.input() == Shape{3, 227, 227});
  CHECK(net.classes() == 1000);
}

TEST_CASE("googlenet has the sizes and parameters of its paper, its towers and its start those of Theano-MPI",
          "[model]") {
  Architecture const net = googlenet();
  // Inputs x outputs x window + outputs, layer by layer.
  auto const conv = [](long inputs, long outputs, long kernel) {
    return inputs * outputs * kernel * kernel + outputs;
  };
  long expected = conv(3, 64, 7) + conv(64, 64, 1) + conv(64, 192, 3);
  int inputs = 192;
  for (auto const& [one, three_in, three, five_in, five, pooled] :
       std::vector<std::array<int, 6>>{{64, 96, 128, 16, 32, 32},
                                       {128, 128, 192, 32, 96, 64},
                                       {192, 96, 208, 16, 48, 64},
                                       {160, 112, 224, 24, 64, 64},
                                       {128, 128, 256, 24, 64, 64},
                                       {112, 144, 288, 32, 64, 64},
                                       {256, 160, 320, 32, 128, 128},
                                       {256, 160, 320, 32, 128, 128},
                                       {384, 192, 384, 48, 128, 128}}) {
    expected += conv(inputs, one, 1) + conv(inputs, three_in, 1) + conv(three_in, three, 3) +
                conv(inputs, five_in, 1) + conv(five_in, five, 5) + conv(inputs, pooled, 1);
    inputs = one + three + five + pooled;
  }
  expected += conv(1024, 1000, 1);
  CHECK(expected == 6'998'552);
  for (int const channels : {512, 528})
    expected += conv(channels, 128, 1) + conv(2048, 1024, 1) + conv(1024, 1000, 1);
  CHECK(expected == 13'378'280);
  CHECK(net.parameter_count() == static_cast<std::size_t>(expected));
  CHECK(googlenet(10).classes() == 10);

  std::vector<Shape> pooled, modules, normalized;
  std::vector<std::size_t> towers;
  for (PlacedLayer const& placed : net.layers()) {
    if (std::holds_alternative<MaxPool>(placed.layer) || std::holds_alternative<AvgPool>(placed.layer))
      pooled.push_back(placed.out);
    if (std::holds_alternative<Lrn>(placed.layer)) normalized.push_back(placed.in);
    if (std::holds_alternative<Branches>(placed.layer)) modules.push_back(placed.out);
    if (auto const* side = std::get_if<Auxiliary>(&placed.layer)) {
      towers.push_back(modules.size());
      CHECK(side->weight == 0.3);
      CHECK(placed.out == placed.in);
      CHECK(placed.nested[0][0].out == Shape{placed.in.channels, 4, 4});
      CHECK(std::get<Dropout>(side->layers[5]).rate == 0.7);
    }
  }
  CHECK(pooled == std::vector<Shape>{{64, 56, 56}, {192, 28, 28}, {480, 14, 14}, {832, 7, 7}, {1024, 1, 1}});
  CHECK(normalized == std::vector<Shape>{{64, 56, 56}, {192, 28, 28}, {832, 14, 14}});
  CHECK(modules == std::vector<Shape>{{256, 28, 28},
                                      {480, 28, 28},
                                      {512, 14, 14},
                                      {512, 14, 14},
                                      {512, 14, 14},
                                      {528, 14, 14},
                                      {832, 14, 14},
                                      {832, 7, 7},
                                      {1024, 7, 7}});
  CHECK(towers == std::vector<std::size_t>{3, 6});  // behind 4a and 4d
  CHECK(net.layers()[0].out == Shape{64, 112, 112});

  std::vector<float> start(net.parameter_count());
  initialize(net, 1, start);
  double sum = 0;  // of the squares of 5b's 5x5 convolution, the third branch's second
  PlacedLayer const& last = net.layers()[net.layers().size() - 4].nested[2][2];
  for (std::size_t i = 0; i < last.weights.count; ++i)
    sum += std::pow(static_cast<double>(start[last.weights.offset + i]), 2);
  CHECK(last.out == Shape{128, 7, 7});
  CHECK(std::sqrt(sum / static_cast<double>(last.weights.count)) == Approx(0.03).epsilon(0.02));
  CHECK(start[last.biases.offset + 5] == 0.2f);
}

TEST_CASE("layers within layers follow one another in the flat vector, and are refused by their path",
          "[model]") {
  Layer const last = Linear{.outputs = 2};
  Architecture const net({3, 4, 4}, {Branches{{{Conv{.channels = 2, .kernel = 1}}, {BatchNorm{}}, {}}},
                                     Auxiliary{0.5, {Linear{.outputs = 2}}}, last});
  std::vector<std::size_t> offsets;
  for (ParameterGroup const& group : net.groups()) offsets.push_back(group.offset);
  CHECK(offsets == std::vector<std::size_t>{0, 6, 8, 11, 14, 14 + 256, 272, 272 + 256});
  CHECK(net.parameter_count() == 530);
  CHECK(net.layers()[0].out == Shape{8, 4, 4});
  CHECK(make_moments(net).size() == 1);
  std::vector<std::string> names;
  offsets.clear();
  for (TensorPlace const& place : tensor_places(net)) {
    names.push_back(place.name);
    offsets.push_back(place.offset);
  }
  CHECK(names == std::vector<std::string>{"0.0.0.weight", "0.0.0.bias", "0.1.0.weight", "0.1.0.bias",
                                          "1.0.weight", "1.0.bias", "2.weight", "2.bias"});
  CHECK(offsets == std::vector<std::size_t>{0, 6, 8, 11, 14, 14 + 256, 272, 272 + 256});

  auto const build = [&](std::vector<Layer> const& layers) { return Architecture({3, 8, 6}, layers); };
  CHECK_THROWS_WITH(build({Relu{}, Branches{{{}, {Relu{}, Conv{.channels = 4, .kernel = 7}}}}, last}),
                    ContainsSubstring("layer 1, branch 1, layer 1 (Conv, input 3x8x6)"));
  CHECK_THROWS_WITH(build({Auxiliary{0.3, {MaxPool{}, MaxPool{.kernel = 5}, last}}, last}),
                    ContainsSubstring("layer 0, auxiliary, layer 1 (MaxPool, input 3x4x3)"));
  CHECK_THROWS_WITH(build({Relu{}, Branches{{{}, {MaxPool{}}}}, last}),
                    ContainsSubstring("layer 1 (Branches, input 3x8x6)") && ContainsSubstring("3x4x3"));
  CHECK_THROWS_WITH(build({Branches{}, last}), ContainsSubstring("one branch"));
  CHECK_THROWS_WITH(build({Branches{{{Branches{{{}}}, Relu{}, AvgPool{.kernel = 9}}}}, last}),
                    ContainsSubstring("layer 0, branch 0, layer 2 (AvgPool"));
  CHECK_THROWS_WITH(build({Relu{}, Auxiliary{0.3, {Linear{.outputs = 3}}}, last}),
                    ContainsSubstring("layer 1 (Auxiliary)") && ContainsSubstring("3 logits") &&
                        ContainsSubstring("2 classes"));
  CHECK_THROWS_WITH(build({Auxiliary{0, {last}}, last}), ContainsSubstring("weight"));
  CHECK_THROWS_AS(build({Auxiliary{std::nan(""), {last}}, last}), ConfigError);
  CHECK_THROWS_WITH(build({Auxiliary{1, {last, Relu{}}}, last}), ContainsSubstring("last layer"));
  CHECK_THROWS_AS(build({Auxiliary{1, {}}, last}), ConfigError);
  CHECK_THROWS_WITH(build({Auxiliary{1, {Auxiliary{1, {last}}, last}}, last}),
                    ContainsSubstring("layer 0 (Auxiliary") && ContainsSubstring("another"));
  CHECK_THROWS_AS(build({Conv{.channels = 1, .kernel = 1}, Auxiliary{1, {last}}}), ConfigError);
  CHECK_THROWS_WITH(build({MaxPool{.kernel = 3, .pad = 3}, last}), ContainsSubstring("pad"));
  CHECK_THROWS_AS(build({MaxPool{.kernel = 3, .pad = -1}, last}), ConfigError);
  CHECK_THROWS_AS(build({AvgPool{.kernel = 0}, last}), ConfigError);
}

TEST_CASE("parameter groups tile the flat vector: weights, then biases of each layer", "[model]") {
  std::size_t offset = 0;
  for (ParameterGroup const& group : async_easgd_cifar().groups()) {
    CHECK(group.offset == offset);
    offset += group.count;
  }
  CHECK(offset == 4'328'970);
  auto const groups = Architecture({2, 4, 4}, {Conv{.channels = 6, .kernel = 3, .groups = 2}, BatchNorm{},
                                               Relu{}, Linear{.outputs = 3}})
                          .groups();
  std::vector<std::size_t> counts;
  std::vector<ParameterKind> kinds;
  for (ParameterGroup const& group : groups) {
    counts.push_back(group.count);
    kinds.push_back(group.kind);
  }
  using enum ParameterKind;
  CHECK(counts == std::vector<std::size_t>{6 * 9, 6, 6, 6, 3 * 24, 3});
  CHECK(kinds == std::vector{weight, bias, normalization, normalization, weight, bias});
}

TEST_CASE("impossible layers are refused by index and shape", "[model]") {
  auto const build = [](std::vector<Layer> const& layers) { return Architecture({3, 8, 6}, layers); };
  Layer const last = Linear{.outputs = 2};
  CHECK_THROWS_WITH(build({Relu{}, Conv{.channels = 4, .kernel = 7}, last}),
                    ContainsSubstring("layer 1 (Conv, input 3x8x6)") && ContainsSubstring("7x7"));
  CHECK_THROWS_WITH(build({MaxPool{.kernel = 2}, MaxPool{.kernel = 4}, last}),
                    ContainsSubstring("layer 1 (MaxPool, input 3x4x3)"));
  CHECK_THROWS_WITH(build({Conv{.channels = 4, .kernel = 3, .groups = 2}, last}),
                    ContainsSubstring("2 groups"));
  CHECK_THROWS_AS(build({Conv{.channels = 0, .kernel = 3}, last}), ConfigError);
  CHECK_THROWS_AS(build({Conv{.channels = 4, .kernel = 3, .stride = 0}, last}), ConfigError);
  CHECK_THROWS_AS(build({Dropout{.rate = 1}, last}), ConfigError);
  CHECK_THROWS_AS(build({Dropout{.rate = std::nan("")}, last}), ConfigError);
  CHECK_THROWS_AS(build({BatchNorm{.epsilon = 0}, last}), ConfigError);
  CHECK_THROWS_WITH(build({Lrn{.size = 4}, last}), ContainsSubstring("Lrn") && ContainsSubstring("odd"));
  CHECK_THROWS_AS(build({Lrn{.k = 0}, last}), ConfigError);
  CHECK_THROWS_AS(build({Lrn{.alpha = std::nan("")}, last}), ConfigError);
  CHECK_THROWS_AS(build({Linear{.outputs = 0}}), ConfigError);
  CHECK_THROWS_AS(build({}), ConfigError);
  CHECK_THROWS_AS(build({Linear{.outputs = 1}}), ConfigError);
  CHECK_THROWS_AS(build({last, Relu{}}), ConfigError);
  CHECK_THROWS_WITH(build({Conv{.channels = 4, .kernel = 3}}), ContainsSubstring("4x6x4"));
  CHECK_THROWS_AS(Architecture({0, 8, 8}, {last}), ConfigError);
}

TEST_CASE("the first parameters follow seed and scheme", "[model]") {
  auto const start = [](Init init, std::uint64_t seed) {
    Architecture const net(
        {3, 12, 12}, {Conv{.channels = 40, .kernel = 5, .groups = 1, .init = init, .bias = 0.1}, BatchNorm{},
                      Linear{.outputs = 10, .init = init}});
    std::vector<float> parameters(net.parameter_count(), -1);
    initialize(net, seed, parameters);
    return parameters;
  };
  CHECK(start({}, 1) == start({}, 1));
  CHECK(start({}, 1) != start({}, 2));
  std::vector<float> const he = start({}, 1);
  // These draws come from Boost's Mersenne Twister and normal distribution; no rank may start elsewhere.
  auto const deviation = [](std::vector<float> const& p, std::size_t first, std::size_t count) {
    double sum = 0, squares = 0;
    for (std::size_t i = first; i < first + count; ++i) {
      sum += static_cast<double>(p[i]);
      squares += static_cast<double>(p[i]) * static_cast<double>(p[i]);
    }
    CHECK(std::abs(sum / static_cast<double>(count)) < 0.02);
    return std::sqrt(squares / static_cast<double>(count));
  };
  constexpr std::size_t conv = 40 * 75, norm = conv + 40, linear = norm + 80, weights = 10 * 40 * 64;
  CHECK(deviation(he, 0, conv) == Approx(std::sqrt(2.0 / 75)).epsilon(0.05));
  CHECK(deviation(he, linear, weights) == Approx(std::sqrt(2.0 / (40 * 64))).epsilon(0.05));
  CHECK(deviation(start({Init::Kind::glorot}, 1), 0, conv) ==
        Approx(std::sqrt(2.0 / (75 + 40 * 25))).epsilon(0.05));
  CHECK(deviation(start(normal(0.05), 1), linear, weights) == Approx(0.05).epsilon(0.05));
  CHECK(he[conv] == 0.1f);
  CHECK(he[norm] == 1.0f);
  CHECK(he[norm + 40] == 0.0f);
  CHECK(he.back() == 0.0f);
}

TEST_CASE("softmax cross-entropy is that of its definition", "[model]") {
  test::Uniform uniform(3);
  int const classes = 7, rows = 5;
  std::vector<float> logits(classes * rows);
  for (float& value : logits) value = 30 * uniform();
  std::vector<int> const labels{0, 6, 3, 3, 2};
  std::vector<float> const before = logits;
  std::vector<int> predictions(rows);
  Evaluation const result = softmax_cross_entropy(logits, labels, classes, predictions);
  double loss = 0;
  long correct = 0, top5 = 0;
  for (std::size_t n = 0; n < rows; ++n) {
    double sum = 0;
    std::size_t best = 0;
    for (std::size_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(before[n * classes + k]));
      if (before[n * classes + k] > before[n * classes + best]) best = k;
    }
    auto const label = static_cast<std::size_t>(labels[n]);
    loss += std::log(sum) - static_cast<double>(before[n * classes + label]);
    correct += best == label;
    std::span const row = std::span(before).subspan(n * classes, classes);
    top5 += std::ranges::count_if(row, [&](float value) { return value > row[label]; }) < 5;
    CHECK(predictions[n] == static_cast<int>(best));
    for (std::size_t k = 0; k < classes; ++k)
      CHECK(static_cast<double>(logits[n * classes + k]) ==
            Approx((std::exp(static_cast<double>(before[n * classes + k])) / sum - (k == label)) / rows)
                .margin(1e-7));
  }
  CHECK(result.loss_sum == Approx(loss).epsilon(1e-6));
  CHECK(result.correct == correct);
  CHECK(result.top5 == top5);

  std::vector<float> diverged(classes, std::nanf(""));
  Evaluation const lost =
      softmax_cross_entropy(diverged, std::span(labels).first(1), classes, std::span(predictions).first(1));
  CHECK(lost.correct == 0);
  CHECK(lost.top5 == 0);
  CHECK(result.count == rows);

  std::vector<float> extreme{1000, -1000, 0};
  std::vector<int> one(1);
  CHECK(softmax_cross_entropy(extreme, std::vector{1}, 3, one).loss_sum == Approx(2000));
}

TEST_CASE("dropout drops its rate, keeps the mean and never repeats", "[model]") {
  for (double const rate : {0.0, 0.1, 0.5, 0.8}) {
    std::vector<float> mask(100'001), next(mask.size());
    Generator generator = make_generator(1, 2);
    draw_dropout_mask(generator, rate, mask);
    draw_dropout_mask(generator, rate, next);
    auto const kept = static_cast<float>(1 / (1 - rate));
    double zeros = 0, sum = 0;
    for (float const factor : mask) {
      REQUIRE((factor == 0 || factor == kept));
      zeros += factor == 0;
      sum += static_cast<double>(factor);
    }
    double const n = static_cast<double>(mask.size());
    CHECK(zeros / n == Approx(rate).margin(0.006));  // four standard deviations at one half
    CHECK(sum / n == Approx(1).margin(0.03));
    CHECK((rate == 0 || mask != next));
  }
  CHECK(make_generator(1, 2) == make_generator(1, 2));
  CHECK(make_generator(1, 2) != make_generator(1, 3));
  CHECK(make_generator(1, 2) != make_generator(2, 2));
  CHECK(make_generator(1, 0) != make_generator(1ull << 32, 0));
}

TEST_CASE("moments of unequal parts add up to those of the whole", "[model]") {
  test::Uniform uniform(8);
  std::vector<float> values(1000);
  for (float& value : values) value = 5 + uniform();
  auto const moments = [&](std::size_t first, std::size_t last) {
    double mean = 0, variance = 0;
    auto const n = static_cast<double>(last - first);
    for (std::size_t i = first; i < last; ++i) mean += static_cast<double>(values[i]) / n;
    for (std::size_t i = first; i < last; ++i)
      variance += std::pow(static_cast<double>(values[i]) - mean, 2) / n;
    return Moments{{static_cast<float>(mean)}, {static_cast<float>(variance)}};
  };
  RunningMoments running;
  for (std::size_t const first : {0u, 1u, 10u, 600u}) {
    std::size_t const last = first == 0 ? 1 : first == 1 ? 10 : first == 10 ? 600 : 1000;
    running.add(moments(first, last), static_cast<double>(last - first));
  }
  Moments total{{0}, {0}};
  running.write(total);
  CHECK(total.mean[0] == Approx(moments(0, 1000).mean[0]).epsilon(1e-6));
  CHECK(total.variance[0] == Approx(moments(0, 1000).variance[0]).epsilon(1e-5));
}

TEST_CASE("a schedule rectifies after it pools", "[model]") {
  Architecture const net = easgd_cifar();
  Schedule const schedule = make_schedule(net.layers());
  REQUIRE(schedule.layers.size() == 12);
  CHECK(std::holds_alternative<MaxPool>(schedule.layers[1].layer));
  CHECK(std::holds_alternative<Relu>(schedule.layers[2].layer));
  for (std::size_t i = 1; i < schedule.layers.size(); ++i)
    CHECK(schedule.layers[i].in == schedule.layers[i - 1].out);
  Architecture const late({1, 4, 4}, {Relu{}, MaxPool{.kernel = 2}, Linear{.outputs = 2}});
  CHECK(make_schedule(late.layers()).first_trained == 2);
  Architecture const within({1, 4, 4},
                            {Relu{}, Branches{{{}, {Relu{}}}}, Branches{{{}, {Conv{1, 1}}}}, Linear{2}});
  CHECK(make_schedule(within.layers()).first_trained == 2);
}

TEST_CASE("the reference's gradients are its loss's finite differences", "[model]") {
  for (test::Case const& each : test::small_nets()) {
    INFO(each.name);
    test::ReferenceNet net(each.net);
    std::vector<float> start(each.net.parameter_count());
    initialize(each.net, 4, start);
    test::disturb(start, 5);
    net.parameters.assign(start.begin(), start.end());
    Batch const batch = test::random_batch(each.net.input(), 4, each.net.classes(), 6);
    Generator const random = make_generator(1, 1);
    net.gradient(batch, random);
    double scale = 0;
    for (double const g : net.gradients) scale = std::max(scale, std::abs(g));
    for (std::size_t i = 0; i < net.parameters.size(); i += 1 + net.parameters.size() / 300) {
      double const h = 1e-6, w = net.parameters[i];
      net.parameters[i] = w + h;
      double const above = net.loss(batch, random);
      net.parameters[i] = w - h;
      double const below = net.loss(batch, random);
      net.parameters[i] = w;
      CHECK(net.gradients[i] == Approx((above - below) / (2 * h)).margin(1e-6 * scale + 1e-8));
    }
  }
}
