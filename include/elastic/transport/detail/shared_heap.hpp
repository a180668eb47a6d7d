// SPDX-License-Identifier: Apache-2.0
// A rank's memory that its peers can read and write in place: a range of the job's object, of which only what
// is allocated has pages. Every rank maps the whole object, so a place in it is all that must be told.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory_resource>
#include <mutex>
#include <string>
#include <utility>

#include "elastic/error.hpp"
#include "elastic/transport/detail/shared_object.hpp"

namespace elastic::transport::detail {

/// Gives out whole pages: meant for vectors of parameters, not for small objects. Throws ConfigError where
/// /dev/shm or the rank's range is full. Any thread may use it.
class SharedHeap final : public std::pmr::memory_resource {
 public:
  static constexpr std::size_t page = 4096;

  /// Address space for each of `ranks` heaps of a job: as much as /dev/shm can hold, within what all ranks
  /// together may map.
  static std::size_t range(std::size_t ranks) {
    std::size_t together = std::size_t(256) << 30;
    std::size_t most = together;
    struct statvfs room {};
    if (::statvfs("/dev/shm", &room) == 0) {
      most = std::size_t(room.f_blocks) * std::size_t(room.f_frsize);
      together = std::max(together, most);
    }
    for (auto const limit : {RLIMIT_FSIZE, RLIMIT_AS}) {  // half: there is more in a process than this
      rlimit has{};
      if (::getrlimit(limit, &has) == 0) together = std::min<std::size_t>(together, has.rlim_cur / 2);
    }
    return std::min(most, together / ranks) / huge_page * huge_page;
  }

  /// The bytes [begin, begin + bytes) of the object `file`, which is mapped at `base`.
  SharedHeap(int file, std::byte* base, std::size_t begin, std::size_t bytes, std::string job)
      : file_(file), base_(base), begin_(begin), bytes_(bytes), job_(std::move(job)) {
    free_.emplace(begin, bytes);
  }

  /// Is all of this memory from here? Then its place in the object is `place(p)`.
  bool owns(void const* p, std::size_t bytes) const {
    auto const at = static_cast<std::byte const*>(p);
    return at >= base_ + begin_ && at <= base_ + begin_ + bytes_ &&
           bytes <= std::size_t(base_ + begin_ + bytes_ - at);
  }
  std::size_t place(void const* p) const {
    return static_cast<std::size_t>(static_cast<std::byte const*>(p) - base_);
  }
  /// From now on no range is used twice: a peer that is late may still write where a buffer was.
  void retire() { retired_ = true; }

 private:
  static std::size_t whole(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    bytes = whole(std::max<std::size_t>(bytes, 1), page);
    std::size_t const unit = std::max(alignment, bytes >= huge_page ? huge_page : page);
    std::lock_guard const lock(mutex_);
    std::size_t const place = take(bytes, unit);
    try {
      reserve(file_, job_, place, bytes, "allocate less in it");
    } catch (...) {
      give_back(place, bytes);
      throw;
    }
    prefault(base_ + place, bytes);
    return base_ + place;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t) override {
    bytes = whole(std::max<std::size_t>(bytes, 1), page);
    std::lock_guard const lock(mutex_);
    give_back(place(p), bytes);
  }
  bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override { return this == &other; }

  /// The first free range that has `bytes` on a multiple of `unit`.
  std::size_t take(std::size_t bytes, std::size_t unit) {
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      auto const [begin, size] = *range;
      std::size_t const place = whole(begin, unit);
      if (place - begin > size || size - (place - begin) < bytes) continue;
      free_.erase(range);
      if (place > begin) free_.emplace(begin, place - begin);
      if (begin + size > place + bytes) free_.emplace(place + bytes, begin + size - place - bytes);
      return place;
    }
    throw ConfigError("shared memory: job '" + job_ + "' needs " + std::to_string((bytes >> 20) + 1) +
                      " MiB more, but a rank may have " + std::to_string(bytes_ >> 20) +
                      " MiB of memory that lives in /dev/shm: enlarge it (docker run --shm-size=...), raise "
                      "ulimit -v or allocate less in it");
  }
  /// The pages go back to the system, and the range may be used again.
  void give_back(std::size_t place, std::size_t bytes) {
    ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(place),
                static_cast<off_t>(bytes));
    if (retired_) return;
    auto const range = free_.emplace(place, bytes).first;
    auto const after = std::next(range);
    if (after != free_.end() && place + bytes == after->first) {
      range->second += after->second;
      free_.erase(after);
    }
    if (range == free_.begin()) return;
    auto const before = std::prev(range);
    if (before->first + before->second != place) return;
    before->second += range->second;
    free_.erase(range);
  }

  /// Enters the pages here, once, instead of one at a time at their first touch.
  static void prefault(std::byte* begin, std::size_t bytes) {
    ::madvise(begin, bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
    ::madvise(begin, bytes, MADV_POPULATE_WRITE);
#endif
  }

  int file_;
  std::byte* base_;
  std::size_t begin_;
  std::size_t bytes_;
  std::string job_;
  std::atomic<bool> retired_ = false;
  std::mutex mutex_;
  std::map<std::size_t, std::size_t> free_;  // where each free range begins, and its bytes
};

}  // namespace elastic::transport::detail
