// SPDX-License-Identifier: Apache-2.0
// One flat vector of parameters in a file that other tools read too: the safetensors format
// (https://huggingface.co/docs/safetensors), with a checksum of its own and replaced atomically.
#pragma once

#include <algorithm>
#include <bit>
#include <boost/crc.hpp>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

/// What a tensor file holds.
struct NamedTensor {
  std::string name;
  std::vector<float> values;
  std::map<std::string, std::string> metadata;
};

namespace detail {

/// CRC-32C (Castagnoli) of the bytes of `values`, as eight hexadecimal digits.
inline std::string crc32c(Span<float const> values) {
  boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc;
  crc.process_bytes(values.data(), values.size() * sizeof(float));
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(crc.checksum()));
  return text;
}

/// Where a safetensors header may end; the limit of the format's own library.
inline constexpr std::uint64_t largest_header = 100'000'000;

}  // namespace detail

/// Writes `values` as the tensor `name` of shape [size] and type F32 to `path`, replacing what is there in
/// one step: after a crash it is the old file or the new one. `metadata` is free; the key "crc32c" is added.
/// Throws ConfigError for the name "__metadata__", the key "crc32c" and text that is not UTF-8; Error if the
/// file cannot be written.
inline void save_tensor(std::filesystem::path const& path, std::string const& name, Span<float const> values,
                        std::map<std::string, std::string> metadata = {}) {
  if (name == "__metadata__") throw ConfigError("tensor file: a tensor cannot have the name __metadata__");
  if (!metadata.emplace("crc32c", detail::crc32c(values)).second) {
    throw ConfigError("tensor file: the metadata key crc32c is taken");
  }
  std::uint64_t const bytes = values.size() * sizeof(float);
  nlohmann::json const header = {
      {"__metadata__", metadata},
      {name, {{"dtype", "F32"}, {"shape", {values.size()}}, {"data_offsets", {std::uint64_t{0}, bytes}}}}};
  std::string text;
  try {
    text = header.dump();
  } catch (nlohmann::json::exception const& error) {
    throw ConfigError(std::string("tensor file: name or metadata: ") + error.what());
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data is aligned for readers that map the file
  if (text.size() > detail::largest_header) throw ConfigError("tensor file: more than 100 MB of metadata");
  std::uint64_t const length = text.size();
  detail::write_atomically(path, {{reinterpret_cast<char const*>(&length), sizeof length},
                                  text,
                                  {reinterpret_cast<char const*>(values.data()), bytes}});
}

/// Reads what save_tensor wrote, or any safetensors file with a single one-dimensional F32 tensor (the
/// checksum is then optional). Checks every length against the size of the file before it allocates. Throws
/// DataError, naming file, byte and expectation.
inline NamedTensor load_tensor(std::filesystem::path const& path) {
  using nlohmann::json;
  auto const fail = [&](std::uint64_t offset, std::string const& expected, std::string const& found) {
    throw DataError(path.string() + ": byte " + std::to_string(offset) + ": expected " + expected +
                    ", found " + found);
  };
  std::error_code no_size;
  std::uint64_t const size = std::filesystem::file_size(path, no_size);
  std::ifstream file(path, std::ios::binary);
  if (no_size || !file) {
    throw DataError(path.string() + ": cannot be opened: " +
                    (no_size ? no_size.message() : std::string(std::strerror(errno))));
  }
  auto const read = [&](std::uint64_t offset, void* to, std::uint64_t bytes, char const* what) {
    if (!file.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes))) {
      fail(offset, std::to_string(bytes) + " bytes of " + what, std::to_string(file.gcount()));
    }
  };

  std::uint64_t length = 0;
  if (size < sizeof length) fail(0, "8 bytes of header length", std::to_string(size));
  read(0, &length, sizeof length, "header length");
  std::uint64_t const most = std::min(size - sizeof length, detail::largest_header);
  if (length > most) {
    fail(0, "a header length of at most " + std::to_string(most), std::to_string(length) + " (truncated?)");
  }
  std::string text(length, '\0');
  read(8, text.data(), length, "header");
  json header;
  try {
    header = json::parse(text);
  } catch (json::parse_error const& error) {  // which counts from 1
    fail(7 + error.byte, "a JSON header", error.what());
  } catch (json::exception const& error) {  // a number beyond all numbers, say
    fail(8, "a JSON header", error.what());
  }

  NamedTensor tensor;
  if (header.is_object() && header.contains("__metadata__")) {
    try {
      header["__metadata__"].get_to(tensor.metadata);
    } catch (json::exception const& error) {
      fail(8, "a __metadata__ that maps strings to strings", error.what());
    }
    header.erase("__metadata__");
  }
  if (!header.is_object() || header.size() != 1) {
    fail(8, "a header with one tensor", std::to_string(header.size()) + " entries");
  }
  json const& about = header.begin().value();
  std::uint64_t const start = 8 + length, bytes = size - start;
  json const expected = {
      {"dtype", "F32"}, {"shape", {bytes / sizeof(float)}}, {"data_offsets", {std::uint64_t{0}, bytes}}};
  if (bytes % sizeof(float) != 0 || about != expected) {
    fail(8, "a header that describes the " + std::to_string(bytes) + " bytes behind it: " + expected.dump(),
         about.dump(-1, ' ', false, json::error_handler_t::replace));
  }

  tensor.name = header.begin().key();
  tensor.values.resize(bytes / sizeof(float));
  read(start, tensor.values.data(), bytes, "data");
  if (auto const stored = tensor.metadata.find("crc32c"); stored != tensor.metadata.end()) {
    std::string const found = detail::crc32c(tensor.values);
    if (stored->second != found) fail(start, "data with the checksum " + stored->second, found);
    tensor.metadata.erase(stored);
  }
  return tensor;
}

}  // namespace elastic::model
