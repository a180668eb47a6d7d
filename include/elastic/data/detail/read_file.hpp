// SPDX-License-Identifier: Apache-2.0
// A whole small file at once, without the buffers of a stream: a loader opens a thousand a second.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "elastic/error.hpp"

namespace elastic::data::detail {

/// A file's bytes, in memory of their own.
struct FileBytes {
  std::unique_ptr<std::uint8_t[]> data{};
  std::size_t size = 0;
  std::span<std::uint8_t const> span() const { return {data.get(), size}; }
};

/// Throws DataError, naming the file, if it cannot be read.
inline FileBytes read_file(std::string const& path) {
  FileBytes bytes;
  int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat about {};
  bool good = file >= 0 && ::fstat(file, &about) == 0;
  if (good) {
    auto const expected = static_cast<std::size_t>(about.st_size);
    bytes.data = std::make_unique_for_overwrite<std::uint8_t[]>(expected);
    while (good && bytes.size < expected) {
      ssize_t const got = ::read(file, bytes.data.get() + bytes.size, expected - bytes.size);
      if (got == 0) break;  // shorter than it was a moment ago: whoever decodes it finds out
      good = got > 0 || errno == EINTR;
      if (got > 0) bytes.size += static_cast<std::size_t>(got);
    }
  }
  int const why = errno;
  if (file >= 0) ::close(file);
  if (!good) throw DataError(path + ": cannot be read: " + std::strerror(why));
  return bytes;
}

}  // namespace elastic::data::detail
