// SPDX-License-Identifier: Apache-2.0
// A file that only grows: what observers write while a run goes on is readable while it does, and after it
// was killed.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/error.hpp"

namespace elastic::observer::detail {

/// Each append is one write, so that threads and processes may share the file.
class AppendFile {
 public:
  /// Creates the file if need be. Throws Error, naming it as `what`, if it cannot be opened.
  AppendFile(std::string_view what, std::filesystem::path const& path)
      : name_(std::string(what) + " " + path.string()),
        file_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_ < 0) throw Error(name_ + ": cannot be opened: " + std::strerror(errno));
  }
  AppendFile(AppendFile&& other) noexcept
      : name_(std::move(other.name_)), file_(std::exchange(other.file_, -1)) {}
  AppendFile& operator=(AppendFile&&) = delete;
  ~AppendFile() {
    if (file_ >= 0) ::close(file_);
  }

  std::string const& name() const { return name_; }

  /// Throws Error if the file cannot take it (a full disk).
  void append(std::string_view bytes) {
    while (!bytes.empty()) {  // the first round writes it all, except on a full disk
      ssize_t const written = ::write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw Error(name_ + ": cannot write: " + std::strerror(errno));
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }

 private:
  std::string name_;
  int file_;
};

}  // namespace elastic::observer::detail
