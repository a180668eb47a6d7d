// SPDX-License-Identifier: Apache-2.0
// A file that is either the old one or the new one, whatever dies when: written beside its place, brought to
// the disk, then renamed.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/error.hpp"

namespace elastic::model::detail {

/// An open file descriptor; closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor(Descriptor const&) = delete;
  Descriptor& operator=(Descriptor const&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

/// Brings to the disk which files `folder` has; throws Error.
inline void sync_folder(std::filesystem::path const& folder) {
  Descriptor const directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot do this to a folder and say EINVAL; the files themselves are safe by then.
  if (directory.number() < 0 || (::fsync(directory.number()) != 0 && errno != EINVAL))
    throw Error(folder.string() + ": cannot bring the folder to the disk: " + std::strerror(errno));
}

/// Replaces the file at `path` by `parts` one after the other. Throws Error, naming the file and the step
/// that failed; the old file is then untouched and nothing is left beside it.
inline void write_atomically(std::filesystem::path const& path, std::span<std::string_view const> parts) {
  std::string unfinished;
  auto const fail = [&](char const* step) {
    int const why = errno;
    if (!unfinished.empty()) ::unlink(unfinished.c_str());
    throw Error(path.string() + ": cannot " + step + ": " + std::strerror(why));
  };

  int opened = -1;
  for (int attempt = 0; opened < 0; ++attempt) {  // a name may be left from a process that was killed
    std::string const name =
        path.string() + ".tmp" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
    opened = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (opened >= 0) unfinished = name;
    if (opened < 0 && (errno != EEXIST || attempt == 100)) fail("create a file beside it");
  }
  {
    Descriptor const file(opened);
    for (std::string_view part : parts) {
      while (!part.empty()) {
        ssize_t const written = ::write(file.number(), part.data(), part.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail("write");
        part.remove_prefix(static_cast<std::size_t>(written));
      }
    }
    if (::fsync(file.number()) != 0) fail("bring to the disk");
  }
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) fail("rename into place");
  unfinished.clear();
  sync_folder(path.has_parent_path() ? path.parent_path() : ".");
}

}  // namespace elastic::model::detail
