// SPDX-License-Identifier: Apache-2.0
// A run's log: one JSON object a line, readable while the run goes on and after it was killed.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "elastic/error.hpp"
#include "elastic/event.hpp"
#include "elastic/observer/detail/append_file.hpp"

namespace elastic::observer {

/// Appends lines to a file; an Observer of all events. Threads may share one, and processes may share the
/// file: each line is one append.
///
/// Every line has "event" (string) and "seconds" since the log was opened (unless the writer gives its own).
/// The lines of the events, with the meanings and units of event.hpp:
///   "step"      rank, step, steps, loss, rate
///   "exchange"  rank, step, waited
///   "applied"   worker, step, loss, version, staleness, distance
///   "snapshot"  version, last
/// and by convention what a tester writes, which bench/plot reads:
///   "test"      test_error (0 ... 1), samples (used for training so far by all workers), label (of the
///   curve)
/// A number that is not finite is written as null: JSON has no other way.
class JsonlLog {
 public:
  /// Opens `path` for appending and creates it if need be. Throws Error, naming it, if that fails.
  explicit JsonlLog(std::filesystem::path const& path) : file_("log", path) {}

  /// Writes one line: `fields` is a JSON object. Throws ConfigError if it is none, Error if the file cannot
  /// take it (a full disk).
  void write(std::string_view event,
             nlohmann::ordered_json const& fields = nlohmann::ordered_json::object()) {
    if (!fields.is_object()) {
      throw ConfigError(file_.name() + ": event " + std::string(event) + ": expected an object, found " +
                        fields.type_name());
    }
    std::chrono::duration<double> const passed = std::chrono::steady_clock::now() - opened_;
    nlohmann::ordered_json line = {{"event", event}, {"seconds", passed.count()}};
    for (auto const& [key, value] : fields.items()) line[key] = value;
    file_.append(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
  }

  void operator()(event::Step const& e) {
    write("step",
          {{"rank", e.rank}, {"step", e.step}, {"steps", e.steps}, {"loss", e.loss}, {"rate", e.rate}});
  }
  void operator()(event::Exchange const& e) {
    write("exchange", {{"rank", e.rank}, {"step", e.step}, {"waited", e.waited}});
  }
  void operator()(event::Applied const& e) {
    write("applied", {{"worker", e.worker},
                      {"step", e.step},
                      {"loss", e.loss},
                      {"version", e.version},
                      {"staleness", e.staleness},
                      {"distance", e.distance}});
  }
  void operator()(event::Snapshot const& e) { write("snapshot", {{"version", e.version}, {"last", e.last}}); }

 private:
  detail::AppendFile file_;
  std::chrono::steady_clock::time_point opened_ = std::chrono::steady_clock::now();
};

}  // namespace elastic::observer
