// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli) of a file's bytes: by the processor's own instruction where there is one, which is twenty
// times as fast as a table.
#pragma once

#include <boost/crc.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define ELASTIC_CRC32C_INSTRUCTION
#include <nmmintrin.h>
#endif

namespace elastic::model::detail {

/// The checksum of all bytes added so far.
class Crc32c {
 public:
  void add(void const* data, std::size_t size) {
#ifdef ELASTIC_CRC32C_INSTRUCTION
    if (fast_) {
      state_ = by_instruction(state_, static_cast<unsigned char const*>(data), size);
      return;
    }
#endif
    by_table_.process_bytes(data, size);
  }

  std::uint32_t value() const { return fast_ ? ~state_ : by_table_.checksum(); }
  /// As eight hexadecimal digits.
  std::string text() const {
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(value()));
    return digits;
  }

  /// For tests: whatever the processor can do.
  void use_table() { fast_ = false; }

 private:
#ifdef ELASTIC_CRC32C_INSTRUCTION
  __attribute__((target("sse4.2"))) static std::uint32_t by_instruction(std::uint32_t state,
                                                                        unsigned char const* data,
                                                                        std::size_t size) {
    std::uint64_t wide = state;
    for (; size >= 8; data += 8, size -= 8) {
      std::uint64_t word;
      std::memcpy(&word, data, 8);
      wide = _mm_crc32_u64(wide, word);
    }
    auto narrow = static_cast<std::uint32_t>(wide);
    for (; size > 0; ++data, --size) narrow = _mm_crc32_u8(narrow, *data);
    return narrow;
  }
  bool fast_ = __builtin_cpu_supports("sse4.2") != 0;
#else
  bool fast_ = false;
#endif
  std::uint32_t state_ = 0xffffffff;
  boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> by_table_;
};

}  // namespace elastic::model::detail
