// SPDX-License-Identifier: Apache-2.0
// A server's commits: the center and what belongs to it, in a folder that outlives the server. One file is one
// commit, the latest two are kept.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/event.hpp"
#include "elastic/lineage.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/model/tensor_file.hpp"

namespace elastic::model {

/// What a server that is started again goes on from.
struct Commit {
  std::vector<float> center;
  Lineage lineage;
};

/// Observes a server (event::Center) and brings its center to the disk, on a thread of its own: a commit that
/// the disk is too slow for is replaced by the next. Each is a safetensors file with a checksum, written beside
/// its place, brought to the disk, and renamed; whatever dies when, the last good one is there.
class CenterStore {
 public:
  /// Makes the folder and holds it: throws ConfigError if another server does, Error if it cannot be written.
  explicit CenterStore(std::filesystem::path folder) : folder_(std::move(folder)), lease_(take(folder_)) {
    for (auto const& entry : std::filesystem::directory_iterator(folder_))  // of a server that was killed
      if (entry.path().filename().string().find(".safetensors.tmp") != std::string::npos)
        std::filesystem::remove(entry.path());
    thread_ = std::thread([this] { write_all(); });
  }
  CenterStore(CenterStore const&) = delete;
  CenterStore& operator=(CenterStore const&) = delete;
  /// Writes what is still to be written.
  ~CenterStore() {
    {
      std::lock_guard const lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
    if (failure_) try {
        std::rethrow_exception(failure_);
      } catch (std::exception const& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
  }

  /// The latest commit that is whole, its generation counted on by one; none in a new folder. `warn(text)` is
  /// told of files that are damaged. Throws DataError if there are commits and none is whole: a center that
  /// starts anew would take the place of the one that was trained.
  template <class Warn>
  std::optional<Commit> load(Warn warn) const {
    auto const files = commits();
    for (auto file = files.rbegin(); file != files.rend(); ++file) try {
        return read_commit(*file);
      } catch (DataError const& error) {
        warn(std::string(error.what()) + "; going on from the commit before it");
      }
    if (!files.empty())
      throw DataError(folder_.string() + ": none of its " + std::to_string(files.size()) +
                      " commits is whole; move them away to start anew");
    return std::nullopt;
  }

  /// Takes a copy and returns; throws what went wrong with an earlier one.
  void operator()(event::Center<float> const& center) {
    std::lock_guard const lock(mutex_);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    next_.center.assign(center.values.begin(), center.values.end());
    next_.lineage = center.lineage;
    waiting_ = true;
    changed_.notify_all();
  }

  /// Reads one commit; throws DataError for a file that is not one.
  static Commit read_commit(std::filesystem::path const& path) {
    NamedTensor tensor = load_tensor(path);
    Commit commit{std::move(tensor.values), {}};
    try {
      commit.lineage.generation = std::stoull(tensor.metadata.at("generation")) + 1;
      commit.lineage.version = std::stoull(tensor.metadata.at("version"));
      for (auto const& worker : nlohmann::json::parse(tensor.metadata.at("workers"))) {
        auto const [incarnation, sequence, taken] =
            worker.get<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>>();
        commit.lineage.workers.push_back({incarnation, sequence, taken});
      }
    } catch (std::exception const& error) {
      throw DataError(path.string() +
                      ": expected generation, version and workers of a commit: " + error.what());
    }
    return commit;
  }

 private:
  static constexpr std::size_t kept = 2;

  static detail::Descriptor take(std::filesystem::path const& folder) {
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) throw Error(folder.string() + ": cannot be made: " + failed.message());
    auto const path = folder / "lock";
    int const file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) throw Error(path.string() + ": cannot be opened: " + std::strerror(errno));
    detail::Descriptor lease(file);
    if (::flock(file, LOCK_EX | LOCK_NB) != 0)
      throw ConfigError(folder.string() +
                        ": another server commits there; give every job a folder of its own");
    return lease;
  }

  /// In the order of their versions.
  std::vector<std::filesystem::path> commits() const {
    std::vector<std::filesystem::path> files;
    for (auto const& entry : std::filesystem::directory_iterator(folder_)) {
      std::string const name = entry.path().filename().string();
      if (name.starts_with("commit-") && name.ends_with(".safetensors")) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  void write_all() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return waiting_ || ended_; });
      if (!waiting_) return;
      waiting_ = false;
      std::swap(next_, current_);
      lock.unlock();
      std::exception_ptr failure;
      try {
        write(current_);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure) failure_ = failure;
    }
  }

  void write(Commit const& commit) const {
    auto workers = nlohmann::json::array();
    for (Progress const& p : commit.lineage.workers) workers.push_back({p.incarnation, p.sequence, p.taken});
    char
        name[64];  // generation first: a server that was started again begins behind what its forerunner lost
    std::snprintf(name, sizeof name, "commit-%010llu-%020llu.safetensors",
                  static_cast<unsigned long long>(commit.lineage.generation),
                  static_cast<unsigned long long>(commit.lineage.version));
    save_tensor(folder_ / name, "center", Span<float const>(commit.center),
                {{"generation", std::to_string(commit.lineage.generation)},
                 {"version", std::to_string(commit.lineage.version)},
                 {"workers", workers.dump()}});
    auto const files = commits();
    for (std::size_t i = 0; i + kept < files.size(); ++i) std::filesystem::remove(files[i]);
  }

  std::filesystem::path folder_;
  detail::Descriptor lease_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Commit next_, current_;
  bool waiting_ = false;
  bool ended_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace elastic::model
