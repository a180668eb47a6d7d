// SPDX-License-Identifier: Apache-2.0
// A file read from front to back that can always say where it is: every complaint names path, byte offset,
// what was expected and what was found. Reads gzip too when built with zlib (ELASTIC_HAS_ZLIB).
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#ifdef ELASTIC_HAS_ZLIB
#include <zlib.h>
#endif

#include "elastic/error.hpp"

namespace elastic::data::detail {

/// Reads a plain or gzip-compressed file in order. Offsets are those of the uncompressed bytes.
class ByteFile {
 public:
  /// Throws DataError when the file cannot be opened; `hint` then says how to get it.
  explicit ByteFile(std::filesystem::path const& path, std::string_view hint = {}) : path_(path.string()) {
    std::error_code no_size;
    stored_ = std::filesystem::file_size(path, no_size);
    if (!no_size) file_.reset(open(path_));
    if (!file_) {
      std::string const why = no_size ? no_size.message() : std::strerror(errno);
      throw DataError(path_ + ": cannot be opened: " + why + (hint.empty() ? "" : "; ") + std::string(hint));
    }
#ifndef ELASTIC_HAS_ZLIB
    unsigned char magic[2] = {};
    if (std::fread(magic, 1, 2, file_.get()) == 2 && magic[0] == 0x1f && magic[1] == 0x8b) {
      fail("an uncompressed file (this build has no zlib)", "gzip data");
    }
    std::rewind(file_.get());
#endif
  }

  bool compressed() const {
#ifdef ELASTIC_HAS_ZLIB
    return gzdirect(file_.get()) == 0;
#else
    return false;
#endif
  }

  std::uint64_t offset() const { return offset_; }

  /// The most bytes this file can hold once unpacked: exact for a plain file. Deflate expands at most 1032
  /// times, so that a header that lies about its sizes is caught before anything is allocated.
  std::uint64_t capacity() const { return compressed() ? stored_ * 1032 : stored_; }

  /// Complains about the byte at which the file stands now.
  [[noreturn]] void fail(std::string const& expected, std::string const& found) const {
    fail_at(offset_, expected, found);
  }
  [[noreturn]] void fail_at(std::uint64_t offset, std::string const& expected,
                            std::string const& found) const {
    throw DataError(path_ + ": byte " + std::to_string(offset) + ": expected " + expected + ", found " +
                    found);
  }

  /// Throws unless `bytes` more can be there: call it before allocating what a header asks for.
  void require(std::uint64_t bytes, std::string const& what) const {
    std::uint64_t const left = capacity() > offset_ ? capacity() - offset_ : 0;
    if (bytes > left) {
      fail(std::to_string(bytes) + " bytes of " + what,
           (compressed() ? "at most " : "") + std::to_string(left) + " (truncated, or the header is wrong)");
    }
  }

  /// Fills `to` with the next `bytes` bytes.
  void read(void* to, std::size_t bytes, std::string const& what) {
    std::size_t got = 0;
    while (got < bytes) {
      std::size_t const part = read_some(static_cast<char*>(to) + got, bytes - got);
      if (part == 0) {
        fail_at(offset_ + got, std::to_string(bytes - got) + " more bytes of " + what, "the end of the file");
      }
      got += part;
    }
    offset_ += bytes;
  }

  std::uint32_t read_big_endian_32(std::string const& what) {
    unsigned char b[4];
    read(b, sizeof b, what);
    return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
  }

  void expect_end() {
    char extra;
    if (read_some(&extra, 1) != 0) fail("the end of the file", "more bytes");
  }

 private:
#ifdef ELASTIC_HAS_ZLIB
  static gzFile open(std::string const& path) { return gzopen(path.c_str(), "rb"); }
  std::size_t read_some(void* to, std::size_t bytes) {
    constexpr std::size_t most = std::size_t{1} << 30;  // gzread counts in int
    int const got = gzread(file_.get(), to, static_cast<unsigned>(bytes < most ? bytes : most));
    if (got < 0) {
      int code = 0;
      char const* const why = gzerror(file_.get(), &code);
      fail("readable data", code == Z_ERRNO ? std::strerror(errno) : why);
    }
    return static_cast<std::size_t>(got);
  }
  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };
  std::unique_ptr<gzFile_s, Close> file_;
#else
  static std::FILE* open(std::string const& path) { return std::fopen(path.c_str(), "rb"); }
  std::size_t read_some(void* to, std::size_t bytes) {
    std::size_t const got = std::fread(to, 1, bytes, file_.get());
    if (got == 0 && std::ferror(file_.get())) fail("readable data", std::strerror(errno));
    return got;
  }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
#endif
  std::string path_;
  std::uint64_t stored_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace elastic::data::detail
