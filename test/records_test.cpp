// SPDX-License-Identifier: Apache-2.0
// What observers leave in files, decoded by other means than those that wrote it.
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/observer/cost.hpp"
#include "elastic/observer/records.hpp"
#include "elastic/observer/status.hpp"
#include "elastic/observer/tensorboard.hpp"
#include "elastic/observer/trace.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/threads.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

std::string bytes_of(fs::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path only_file(fs::path const& folder) {
  std::vector<fs::path> const files(fs::directory_iterator(folder), {});
  REQUIRE(files.size() == 1);
  return files[0];
}

template <class T>
T take(std::string_view& bytes) {
  T value;
  REQUIRE(bytes.size() >= sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

/// CRC-32C bit by bit, masked as TFRecord does.
std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (char const byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
  }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

std::uint64_t varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    auto const byte = take<unsigned char>(bytes);
    value |= std::uint64_t(byte & 127) << shift;
    if (byte < 128) return value;
  }
}

/// The fields of a protobuf message, each number's last value as bytes.
std::map<int, std::string> fields_of(std::string_view bytes) {
  std::map<int, std::string> fields;
  while (!bytes.empty()) {
    auto const key = varint(bytes);
    std::uint64_t length = 0;
    switch (key & 7) {
      case 0: {
        auto const value = varint(bytes);
        fields[int(key >> 3)] = {reinterpret_cast<char const*>(&value), sizeof value};
        continue;
      }
      case 1: length = 8; break;
      case 2: length = varint(bytes); break;
      case 5: length = 4; break;
      default: FAIL("wire type " << (key & 7));
    }
    REQUIRE(bytes.size() >= length);
    fields[int(key >> 3)] = bytes.substr(0, length);
    bytes.remove_prefix(length);
  }
  return fields;
}

template <class T>
T as(std::string const& bytes) {
  std::string_view view = bytes;
  return take<T>(view);
}

struct Point {
  std::string tag;
  float value;
  std::int64_t step;
  bool operator==(Point const&) const = default;
};

/// The points of an event file whose first record names its version.
std::vector<Point> points_of(fs::path const& path) {
  std::string const file = bytes_of(path);
  std::string_view rest = file;
  std::vector<Point> points;
  for (bool first = true; !rest.empty(); first = false) {
    std::string_view const head = rest.substr(0, 8);
    auto const length = take<std::uint64_t>(rest);
    REQUIRE(take<std::uint32_t>(rest) == masked_crc(head));
    REQUIRE(rest.size() >= length);
    std::string_view const record = rest.substr(0, length);
    rest.remove_prefix(length);
    REQUIRE(take<std::uint32_t>(rest) == masked_crc(record));
    auto event = fields_of(record);
    REQUIRE(as<double>(event.at(1)) > 1.7e9);  // later than 2023
    if (first) {
      REQUIRE(event.at(3) == "brain.Event:2");
      continue;
    }
    auto const point = fields_of(fields_of(event.at(5)).at(1));
    points.push_back({point.at(1), as<float>(point.at(2)), as<std::int64_t>(event.at(2))});
  }
  return points;
}

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

/// The slices of a trace: name, begin and length in microseconds.
std::vector<std::tuple<std::string, long, long>> slices_of(json const& trace) {
  std::vector<std::tuple<std::string, long, long>> slices;
  for (json const& event : trace)
    if (event.at("ph") == "X") slices.emplace_back(event.at("name"), event.at("ts"), event.at("dur"));
  return slices;
}

/// The lines of a log with this event.
std::vector<json> lines_of(fs::path const& log, std::string const& event) {
  std::ifstream file(log);
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);)
    if (json entry = json::parse(line); entry.at("event") == event) lines.push_back(entry);
  return lines;
}

}  // namespace

TEST_CASE("the test's own checksum is CRC-32C") {
  std::uint32_t const crc = 0xE3069283u;  // of "123456789": RFC 3720's polynomial
  REQUIRE(masked_crc("123456789") == (crc >> 15 | crc << 17) + 0xA282EAD8u);
}

TEST_CASE("a TensorBoard file holds the points that were written") {
  support::TempFolder const folder;
  {
    elastic::observer::TensorBoard board(folder.path() / "run" / "worker 0");
    board.scalar("a", 0.1, 0);
    board.scalar(std::string(300, 'x'), -2.5, 1'000'000'000'000);
    board.scalar("odd", std::numeric_limits<double>::quiet_NaN(), 127);
  }
  auto const path = only_file(folder.path() / "run" / "worker 0");
  CHECK_THAT(path.filename().string(), Catch::Matchers::StartsWith("events.out.tfevents."));
  auto const points = points_of(path);
  REQUIRE(points.size() == 3);
  CHECK(points[0] == Point{"a", 0.1f, 0});
  CHECK(points[1] == Point{std::string(300, 'x'), -2.5f, 1'000'000'000'000});
  CHECK(points[2].tag == "odd");
  CHECK(std::isnan(points[2].value));
  CHECK(points[2].step == 127);
}

TEST_CASE("events become curves, thinned to their means") {
  support::TempFolder const folder;
  elastic::observer::TensorBoard all(folder.path() / "all", {.every = 0});
  elastic::observer::TensorBoard few(folder.path() / "few", {.every = 1e6});
  for (auto* board : {&all, &few}) {
    elastic::notify(elastic::event::Step{1, 5, 10, 2.0, 0.25}, *board);
    elastic::notify(elastic::event::Step{1, 6, 10, 1.0, 0.5, 0.875}, *board);
    elastic::notify(elastic::event::Exchange{1, 6, 0.75}, *board);
    elastic::notify(elastic::event::Applied{2, 6, 3.5, 77}, *board);
  }
  CHECK(points_of(only_file(folder.path() / "all")) == std::vector<Point>{{"train/loss", 2.0f, 5},
                                                                          {"train/learning_rate", 0.25f, 5},
                                                                          {"train/loss", 1.0f, 6},
                                                                          {"train/learning_rate", 0.5f, 6},
                                                                          {"train/error", 0.875f, 6},
                                                                          {"exchange/waited", 0.75f, 6},
                                                                          {"center/loss", 3.5f, 77}});
  CHECK(points_of(only_file(folder.path() / "few")).size() == 5);
}

TEST_CASE("a TensorBoard file that cannot be written says so") {
  support::TempFolder const folder;
  auto const file = folder.write("file", "");
  CHECK_THROWS(elastic::observer::TensorBoard(file / "inside"));
}

TEST_CASE("a trace joins what only trifles part, and leaves those out") {
  using elastic::Doing;
  support::TempFolder const folder;
  auto const path = folder.write("trace.json", "of an earlier run");
  auto const start = Clock::now();
  double const before = elastic::observer::detail::unix_time();
  {
    elastic::observer::Trace trace(path, 3, "worker");
    auto const tell = [&](Doing what, int begin, int end) {
      elastic::notify(
          elastic::event::Interval{3, what, start + microseconds(begin), start + microseconds(end)}, trace);
    };
    tell(Doing::computing, 1000, 1900);
    tell(Doing::waiting, 1900, 1950);
    tell(Doing::exchanging, 1950, 1951);
    tell(Doing::waiting, 1951, 2000);
    tell(Doing::exchanging, 2000, 2003);
    elastic::notify(elastic::event::Lost{2, "it said \"\xff\""}, trace);
    tell(Doing::waiting, 2100, 2200);
  }
  json const trace = json::parse(bytes_of(path));  // the closing bracket is there
  auto const slices = slices_of(trace);
  REQUIRE(slices.size() == 3);
  long const origin = std::get<1>(slices[0]) - 1000;
  CHECK(std::abs(double(origin) - 1e6 * before) < 60e6);
  auto const near = [](long a, long b) { return std::abs(a - b) <= 1; };
  char const* const names[] = {"computing", "waiting", "waiting"};
  long const begins[] = {1000, 1900, 2100}, lengths[] = {900, 100, 100};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(std::get<0>(slices[i]) == names[i]);
    CHECK(near(std::get<1>(slices[i]) - origin, begins[i]));
    CHECK(near(std::get<2>(slices[i]), lengths[i]));
  }
  for (json const& event : trace) CHECK(event.at("pid") == 3);
  CHECK_THAT(trace[0].at("args").at("name").get<std::string>(), Catch::Matchers::StartsWith("worker 3 on "));
}

TEST_CASE("every role of a run leaves a trace of slices that do not overlap, and reports the same seconds") {
  support::TempFolder const folder;
  std::mutex mutex;
  std::map<int, elastic::Report> reports;
  elastic::transport::Threads::run(4, [&](auto& net) {
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 1000, 0.5f);
    elastic::data::Noise<> data(1000, 1.0f, unsigned(net.rank()));
    elastic::observer::Trace trace(folder.path() / std::to_string(net.rank()), net.rank(), "rank",
                                   {.shortest = 0});
    elastic::Trainer trainer(net, elastic::rule::AsyncEasgd{.period = 2}, cpu);
    elastic::Report const report =
        trainer.run(model, data, {.steps = 20, .testers = 1, .test_every = 0}, trace);
    std::lock_guard const lock(mutex);
    reports[net.rank()] = report;
  });
  std::map<int, std::map<std::string, double>> seconds;
  for (int rank = 0; rank < 4; ++rank) {
    json const trace = json::parse(bytes_of(folder.path() / std::to_string(rank)));
    long end = 0;
    for (auto const& [name, begin, length] : slices_of(trace)) {
      REQUIRE(begin >= end);
      end = begin + length;
      seconds[rank][name] += 1e-6 * double(length);
    }
    std::map<std::string, int> marks;
    for (json const& event : trace)
      if (event.at("ph") == "i") ++marks[event.at("name")];
    if (rank == 0) CHECK(marks["delta of 1"] + marks["delta of 2"] == 20);
    if (rank == 1 || rank == 2) CHECK((marks["step"] == 20 && marks["exchange"] == 10));
    if (rank == 3) CHECK(marks["snapshot"] == int(reports[3].exchanges));
    elastic::Seconds const& told = reports[rank].seconds;
    CHECK(seconds[rank]["computing"] == Approx(told.computing).margin(1e-3));
    CHECK(seconds[rank]["waiting"] == Approx(told.waiting).margin(1e-3));
    CHECK(seconds[rank]["exchanging"] == Approx(told.exchanging).margin(1e-3));
  }
  CHECK(reports[1].seconds.computing > 0);
  CHECK(reports[3].seconds.observing > 0);
}

TEST_CASE("records hold curves and the seconds that 5,120 images took, whatever the batch") {
  using elastic::Doing;
  support::TempFolder const folder;
  elastic::observer::JsonlLog log(folder.path() / "log.jsonl");
  auto time = Clock::time_point() + std::chrono::hours(1);
  {
    // 2 workers and 1,000 images a step: a line every 3 steps, of 6,000 images
    elastic::observer::Records records(&log, {.batch = 1000, .workers = 2, .images_per_epoch = 8000});
    auto const spend = [&](Doing what, int milliseconds) {
      auto const begin = std::exchange(time, time + std::chrono::milliseconds(milliseconds));
      elastic::notify(elastic::event::Interval{1, what, begin, time}, records);
    };
    for (long step = 100; step < 108; ++step) {  // of a run that goes on
      spend(Doing::loading, 10);
      spend(Doing::computing, 200);
      elastic::notify(elastic::event::Step{1, step, 1000, double(step), 0.5, step < 103 ? 0.25 : 0.125},
                      records);
      spend(Doing::exchanging, 20);
      spend(Doing::waiting, step == 101 ? 670 : 70);
    }
    records.finish();
    records.finish();
  }
  auto const lines = lines_of(folder.path() / "log.jsonl", "train");
  REQUIRE(lines.size() == 3);
  auto const number = [&](std::size_t line, char const* key) { return lines[line].at(key).get<double>(); };
  double const per = 5.120 / 6;
  CHECK(number(0, "total") == Approx(1.5 * per));
  CHECK(number(0, "computing") == Approx(0.6 * per));
  CHECK(number(0, "exchanging") == Approx(0.06 * per));
  CHECK(number(0, "waiting") == Approx(0.81 * per));
  CHECK(number(0, "loading") == Approx(0.03 * per));
  CHECK(number(0, "observing") == 0);
  CHECK(number(0, "images") == 6000);
  CHECK(number(0, "samples") == 206000);
  CHECK(number(0, "step") == 103);
  CHECK(number(0, "epoch") == Approx(25.75));
  CHECK(number(0, "loss") == Approx(101));
  CHECK(number(0, "error") == Approx(0.25));
  CHECK(number(1, "total") == Approx(0.9 * per));
  CHECK(number(1, "waiting") == Approx(0.21 * per));
  CHECK(number(1, "error") == Approx(0.125));
  CHECK(number(2, "images") == 4000);  // the rest
  CHECK(number(2, "total") == Approx(0.6 * 5.120 / 4));
  auto const epochs = lines_of(folder.path() / "log.jsonl", "epoch");
  REQUIRE(epochs.size() == 2);
  CHECK(epochs[0].at("epoch") == 26);  // after step 104
  CHECK(epochs[1].at("epoch") == 27);
  CHECK(epochs[1].at("took").get<double>() >= 0);
}

TEST_CASE("a worker's records add up to its report") {
  support::TempFolder const folder;
  elastic::observer::JsonlLog log(folder.path() / "log.jsonl");
  elastic::observer::Records records(&log, {.batch = 512, .images_per_epoch = 51200});
  elastic::transport::Serial net;
  elastic::device::Cpu cpu;
  elastic::model::Quadratic<> model(cpu, 1000, 0.5f);
  elastic::data::Noise<> data(1000, 1.0f, 1);
  elastic::Trainer trainer(net, elastic::rule::SyncEasgd{.period = 2}, cpu);
  elastic::Report const report = trainer.run(model, data, {.steps = 1005}, records);
  records.finish();
  auto const lines = lines_of(folder.path() / "log.jsonl", "train");
  REQUIRE(lines.size() == 101);
  std::map<std::string, double> sums;
  for (json const& line : lines)
    for (char const* key : {"computing", "exchanging", "loading", "total"})
      sums[key] += line.at(key).get<double>() * line.at("images").get<double>() / 5120;
  CHECK(sums["computing"] == Approx(report.seconds.computing));
  CHECK(sums["exchanging"] ==
        Approx(report.seconds.exchanging).epsilon(0.05));  // what comes before the first step
  CHECK(sums["loading"] == Approx(report.seconds.loading));
  CHECK(sums["total"] >= 0.9 * report.seconds.total());
  CHECK(lines_of(folder.path() / "log.jsonl", "epoch").size() == 10);
}

TEST_CASE("the cost of a rank in one line") {
  elastic::Report report;
  report.role = elastic::Role::worker;
  report.seconds = {.computing = 6, .exchanging = 1, .waiting = 3};
  report.traffic = {
      .sent_bytes = 2'500'000, .received_bytes = 17'500'000, .sent_messages = 3, .received_messages = 4};
  CHECK(elastic::observer::cost_line(2, report) ==
        "rank 2 worker  10.0 s: computing 60.0 %, exchanging 10.0 %, waiting 30.0 %; sent 2.5 MB in 3 "
        "messages, "
        "received 17.5 MB in 4 messages, 2.0 MB/s");
  CHECK(elastic::observer::cost_fields(2, report).at("received_bytes") == 17'500'000);
  CHECK_THAT(elastic::observer::cost_line(0, {}), ContainsSubstring("rank 0 worker  0.0 s:; sent 0.0 MB"));
}

TEST_CASE("every rank's status is a whole file at any time, and in the end the whole run") {
  support::TempFolder const folder;
  auto const path = [&](int rank) { return folder.path() / ("status-" + std::to_string(rank) + ".json"); };
  std::atomic<bool> ended{false};
  std::atomic<int> whole{0}, torn{0};
  std::thread reader([&] {  // sees old or new, nothing half
    while (!ended)
      for (int rank = 0; rank < 4; ++rank)
        if (std::string const text = bytes_of(path(rank)); !text.empty())
          ++(json::parse(text, nullptr, false).is_discarded() ? torn : whole);
  });
  elastic::transport::Threads::run(4, [&](auto& net) {
    char const* const roles[] = {"server", "worker", "worker", "tester"};
    elastic::observer::Status status(path(net.rank()), net.rank(), roles[net.rank()], {.every = 1e-3});
    elastic::device::Cpu cpu;
    elastic::model::Quadratic<> model(cpu, 1000, 0.5f);
    for (std::size_t i = 0; i < 1000; ++i) model.parameters()[i] = float(i);
    elastic::data::Noise<> data(1000, 1.0f, unsigned(net.rank()));
    elastic::Trainer trainer(
        net, elastic::rule::AsyncEasgd{.period = 2, .order = elastic::rule::Order::post_step}, cpu);
    trainer.run(
        model, data,
        {.steps = 200, .sgd = {.learning_rate = 0.1}, .testers = 1, .test_every = 0, .distance_every = 1e-9},
        status);
  });
  ended = true;
  reader.join();
  CHECK(whole > 0);
  CHECK(torn == 0);
  std::vector<json> ranks;
  for (int rank = 0; rank < 4; ++rank) ranks.push_back(json::parse(bytes_of(path(rank))));
  for (int rank = 0; rank < 4; ++rank) {
    CHECK(ranks[std::size_t(rank)].at("rank") == rank);
    CHECK(ranks[std::size_t(rank)].at("state") == "ended");
    CHECK(ranks[std::size_t(rank)].at("written").get<double>() >=
          ranks[std::size_t(rank)].at("last_event").get<double>());
  }
  json const& server = ranks[0];
  CHECK(server.at("exchanges") == 200);
  CHECK(server.at("staleness") == json{{"0", 200}});  // threads move the center where it is
  REQUIRE(server.at("workers").size() == 2);
  for (json const& worker : server.at("workers")) {
    CHECK(worker.at("steps") == 200);
    CHECK(worker.at("exchanges") == 100);
    CHECK(worker.at("distance").get<double>() > 0);
    CHECK(worker.at("last_contribution").get<double>() > 1.7e9);
  }
  CHECK(ranks[1].at("steps") == 200);
  CHECK(ranks[1].at("of") == 200);
  CHECK(ranks[1].at("exchanges") == 100);
  CHECK(ranks[1].at("seconds").at("computing").get<double>() > 0);
  CHECK_FALSE(ranks[1].contains("workers"));
}
