// SPDX-License-Identifier: Apache-2.0
// A file as memory: read by the pages that are touched, shared by all processes that read it.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "elastic/error.hpp"

namespace elastic::data::detail {

/// The bytes of a file, which must not shrink while it is mapped.
class MappedFile {
 public:
  /// Throws DataError if it cannot be opened.
  explicit MappedFile(std::filesystem::path const& path) : path_(path.string()) {
    int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat about {};
    bool good = file >= 0 && ::fstat(file, &about) == 0;
    if (good && about.st_size > 0) {
      size_ = static_cast<std::size_t>(about.st_size);
      void* const at = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
      good = at != MAP_FAILED;
      if (good) data_ = static_cast<std::uint8_t const*>(at);
    }
    int const why = errno;
    if (file >= 0) ::close(file);
    if (!good) throw DataError(path_ + ": cannot be opened: " + std::strerror(why));
  }
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::uint8_t*>(data_), size_);
  }

  std::string const& path() const { return path_; }
  std::uint8_t const* data() const { return data_; }
  std::size_t size() const { return size_; }

  [[noreturn]] void fail(std::uint64_t offset, std::string const& expected, std::string const& found) const {
    throw DataError(path_ + ": byte " + std::to_string(offset) + ": expected " + expected + ", found " +
                    found);
  }

 private:
  std::string path_;
  std::uint8_t const* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace elastic::data::detail
