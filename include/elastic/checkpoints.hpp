// SPDX-License-Identifier: Apache-2.0
// A folder of checkpoints: when a worker writes one, how long it is kept, and from which of them all go on. One file
// although long: writing, keeping and finding must agree on what counts.
#pragma once

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "elastic/checkpoint.hpp"
#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/event.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/role.hpp"

namespace elastic {

/// Where checkpoints are, and when they are written. One is always written when training ends or is stopped.
struct CheckpointOptions {
  std::filesystem::path folder{};
  std::string terms{};       ///< checkpoint_terms, and what else a run that goes on must have in common
  bool resume = false;       ///< go on from the newest there is; false: the folder must have none
  long every_steps = 0;      ///< also whenever that many of a worker's steps are done; 0: not by steps
  double every_seconds = 0;  ///< also after that many seconds; 0: not by the clock
  int keep = 2;              ///< how many of the newest stay, at least 1
  std::function<std::string()> records =
      {};  ///< text to be kept beside them, see Checkpoint::text("records")
  std::function<void(std::string const&)> warn = [](std::string const& text) {
    std::fprintf(stderr, "%s\n", text.c_str());
  };
};

/// One rank's view of <folder>/step-<n>/rank-<r>.safetensors, a file for each worker.
///
/// Workers of a rule without a server are all at the same step when they save, and a step counts once all of
/// them have their file: they ask each other. Over a server each worker saves and goes on for itself; the center
/// is the server's to save (model::CenterStore). The folder may be one that all see or one on each host.
class Checkpoints {
 public:
  /// Throws ConfigError for options out of range, Error if the folder cannot be made.
  Checkpoints(CheckpointOptions options, Layout layout, int rank)
      : options_(std::move(options)), layout_(layout), rank_(rank) {
    if (options_.keep < 1 || options_.every_steps < 0 || options_.every_seconds < 0)
      throw ConfigError(
          "checkpoints: at least 1 must be kept, and the steps and seconds between them not be negative");
    std::error_code failed;
    std::filesystem::create_directories(options_.folder, failed);
    if (failed) throw Error(options_.folder.string() + ": cannot be made: " + failed.message());
    for (long const step : steps())  // of a process that was killed
      for (auto const& entry : std::filesystem::directory_iterator(folder_of(step), failed))
        if (entry.path().filename().string().starts_with(file_name() + ".tmp"))
          std::filesystem::remove(entry.path(), failed);
  }

  /// What this rank goes on from: the newest checkpoint that is whole, passing over others with a warning; none if
  /// the folder has none. All ranks call it before Trainer::run; testers of a rule without a server, too, get the
  /// step: `plan.from = ...->bookmark()`.
  ///
  /// Throws ConfigError for a run with other terms, and, unless `resume`, for a folder that has checkpoints;
  /// DataError if there are some and none is whole: a run that starts anew would take their place.
  template <Transport Net>
  std::optional<Bookmark> open(Net& net) {
    try {
      return together() ? find_together(net) : find_alone();
    } catch (TransportError const&) {
      throw;
    } catch (Error const& failure) {
      std::string_view reason = failure.what();
      if (reason.starts_with(Error::prefix)) reason.remove_prefix(Error::prefix.size());
      if (together() && net.size() > 1) net.abort(reason);
      throw;
    }
  }

  /// The checkpoint that open() has found, of a worker.
  std::optional<Checkpoint> const& found() const { return found_; }
  /// Forgets it and its memory.
  void release() { found_.reset(); }

  /// Saves this worker if it is time to; what an observer of event::Turn does.
  template <Transport Net, class T, class Memory, class Model, class Data>
  void save_if_due(Net& net, event::Turn<T, Memory> const& turn, Model& model, Data const& data) {
    release();
    if (is_due(net, turn.steps, turn.last))
      save(net, turn.steps, turn.last, [&](std::filesystem::path const& path, model::Metadata metadata) {
        save_checkpoint(path, turn, model, data, std::move(metadata));
      });
  }
  /// That observer; all three must outlive it.
  template <Transport Net, class Model, class Data>
  auto saver(Net& net, Model& model, Data const& data) {
    return [this, &net, &model, &data]<class T, class Memory>(event::Turn<T, Memory> const& turn) -> void {
      this->save_if_due(net, turn, model, data);
    };
  }

  /// Seconds spent on saving.
  double seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr long steps_between_looks = 10;  // at the clock, which workers must agree on

  bool together() const { return layout_.servers == 0; }
  bool works() const { return layout_.role_of(rank_) == Role::worker; }
  std::string file_name() const { return "rank-" + std::to_string(rank_) + ".safetensors"; }
  std::filesystem::path folder_of(long step) const {
    return options_.folder / ("step-" + std::to_string(step));
  }
  std::filesystem::path file_of(long step) const { return folder_of(step) / file_name(); }

  /// All steps that have a folder, the newest first.
  std::vector<long> steps() const {
    std::vector<long> all;
    for (auto const& entry : std::filesystem::directory_iterator(options_.folder)) {
      std::string const name = entry.path().filename().string();
      constexpr std::string_view prefix = "step-";
      long step = 0;
      char const* const last = name.data() + name.size();
      if (entry.is_directory() && name.starts_with(prefix) && name.size() > prefix.size() &&
          std::from_chars(name.data() + prefix.size(), last, step).ptr == last && step >= 0)
        all.push_back(step);
    }
    std::sort(all.rbegin(), all.rend());
    return all;
  }

  /// Reads the checkpoint of this rank; none, with a warning, if it is missing or damaged.
  std::optional<Checkpoint> read(long step) const {
    std::optional<Checkpoint> read;
    try {
      read.emplace(file_of(step));
      if (read->bookmark().steps != step)
        throw DataError(file_of(step).string() + ": holds step " + std::to_string(read->bookmark().steps));
    } catch (DataError const& error) {
      options_.warn(std::string(error.what()) + "; going on from the checkpoint before it");
      return std::nullopt;
    }
    read->check_terms(options_.terms);
    return read;
  }
  /// The newest that this rank can read, before step `bound`.
  std::optional<Checkpoint> newest(long bound) const {
    for (long const step : steps())
      if (step < bound)
        if (auto found = read(step)) return found;
    return std::nullopt;
  }

  std::optional<Bookmark> find_alone() {
    if (!works()) return std::nullopt;
    bool any = false;
    for (long const step : steps()) any = any || std::filesystem::exists(file_of(step));
    refuse_if(any && !options_.resume, any);
    if (!any) return std::nullopt;
    found_ = newest(std::numeric_limits<long>::max());
    refuse_if(!found_, any);
    from_ = found_->bookmark().steps;
    return found_->bookmark();
  }

  /// The first worker proposes one after the other; the others say whether they have it.
  template <class Net>
  std::optional<Bookmark> find_together(Net& net) {
    bool const any = sum(net, works() && !steps().empty() ? 1 : 0) > 0;
    refuse_if(any && !options_.resume, any);
    for (long bound = std::numeric_limits<long>::max(); any;) {
      if (rank_ == 0) found_ = newest(bound);
      bound = long(sum(net, rank_ == 0 ? (found_ ? double(found_->bookmark().steps) : -1) : 0));
      refuse_if(bound < 0, any);
      if (rank_ != 0 && works()) found_ = read(bound);
      if (sum(net, works() && !found_ ? 1 : 0) == 0) {
        from_ = bound;
        return works() ? found_->bookmark() : Bookmark{.steps = bound};
      }
    }
    return std::nullopt;
  }

  void refuse_if(bool refused, bool any) const {
    if (!refused) return;
    if (any && !options_.resume)
      throw ConfigError(
          options_.folder.string() +
          ": holds the checkpoints of an earlier run; resume it, or give this one another folder");
    throw DataError(options_.folder.string() +
                    ": none of its checkpoints is whole on every worker; move them away to start anew");
  }

  template <class Net>
  static double sum(Net& net, double mine) {
    if constexpr (Collective<Net>) net.all_reduce(Span<double>(&mine, 1));
    return mine;
  }

  template <class Net>
  bool is_due(Net& net, long step, bool last) {
    if (step == saved_ || step == from_) return false;
    if (last || (options_.every_steps > 0 && step % options_.every_steps == 0)) return true;
    if (options_.every_seconds == 0 || (together() && step % steps_between_looks != 0)) return false;
    double due = std::chrono::duration<double>(Clock::now() - since_).count() >= options_.every_seconds;
    if (together()) due = sum(net, due);
    return due > 0;
  }

  /// A periodic checkpoint that cannot be written costs a warning, the last one the run.
  template <class Net, class Write>
  void save(Net& net, long step, bool last, Write write) {
    auto const begin = Clock::now();
    std::string failure;
    try {
      model::Metadata metadata{{"terms", options_.terms}};
      if (options_.records) metadata["records"] = options_.records();
      std::filesystem::create_directory(folder_of(step));
      model::detail::sync_folder(options_.folder);
      try {
        write(file_of(step), metadata);
      } catch (Error const&) {
        if (!std::filesystem::create_directory(folder_of(step))) throw;
        write(file_of(step),
              metadata);  // another worker had removed its own, last file there, and the folder
      }
    } catch (std::exception const& error) {
      failure = error.what();
    }
    double failures = failure.empty() ? 0 : 1;
    if (together()) failures = sum(net, failures);
    since_ = Clock::now();
    seconds_ += std::chrono::duration<double>(since_ - begin).count();
    if (failures == 0) {
      saved_ = step;
      prune(step);
    } else if (last) {
      throw Error(failure.empty()
                      ? folder_of(step).string() + ": another worker could not write its checkpoint"
                      : failure);
    } else if (!failure.empty()) {
      options_.warn(failure + "; training goes on, the checkpoint before it is kept");
    }
  }

  /// Removes this rank's files but the newest, and those beyond `step`, which were those of a run that this one has
  /// taken the place of.
  void prune(long step) const {
    std::error_code ignored;
    int kept = 0;
    for (long const each : steps())
      if (std::filesystem::exists(file_of(each), ignored) && (each > step || ++kept > options_.keep)) {
        std::filesystem::remove(file_of(each), ignored);
        std::filesystem::remove(folder_of(each), ignored);  // if nobody else has a file there
      }
  }

  CheckpointOptions options_;
  Layout layout_;
  int rank_;
  std::optional<Checkpoint> found_;
  long from_ = 0, saved_ = -1;
  Clock::time_point since_ = Clock::now();
  double seconds_ = 0;
};

}  // namespace elastic
