// SPDX-License-Identifier: Apache-2.0
// How a rank is doing right now, in a file for whoever looks: nobody can ask a rank anything, so nobody can
// disturb it.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "elastic/event.hpp"
#include "elastic/observer/detail/this_process.hpp"
#include "elastic/report.hpp"

namespace elastic::observer {

struct StatusOptions {
  double every = 1;  ///< seconds from one writing of the file to the next
};

/// Replaces a file by the rank's state every second, from a thread of its own: the age of the file tells
/// whether the process lives, what it says whether it takes part (docs/records.md). A server's names its
/// workers, with how stale their deltas were and how far they are from the center. A file that cannot be
/// written is said once; training goes on.
class Status {
 public:
  Status(std::filesystem::path path, int rank, std::string_view role, StatusOptions options = {})
      : path_(std::move(path)), rank_(rank), role_(role), options_(options), thread_([this] { run(); }) {}
  Status(Status const&) = delete;
  Status& operator=(Status const&) = delete;
  ~Status() {
    {
      std::lock_guard const lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void operator()(event::Step const& e) {
    std::lock_guard const lock(mutex_);
    note();
    steps_ = e.step + 1;
    of_ = e.steps;
    loss_ = e.loss;
  }
  void operator()(event::Exchange const&) {
    std::lock_guard const lock(mutex_);
    note();
    ++exchanges_;
  }
  void operator()(event::Applied const& e) {
    std::lock_guard const lock(mutex_);
    note();
    exchanges_ = e.version;
    loss_ = e.loss;
    ++staleness_[e.staleness];
    Worker& worker = seen(e.worker, "here");
    worker.step = e.step + 1;
    worker.exchanges = e.sequence;
    worker.loss = e.loss;
    worker.staleness = e.staleness;
    worker.distance = e.distance;
    worker.contributed = last_event_;
  }
  void operator()(event::Snapshot const& e) {
    std::lock_guard const lock(mutex_);
    note();
    exchanges_ = e.version;
  }
  void operator()(event::Joined const& e) {
    std::lock_guard const lock(mutex_);
    note();
    seen(e.worker, "here");
  }
  void operator()(event::Lost const& e) {
    std::lock_guard const lock(mutex_);
    note();
    seen(e.worker, "lost");
  }
  void operator()(event::Refused const& e) {
    std::lock_guard const lock(mutex_);
    note();
    seen(e.worker, "here").refused += e.pieces;
  }
  void operator()(event::Interval const& e) {
    std::lock_guard const lock(mutex_);
    seconds_.of(e.what) += std::chrono::duration<double>(e.end - e.begin).count();
  }

 private:
  using Json = nlohmann::ordered_json;

  struct Worker {
    std::string state;
    long step = 0;
    std::uint64_t exchanges = 0, staleness = 0, refused = 0;
    double loss = nan, distance = nan, contributed = nan;
  };
  static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

  void note() { last_event_ = detail::unix_time(); }
  Worker& seen(int rank, char const* state) {
    Worker& worker = workers_[rank];
    worker.state = state;
    return worker;
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (bool last = false; !last;) {
      last = ended_;
      std::string const text = describe().dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
      lock.unlock();
      replace(text);
      lock.lock();
      if (!last)
        changed_.wait_for(lock, std::chrono::duration<double>(options_.every), [&] { return ended_; });
    }
  }

  Json describe() const {
    Json json{{"rank", rank_},
              {"role", role_},
              {"host", detail::host_name()},
              {"process", ::getpid()},
              {"state", ended_ ? "ended" : "here"},
              {"started", started_},
              {"written", detail::unix_time()},
              {"every", options_.every},
              {"last_event", last_event_},
              {"steps", steps_},
              {"of", of_},
              {"exchanges", exchanges_},
              {"loss", loss_}};
    Json& seconds = json["seconds"] = Json::object();
    Seconds spent = seconds_;
    for (auto const what :
         {Doing::computing, Doing::exchanging, Doing::waiting, Doing::loading, Doing::observing})
      seconds[std::string(to_string(what))] = spent.of(what);
    if (role_ != "server") return json;
    Json& staleness = json["staleness"] = Json::object();
    for (auto const& [stale, count] : staleness_) staleness[std::to_string(stale)] = count;
    Json& workers = json["workers"] = Json::array();
    for (auto const& [rank, worker] : workers_)
      workers.push_back({{"rank", rank},
                         {"state", worker.state},
                         {"steps", worker.step},
                         {"exchanges", worker.exchanges},
                         {"loss", worker.loss},
                         {"last_contribution", worker.contributed},
                         {"staleness", worker.staleness},
                         {"distance", worker.distance},
                         {"refused", worker.refused}});
    return json;
  }

  /// A reader sees the old file or the new one.
  void replace(std::string const& text) {
    std::string const beside = path_.string() + ".new";
    std::ofstream file(beside, std::ios::trunc);
    file << text;
    file.close();
    std::error_code failure;
    if (file) std::filesystem::rename(beside, path_, failure);
    if ((file && !failure) || std::exchange(told_, true)) return;
    std::fprintf(stderr, "status %s: cannot write: %s\n", path_.c_str(),
                 failure ? failure.message().c_str() : std::strerror(errno));
  }

  std::filesystem::path path_;
  int rank_;
  std::string role_;
  StatusOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false, told_ = false;
  double started_ = detail::unix_time(), last_event_ = started_;
  long steps_ = 0, of_ = 0;
  std::uint64_t exchanges_ = 0;
  double loss_ = nan;
  Seconds seconds_;
  std::map<std::uint64_t, std::uint64_t> staleness_;  // how many deltas were how stale
  std::map<int, Worker> workers_;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace elastic::observer
