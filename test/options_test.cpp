// SPDX-License-Identifier: Apache-2.0
// Options as text: what is read, what is refused and in which words; the values that rules refuse.
#include <cmath>
#include <limits>
#include <string>

#include "elastic/optimizer/sgd.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using support::message_of;

struct Policy {
  long count = 3;
  double rate = 0.5;
  bool flag = false;
  std::optional<double> maybe{};
  std::vector<double> list{1, 2};
  std::string text = "old";
  rule::Order order = rule::Order::jacobi;
  static constexpr auto options = std::tuple{Option{"count", &Policy::count, "", 1.0, 9.0},
                                             Option{"rate", &Policy::rate, "", 0.0},
                                             Option{"flag", &Policy::flag, ""},
                                             Option{"maybe", &Policy::maybe, "", -1.0, 1.0},
                                             Option{"list", &Policy::list, "", 0.0},
                                             Option{"text", &Policy::text, ""},
                                             Option{"order", &Policy::order, ""}};
};

TEST_CASE("an option is set from text") {
  Policy p;
  CHECK(set_option(p, "count", "7"));
  CHECK(set_option(p, "rate", "1e-3"));
  CHECK(set_option(p, "flag", "true"));
  CHECK(set_option(p, "maybe", "-0.25"));
  CHECK(set_option(p, "list", "0.5,8,16"));
  CHECK(set_option(p, "text", "two words"));
  CHECK(set_option(p, "order", "post_step"));
  CHECK(p.count == 7);
  CHECK(p.rate == 1e-3);
  CHECK(p.flag);
  CHECK(p.maybe == -0.25);
  CHECK(p.list == std::vector{0.5, 8.0, 16.0});
  CHECK(p.text == "two words");
  CHECK(p.order == rule::Order::post_step);
  CHECK(set_option(p, "maybe", ""));
  CHECK_FALSE(p.maybe.has_value());
  CHECK(set_option(p, "list", ""));
  CHECK(p.list.empty());
  CHECK_FALSE(set_option(p, "counts", "7"));  // whose it is, the caller must know
}

TEST_CASE("text that an option does not expect is refused, and nothing changes") {
  struct {
    char const *key, *text, *expected;
  } const cases[]{{"count", "10", "count: '10' is not a whole number in [1, 9]"},
                  {"count", "0", "a whole number in [1, 9]"},
                  {"count", "7.5", "a whole number in [1, 9]"},
                  {"count", "7 ", "a whole number in [1, 9]"},
                  {"count", "", "a whole number in [1, 9]"},
                  {"count", "99999999999999999999", "a whole number in [1, 9]"},
                  {"rate", "-1e-9", "rate: '-1e-9' is not a number >= 0"},
                  {"rate", "nan", "a number >= 0"},
                  {"rate", "fast", "a number >= 0"},
                  {"flag", "yes", "flag: 'yes' is not true or false"},
                  {"maybe", "1.5", "a number in [-1, 1]"},
                  {"list", "1,,2", "list: '1,,2' is not numbers separated by commas"},
                  {"list", "1,-2", "numbers separated by commas"},
                  {"order", "gauss_seidel", "order: 'gauss_seidel' is not jacobi or post_step"}};
  for (auto const& c : cases) {
    Policy p;
    CAPTURE(c.key, c.text);
    CHECK_THAT(message_of<ConfigError>([&] { set_option(p, c.key, c.text); }), ContainsSubstring(c.expected));
    CHECK(describe(p) == describe(Policy{}));
  }
}

TEST_CASE("what describe prints can be read back, to the last bit") {
  Policy p;
  p.rate = 1.0 / 3;
  p.maybe = std::nextafter(0.1, 1);
  p.list = {1e-300, 2.0 / 7};
  CHECK_THAT(describe(Policy{}), ContainsSubstring("count=3\nrate=0.5\nflag=false\nmaybe=\nlist=1,2\n"));
  Policy read;
  std::string text = describe(p);
  while (!text.empty()) {
    auto const line = text.substr(0, text.find('\n'));
    text.erase(0, line.size() + 1);
    CHECK(set_option(read, line.substr(0, line.find('=')), line.substr(line.find('=') + 1)));
  }
  CHECK(read.rate == p.rate);
  CHECK(read.maybe == p.maybe);
  CHECK(read.list == p.list);
}

TEST_CASE("numbers that were set in code are checked against the same ranges") {
  Policy p;
  CHECK_NOTHROW(check_options(p));
  p.rate = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(message_of<ConfigError>([&] { check_options(p); }), ContainsSubstring("rate: 'nan'"));
  p.rate = -1;
  CHECK_THROWS_AS(check_options(p), ConfigError);
}

TEST_CASE("elastic rules refuse rates that cannot be stable, and say the bound") {
  rule::SyncEasgd sync{.alpha = 0.4};
  CHECK_NOTHROW(sync.check(4));
  sync.alpha = 0.41;
  CHECK_NOTHROW(sync.check(3));
  auto const message = message_of<ConfigError>([&] { sync.check(4); });
  CHECK_THAT(message, ContainsSubstring("sync_easgd: alpha = 0.41 cannot be stable"));
  CHECK_THAT(message, ContainsSubstring("2 / (4 + 1) = 0.4"));
  CHECK_THAT(message, ContainsSubstring("0.9 / 4 = 0.225"));

  rule::AsyncEasgd async{.alpha = 1};
  CHECK_NOTHROW(async.check(64));
  async.alpha = 1.01;
  CHECK_THAT(message_of<ConfigError>([&] { async.check(64); }), ContainsSubstring("= 1;"));

  sync = {.alpha = 0.2, .server_alpha = 0.46};
  CHECK_THAT(message_of<ConfigError>([&] { sync.check(4); }),
             ContainsSubstring("alpha + 4 server_alpha must be at most 2"));
  sync.server_alpha = 0.45;
  CHECK_NOTHROW(sync.check(4));
}

TEST_CASE("elastic rules refuse options that contradict each other or are no numbers") {
  auto const refusal = [](auto const& rule) { return message_of<ConfigError>([&] { rule.check(4); }); };
  CHECK_THAT(refusal(rule::SyncEasgd{.alpha = .1, .beta = .4}), ContainsSubstring("alpha and beta"));
  CHECK_THAT(refusal(rule::AsyncEasgd{.alpha = .1, .beta = .4}), ContainsSubstring("alpha and beta"));
  CHECK_THAT(refusal(rule::SyncEasgd{.alpha = 0, .server_alpha = .1}), ContainsSubstring("server_alpha"));
  CHECK_THAT(refusal(rule::SyncEasgd{.alpha = std::nan("")}), ContainsSubstring("alpha: 'nan'"));
  CHECK_THAT(refusal(rule::AsyncEasgd{.alpha = -.1}), ContainsSubstring("alpha: '-0.1'"));
  CHECK_THAT(refusal(rule::AsyncEasgd{.period = 0}), ContainsSubstring("period: '0'"));
  CHECK_NOTHROW(rule::SyncEasgd{}.check(1000));
}

TEST_CASE("alpha defaults to 0.9 / workers, and beta is shared out") {
  CHECK(rule::moving_rate(rule::SyncEasgd{}, 4).worker == 0.225);
  CHECK(rule::moving_rate(rule::SyncEasgd{.beta = 0.5}, 5).worker == 0.1);
  CHECK(rule::moving_rate(rule::SyncEasgd{.alpha = 0.3}, 5).worker == 0.3);
  CHECK(rule::moving_rate(rule::SyncEasgd{.alpha = 0.3}, 5).gain(0) == 1);
  CHECK(rule::moving_rate(rule::AsyncEasgd{.alpha = 0.5, .server_alpha = 0.25}, 5).gain(0) == 0.5);
}

TEST_CASE("BSP refuses a period for what is put together in every step") {
  using rule::Combine;
  CHECK_NOTHROW(rule::Bsp{.combine = Combine::parameters, .period = 8}.check(2));
  for (Combine const combine : {Combine::gradients, Combine::velocities})
    CHECK_THAT(message_of<ConfigError>([&] { rule::Bsp{.combine = combine, .period = 8}.check(2); }),
               ContainsSubstring("bsp: period = 8 is for combine = parameters"));
}

TEST_CASE("the optimizer refuses what cannot train") {
  auto const refusal = [](optimizer::Sgd const& sgd) {
    return message_of<ConfigError>([&] { sgd.check(); });
  };
  CHECK_NOTHROW(optimizer::Sgd{}.check());
  CHECK_THAT(refusal({.momentum = 1}), ContainsSubstring("momentum: 1 never forgets"));
  CHECK_THAT(refusal({.momentum = -.1}), ContainsSubstring("momentum: '-0.1' is not a number in [0, 1]"));
  CHECK_THAT(refusal({.learning_rate = std::nan("")}), ContainsSubstring("learning_rate: 'nan'"));
  CHECK_THAT(refusal({.weight_decay = -1}), ContainsSubstring("weight_decay"));
  CHECK_THAT(refusal({.schedule = {.decay = optimizer::Decay::polynomial}}), ContainsSubstring("end_epoch"));
  CHECK_THAT(refusal({.schedule = {.factor = 2}}), ContainsSubstring("factor: '2'"));
}

}  // namespace
