// SPDX-License-Identifier: Apache-2.0
// Photographs decoded once and for all: a folder of them becomes a folder of batch files.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/data/batch_file.hpp"
#include "elastic/data/batch_format.hpp"
#include "elastic/data/detail/crew.hpp"
#include "elastic/data/image_folder.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/error.hpp"
#include "elastic/model/detail/crc32c.hpp"
#include "elastic/observer/progress.hpp"
#include "elastic/options.hpp"

namespace sample {

struct Preparation {
  std::string from{};
  std::string to{};
  int size = 256;
  int images_per_file = 1024;
  int jobs = 0;
  int seed = 1;
  bool skip_bad = false;
  std::string val_labels{};

  static constexpr auto options = std::tuple{
      elastic::Option{"from", &Preparation::from, "folder with train/ and val/ of <class>/*.JPEG"},
      elastic::Option{"to", &Preparation::to, "folder for train/ and val/ of batch files"},
      elastic::Option{"size", &Preparation::size, "side of the squares in pixels", 1, 4096},
      elastic::Option{"images_per_file", &Preparation::images_per_file,
                      "images in a file; twice as many are in memory", 1, 65536},
      elastic::Option{"jobs", &Preparation::jobs, "threads that decode; 0: one a core", 0, 1024},
      elastic::Option{
          "seed", &Preparation::seed,
          "of the order of the images, so that reading file after file mixes the classes; 0: sorted", 0},
      elastic::Option{
          "skip_bad", &Preparation::skip_bad,
          "leave out images that cannot be read and list them in skipped.txt; else they end the run"},
      elastic::Option{"val_labels", &Preparation::val_labels,
                      "a file of lines `image class`, for a val/ whose photographs lie side by side"},
  };
};

/// What has become of one folder of photographs.
struct Prepared {
  std::size_t images = 0;   ///< in the files
  std::size_t files = 0;    ///< finished
  std::size_t kept = 0;     ///< of these, found finished
  std::size_t skipped = 0;  ///< images that could not be read, this time
  bool stopped = false;     ///< before all files were finished
};

namespace detail {

/// A number that another choice or order of images, or another size, does not have.
inline std::uint64_t identity(elastic::data::ImageFolder const& set, Preparation const& how) {
  elastic::model::detail::Crc32c crc;
  auto const add = [&](std::string const& text) { crc.add(text.c_str(), text.size() + 1); };
  for (std::string const& name : set.class_names) add(name);
  for (std::size_t i = 0; i < set.count; ++i) add(set.name(i) + ' ' + std::to_string(set.label(i)));
  add(std::to_string(how.size) + ' ' + std::to_string(how.images_per_file) + ' ' + std::to_string(how.seed));
  return std::uint64_t{set.count} << 32 | crc.value();
}

/// Holds a folder against a second process that writes there, and removes what a killed one has left.
class FolderLock {
 public:
  explicit FolderLock(std::filesystem::path const& folder)
      : file_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (file_ < 0 || ::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      int const why = errno;
      if (file_ >= 0) ::close(file_);
      throw elastic::ConfigError(folder.string() + ": " +
                                 (why == EWOULDBLOCK ? "another process prepares images there"
                                                     : std::string("cannot be used: ") + std::strerror(why)));
    }
    for (auto const& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().filename().string().find(".batch.tmp") != std::string::npos)
        std::filesystem::remove(entry.path());
  }
  FolderLock(FolderLock const&) = delete;
  FolderLock& operator=(FolderLock const&) = delete;
  ~FolderLock() { ::close(file_); }

 private:
  int file_;
};

/// How many images the file holds if it is finished and whole; throws ConfigError if it belongs to another set.
inline std::optional<std::size_t> finished(std::filesystem::path const& path,
                                           elastic::data::BatchFileHeader const& expected) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    elastic::data::BatchFile const file(path);
    if (file.header().set != expected.set || file.header().files != expected.files ||
        file.header().file != expected.file)
      throw elastic::ConfigError(path.string() +
                                 ": holds other images, or the same in another size or order; choose another "
                                 "folder or remove its *.batch");
    file.verify();
    return file.count;
  } catch (elastic::DataError const& error) {
    std::fprintf(stderr, "%s: written again\n", error.what());
    return std::nullopt;
  }
}

}  // namespace detail

/// Writes the images of `set` as batch files into `folder`. Files that an earlier run has finished are verified
/// and kept. Once `stop` is set, leaves off; what is finished stays. Throws DataError for an image that cannot
/// be read, unless told to skip those, ConfigError for a folder with other images, and Error if it cannot write.
inline Prepared prepare_set(elastic::data::ImageFolder const& set, std::filesystem::path const& folder,
                            Preparation const& how, std::atomic<bool> const& stop) {
  namespace data = elastic::data;
  using Clock = std::chrono::steady_clock;
  std::filesystem::create_directories(folder);
  detail::FolderLock const lock(folder);
  std::vector<std::uint32_t> order(set.count);
  std::iota(order.begin(), order.end(), 0u);
  if (how.seed > 0) order = data::epoch_order(set.count, static_cast<std::uint64_t>(how.seed), 0);

  std::size_t const bytes = image_bytes(set), per_file = static_cast<std::size_t>(how.images_per_file);
  data::BatchFileHeader header{.channels = static_cast<std::uint32_t>(set.channels),
                               .height = static_cast<std::uint32_t>(set.height),
                               .width = static_cast<std::uint32_t>(set.width),
                               .files = (set.count + per_file - 1) / per_file,
                               .set = detail::identity(set, how),
                               .classes = static_cast<std::uint32_t>(set.classes)};
  int const cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  data::detail::Crew crew(how.jobs > 0 ? how.jobs : cores);
  std::vector<std::vector<std::uint8_t>> scratch(static_cast<std::size_t>(how.jobs > 0 ? how.jobs : cores));

  Prepared result;
  elastic::observer::Progress progress;
  auto const start = Clock::now();
  std::atomic<std::size_t> decoded = 0;
  std::size_t found = 0;  // images of files that were kept
  auto const show = [&] {
    double const age = std::chrono::duration<double>(Clock::now() - start).count();
    progress.update(static_cast<long>(found + decoded), static_cast<long>(set.count),
                    static_cast<double>(decoded) / std::max(age, 1e-9), std::nullopt, folder.string());
  };
  std::future<void> writing;  // of the file before the one that is decoded
  auto const written = [&] {
    if (!writing.valid()) return;
    writing.get();
    ++result.files;
  };

  for (header.file = 0; header.file < header.files && !stop; ++header.file) {
    char name[32];
    std::snprintf(name, sizeof name, "%05llu.batch", static_cast<unsigned long long>(header.file));
    std::filesystem::path const path = folder / name;
    std::size_t const first = header.file * per_file, count = std::min(per_file, set.count - first);
    if (auto const images = detail::finished(path, header)) {
      result.images += *images;
      ++result.files;
      ++result.kept;
      found += count;
      show();
      continue;
    }
    std::vector<std::uint8_t> pixels(count * bytes);
    std::vector<std::string> bad(count);
    crew.run(count, [&](std::size_t i, std::size_t member) {
      if (stop) return;
      try {
        std::memcpy(pixels.data() + i * bytes, set.image(order[first + i], scratch[member]), bytes);
      } catch (elastic::DataError const& error) {
        if (!how.skip_bad) throw;
        bad[i] = error.what();
      }
      ++decoded;
      if (member == 0) show();  // which is this thread
    });
    if (stop) break;
    show();
    std::vector<int> labels;
    for (std::size_t i = 0; i < count; ++i) {
      if (!bad[i].empty()) {
        std::ofstream(folder / "skipped.txt", std::ios::app) << bad[i] << '\n';
        ++result.skipped;
        continue;
      }
      if (labels.size() < i)
        std::memmove(pixels.data() + labels.size() * bytes, pixels.data() + i * bytes, bytes);
      labels.push_back(set.label(order[first + i]));
    }
    if (labels.empty())
      throw elastic::DataError(bad[0].substr(elastic::Error::prefix.size()) +
                               "; nor can any other image of " + path.string());
    pixels.resize(labels.size() * bytes);
    result.images += labels.size();
    written();
    writing = std::async(std::launch::async,
                         [&set, header, path, labels = std::move(labels), pixels = std::move(pixels)] {
                           data::write_batch_file(path, header, set.class_names, labels, pixels);
                         });
  }
  written();
  result.stopped = result.files < header.files;
  return result;
}

}  // namespace sample
