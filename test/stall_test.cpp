// SPDX-License-Identifier: Apache-2.0
// A long wait says who is missing, in which operation, since when; a short one says nothing.
#include <chrono>
#include <string>
#include <vector>

#include "elastic/stall.hpp"
#include "support/catch.hpp"

namespace {

using elastic::StallWatch;
using std::chrono::seconds;

struct Heard {
  Heard() {
    elastic::on_stall([this](elastic::Stall const& stall) { texts.push_back(elastic::to_text(stall)); });
  }
  ~Heard() { elastic::on_stall({}); }
  std::vector<std::string> texts;
};

}  // namespace

TEST_CASE("a stall is told at a quarter of the timeout and whenever that has doubled") {
  Heard heard;
  StallWatch watch(1, "all_reduce", seconds(60));
  for (int second = 0; second < 60; ++second) watch.look(seconds(second), [] { return 3; });
  REQUIRE(heard.texts.size() == 2);
  CHECK(heard.texts[0] == "elastic: rank 1 has waited in all_reduce for rank 3 for 15 s, gives up in 45 s");
  CHECK(heard.texts[1] == "elastic: rank 1 has waited in all_reduce for rank 3 for 30 s, gives up in 30 s");
}

TEST_CASE("waits of less than two seconds are nobody's business") {
  Heard heard;
  StallWatch watch(0, "receive", seconds(1));
  watch.look(std::chrono::milliseconds(999), [] { return 1; });
  CHECK(heard.texts.empty());
  StallWatch anybody(0, "wait_message", seconds(8));
  anybody.look(seconds(2), [] { return -1; });
  REQUIRE(heard.texts.size() == 1);
  CHECK(heard.texts[0] == "elastic: rank 0 has waited in wait_message for 2 s, gives up in 6 s");
}
