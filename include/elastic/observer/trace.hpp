// SPDX-License-Identifier: Apache-2.0
// A timeline of one rank for ui.perfetto.dev or chrome://tracing: what it did when, one slice after the
// other.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/event.hpp"
#include "elastic/observer/detail/append_file.hpp"
#include "elastic/observer/detail/this_process.hpp"

namespace elastic::observer {

struct TraceOptions {
  double shortest =
      5e-6;  ///< seconds; shorter slices are left out, and equal ones that only such ones part are joined
  double every = 1;  ///< seconds from one write to the file to the next
};

/// Writes a rank's intervals, exchanges, deltas, snapshots, joins and losses as events of Chrome's JSON
/// format, one a line, in microseconds since 1970 by the system's clock: files of several ranks fit together
/// (samples/merge_traces). A file whose writer was killed lacks the last bracket, which the viewers do not
/// mind. Use it from one thread.
class Trace {
 public:
  /// `name` is the process's in the viewer: the role, say. An old file at `path` is replaced. Throws Error if
  /// that fails.
  Trace(std::filesystem::path const& path, int rank, std::string_view name, TraceOptions options = {})
      : options_(options), rank_(rank), file_("trace", fresh(path)) {
    std::string const process = std::string(name) + " " + std::to_string(rank) + " on " +
                                detail::host_name() + ", process " + std::to_string(::getpid());
    line({{"ph", "M"}, {"name", "process_name"}, {"args", {{"name", process}}}});
    line({{"ph", "M"}, {"name", "process_sort_index"}, {"args", {{"sort_index", rank}}}});
  }
  Trace(Trace const&) = delete;
  Trace& operator=(Trace const&) = delete;
  ~Trace() {
    try {
      flush_slice();
      file_.append(buffer_ + "\n]\n");
    } catch (std::exception const& failure) {
      std::fprintf(stderr, "%s\n", failure.what());
    }
  }

  void operator()(event::Interval const& e) {
    if (slice_ && slice_->what == e.what && seconds(e.begin - slice_->end) < options_.shortest) {
      slice_->end = e.end;
    } else if (seconds(e.end - e.begin) >= options_.shortest) {
      flush_slice();
      slice_ = e;
    }
  }
  void operator()(event::Step const& e) {
    mark("step", {{"step", e.step}, {"loss", e.loss}, {"rate", e.rate}});
  }
  void operator()(event::Exchange const& e) { mark("exchange", {{"step", e.step}, {"waited", e.waited}}); }
  void operator()(event::Applied const& e) {
    mark("delta of " + std::to_string(e.worker),
         {{"step", e.step}, {"loss", e.loss}, {"version", e.version}});
  }
  void operator()(event::Snapshot const& e) { mark("snapshot", {{"version", e.version}, {"last", e.last}}); }
  void operator()(event::Joined const& e) {
    mark(std::to_string(e.worker) + " joined", {{"version", e.version}});
  }
  void operator()(event::Lost const& e) { mark(std::to_string(e.worker) + " lost", {{"why", e.why}}); }
  void operator()(event::Refused const& e) {
    mark("refused " + std::to_string(e.worker), {{"step", e.step}, {"pieces", e.pieces}});
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Json = nlohmann::ordered_json;

  static std::filesystem::path const& fresh(std::filesystem::path const& path) {
    std::filesystem::remove(path);
    return path;
  }
  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  /// Microseconds since 1970.
  std::int64_t at(Clock::time_point when) const {
    return std::chrono::duration_cast<std::chrono::microseconds>(epoch_ + (when - started_)).count();
  }

  /// A moment, told by an event that is allowed to throw: here the file is written.
  void mark(std::string const& name, Json args) {
    auto const now = Clock::now();
    line({{"ph", "i"}, {"name", name}, {"ts", at(now)}, {"tid", 0}, {"s", "t"}, {"args", std::move(args)}});
    if (seconds(now - written_) < options_.every) return;
    written_ = now;
    file_.append(std::exchange(buffer_, {}));
  }

  void flush_slice() {
    if (!slice_) return;
    std::int64_t const begin = at(slice_->begin), length = at(slice_->end) - begin;
    line({{"ph", "X"}, {"name", to_string(slice_->what)}, {"ts", begin}, {"dur", length}, {"tid", 0}});
    slice_.reset();
  }

  void line(Json event) {
    event["pid"] = rank_;
    buffer_ += separator_ + event.dump(-1, ' ', false, Json::error_handler_t::replace);
    separator_ = ",\n";
  }

  TraceOptions options_;
  int rank_;
  detail::AppendFile file_;
  std::chrono::system_clock::duration epoch_ = std::chrono::system_clock::now().time_since_epoch();
  Clock::time_point started_ = Clock::now(), written_ = started_;
  std::optional<event::Interval> slice_;  // not yet in the buffer: its neighbor may belong to it
  std::string buffer_, separator_ = "[\n";
};

}  // namespace elastic::observer
