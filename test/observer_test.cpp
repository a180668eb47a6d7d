// SPDX-License-Identifier: Apache-2.0
// The log's lines and the progress line's timing and text, under a clock that the test moves.
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "elastic/observer/jsonl.hpp"
#include "elastic/observer/progress.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using elastic::observer::JsonlLog;
using nlohmann::json;

std::vector<json> lines_of(std::filesystem::path const& path) {
  std::ifstream file(path);
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
  return lines;
}

/// Time that passes when the test says so.
struct HandClock {
  using duration = std::chrono::duration<double>;
  using rep = double;
  using period = duration::period;
  using time_point = std::chrono::time_point<HandClock>;
  static inline double seconds = 0;
  static time_point now() { return time_point(duration(seconds)); }
};
using Progress = elastic::observer::BasicProgress<HandClock>;

/// What is printed to it, in memory.
class Page {
 public:
  Page() : stream_(open_memstream(&text_, &size_)) { HandClock::seconds = 0; }
  Page(Page const&) = delete;
  Page& operator=(Page const&) = delete;
  ~Page() {
    std::fclose(stream_);
    free(text_);
  }
  std::FILE* stream() { return stream_; }
  std::string text() {
    std::fflush(stream_);
    return {text_, size_};
  }

 private:
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* stream_;
};

auto count(std::string const& text, char what) { return std::count(text.begin(), text.end(), what); }

}  // namespace

TEST_CASE("every event is one line with documented fields") {
  support::TempFolder const folder;
  auto const path = folder.path() / "log.jsonl";
  {
    JsonlLog log(path);
    elastic::notify(elastic::event::Step{2, 7, 100, 0.5, 0.125}, log);
    elastic::notify(elastic::event::Exchange{1, 8, 0.25}, log);
    elastic::notify(elastic::event::Applied{3, 9, 1.5, 12345678901, 1, 4}, log);
    elastic::notify(elastic::event::Snapshot{12, true}, log);
    log.write("test",
              {{"seconds", 1.5}, {"test_error", 0.25}, {"samples", 1000}, {"label", "easgd \"4\"\n"}});
    log.write("alone");
    log.write("one", {{"field", std::numeric_limits<double>::quiet_NaN()}});
  }
  auto lines = lines_of(path);
  REQUIRE(lines.size() == 7);
  double last = 0;
  for (std::size_t i : {0u, 1u, 2u, 3u, 5u, 6u}) {
    double const seconds = lines[i].at("seconds");
    REQUIRE(seconds >= last);
    last = seconds;
    lines[i].erase("seconds");
  }
  CHECK(lines[0] == json::parse(R"({"event":"step","rank":2,"step":7,"steps":100,"loss":0.5,"rate":0.125})"));
  CHECK(lines[1] == json::parse(R"({"event":"exchange","rank":1,"step":8,"waited":0.25})"));
  CHECK(
      lines[2] ==
      json::parse(
          R"({"event":"applied","worker":3,"step":9,"loss":1.5,"version":12345678901,"staleness":4,"distance":null})"));
  CHECK(lines[3] == json::parse(R"({"event":"snapshot","version":12,"last":true})"));
  CHECK(lines[4] ==
        json::parse(
            R"({"event":"test","seconds":1.5,"test_error":0.25,"samples":1000,"label":"easgd \"4\"\n"})"));
  CHECK(lines[5] == json::parse(R"({"event":"alone"})"));
  CHECK(lines[6] == json::parse(R"({"event":"one","field":null})"));
}

TEST_CASE("a log is appended to, and a line is in the file when write returns") {
  support::TempFolder const folder;
  auto const path = folder.path() / "log.jsonl";
  JsonlLog first(path);
  first.write("a");
  JsonlLog second(path);
  second.write("b");
  first.write("c");
  auto const lines = lines_of(path);
  REQUIRE(lines.size() == 3);
  REQUIRE(lines[0]["event"] == "a");
  REQUIRE(lines[1]["event"] == "b");
  REQUIRE(lines[2]["event"] == "c");
}

TEST_CASE("lines of many threads and logs do not mix") {
  support::TempFolder const folder;
  auto const path = folder.path() / "log.jsonl";
  {
    JsonlLog log(path), other(path);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 100; ++i) (t % 2 ? log : other).write("x", {{"n", t * 100 + i}});
      });
    }
    for (auto& thread : threads) thread.join();
  }
  std::set<int> seen;
  for (json const& line : lines_of(path)) seen.insert(line.at("n").get<int>());
  REQUIRE(seen.size() == 400);
}

TEST_CASE("a log that cannot be written says so") {
  support::TempFolder const folder;
  CHECK_THAT(support::message_of<elastic::Error>([&] { JsonlLog log(folder.path() / "no" / "log"); }),
             ContainsSubstring("no/log: cannot be opened: No such file"));
  JsonlLog log(folder.path() / "log");
  CHECK_THAT(support::message_of<elastic::ConfigError>([&] { log.write("x", 7); }),
             ContainsSubstring("event x: expected an object, found number"));
  if (std::filesystem::exists("/dev/full")) {
    JsonlLog full("/dev/full");
    CHECK_THAT(support::message_of<elastic::Error>([&] { full.write("x"); }),
               ContainsSubstring("/dev/full: cannot write: No space left"));
  }
}

TEST_CASE("a short run prints its last line and nothing else") {
  for (bool terminal : {false, true}) {
    Page page;
    Progress progress({.stream = page.stream(), .terminal = terminal});
    for (long step = 1; step <= 100; ++step) {
      HandClock::seconds += 0.0199;
      progress.update(step, 100, 5000, 0.5);
    }
    REQUIRE(page.text().empty());
    progress.finish();
    CHECK_THAT(page.text(), ContainsSubstring("100/100 100 %  5000 samples/s  loss 0.5  in 0:02"));
    REQUIRE(count(page.text(), '\n') == 1);
    std::size_t const once = page.text().size();
    progress.finish();
    REQUIRE(page.text().size() == once);
  }
}

TEST_CASE("without an update nothing is printed; the destructor finishes") {
  Page page;
  { Progress progress({.stream = page.stream()}); }
  REQUIRE(page.text().empty());
  {
    Progress progress({.stream = page.stream()});
    progress.update(1, 2, 3, 4);
  }
  REQUIRE(page.text() == "1/2 50 %  3 samples/s  loss 4  in 0:00\n");
}

TEST_CASE("in a file there is a whole line every few seconds, without control characters") {
  Page page;
  Progress progress({.stream = page.stream()});
  for (long step = 1; step <= 600; ++step) {  // 60 seconds
    HandClock::seconds += 0.1;
    progress.update(step, 1200, 100, 2, "epoch 3");
  }
  std::string const text = page.text();
  REQUIRE(count(text, '\n') == 12);
  REQUIRE(count(text, '\r') == 0);
  REQUIRE(count(text, '\033') == 0);
  CHECK_THAT(text, ContainsSubstring("20/1200 1 %  100 samples/s  loss 2  1:58 left  epoch 3\n"));
}

TEST_CASE("on a terminal one line is rewritten, at most five times a second") {
  Page page;
  Progress progress({.stream = page.stream(), .terminal = true});
  for (long step = 1; step <= 12000; ++step) {  // 12 seconds
    HandClock::seconds += 0.001;
    progress.update(step, 24000, 100, 2, std::string(100, 'x'));
  }
  std::string const text = page.text();
  REQUIRE(count(text, '\n') == 0);
  REQUIRE(count(text, '\r') >= 45);
  REQUIRE(count(text, '\r') <= 51);
  std::string const last = text.substr(text.rfind('\r') + 1);
  REQUIRE(count(last, 'x') > 10);
  REQUIRE(count(last, 'x') < 79);  // cut at the width of the terminal
}

TEST_CASE("NO_COLOR leaves the line without color") {
  auto const colored = [] {
    Page page;
    Progress progress({.stream = page.stream(), .terminal = true});
    progress.update(1, 2, 3, 4, "more");
    progress.finish();
    return page.text().find("\033[2m") != std::string::npos;
  };
  unsetenv("NO_COLOR");
  REQUIRE(colored());
  setenv("NO_COLOR", "1", 1);
  REQUIRE_FALSE(colored());
  unsetenv("NO_COLOR");
}

TEST_CASE("the time left of a resumed run counts from where it resumed") {
  Page page;
  Progress progress({.stream = page.stream()});
  progress.update(1000, 2000, 1, 1);
  HandClock::seconds = 10;
  progress.update(1010, 2000, 1, 1);  // one a second from here
  CHECK_THAT(page.text(), ContainsSubstring("1010/2000 50 %") && ContainsSubstring("16:30 left"));
}

TEST_CASE("the loss shown is smoothed, starts at the first value and recovers from NaN") {
  auto const shown = [](std::vector<double> const& losses) {
    Page page;
    Progress progress({.stream = page.stream(), .smoothing = 0.9});
    for (double loss : losses) progress.update(1, 0, 1, loss);
    progress.finish();
    std::string const text = page.text();
    return text.substr(text.find("loss ") + 5, text.find("  in ") - text.find("loss ") - 5);
  };
  double const nan = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(shown({3}) == "3");
  REQUIRE(shown({3, 3, 3}) == "3");
  REQUIRE(shown({1, 2}) == "1.526");  // (0.9 * 1 + 2) / 1.9
  REQUIRE(shown({1, nan}).find("nan") != std::string::npos);
  REQUIRE(shown({1, nan, 5}) == "5");
}
