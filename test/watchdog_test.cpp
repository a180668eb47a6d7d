// SPDX-License-Identifier: Apache-2.0
// A silence is told once, with what happened last.
#include <future>
#include <string>

#include "elastic/observer/watchdog.hpp"
#include "support/catch.hpp"

using elastic::observer::Watchdog;

TEST_CASE("a watchdog tells of silence, and after what") {
  std::promise<std::string> first;
  int told = 0;
  {
    Watchdog watchdog(3, std::chrono::milliseconds(20), [&](std::string const& text) {
      if (told++ == 0) first.set_value(text);
    });
    watchdog(elastic::event::Step{3, 41, 100, 0.5, 0.1});
    std::string const text = first.get_future().get();
    CHECK(text.find("nothing has happened on rank 3 for") != std::string::npos);
    CHECK((text.find("since the gradient of step 41") != std::string::npos ||
           text.find("the start") != std::string::npos));
  }
  CHECK(told >= 1);
}

TEST_CASE("a watchdog that nobody lets down says nothing") {
  bool told = false;
  {
    Watchdog watchdog(0, std::chrono::hours(1), [&](std::string const&) { told = true; });
    for (long step = 0; step < 1000; ++step) watchdog(elastic::event::Exchange{0, step, 0});
  }
  CHECK_FALSE(told);
}
