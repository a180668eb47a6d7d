// SPDX-License-Identifier: Apache-2.0
// Tensors in a file that other tools read too: the safetensors format (https://huggingface.co/docs/safetensors),
// with checksums of its own and replaced atomically.
#pragma once

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/model/detail/atomic_file.hpp"
#include "elastic/model/detail/crc32c.hpp"
#include "elastic/model/tensor_view.hpp"

namespace elastic::model {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

/// What a file says of itself, beside its tensors.
using Metadata = std::map<std::string, std::string>;

namespace detail {

/// Where a safetensors header may end; the limit of the format's own library.
inline constexpr std::uint64_t largest_header = 100'000'000;

/// The checksum of all that a header says, but for the checksum itself.
inline std::string header_checksum(nlohmann::json const& header) {
  std::string const text = header.dump();
  Crc32c crc;
  crc.add(text.data(), text.size());
  return crc.text();
}

inline constexpr char const *data_key = "crc32c", *header_key = "crc32c_header";

}  // namespace detail

/// Writes `tensors` to `path`, replacing what is there in one step: after a crash it is the old file or the new
/// one. `metadata` is free; checksums of the data ("crc32c") and of the header ("crc32c_header") are added to it.
/// Throws ConfigError for the name "__metadata__", a name that occurs twice, those two keys, and text that is not
/// UTF-8; Error if the file cannot be written.
inline void save_tensors(std::filesystem::path const& path, std::span<TensorView const> tensors,
                         Metadata metadata = {}) {
  detail::Crc32c crc;
  for (TensorView const& tensor : tensors) crc.add(tensor.bytes.data(), tensor.bytes.size());
  for (char const* key : {detail::data_key, detail::header_key})
    if (metadata.contains(key))
      throw ConfigError(std::string("tensor file: the metadata key ") + key + " is taken");
  metadata[detail::data_key] = crc.text();

  nlohmann::json header = {{"__metadata__", metadata}};
  std::vector<std::string_view> parts(2);
  std::uint64_t end = 0;
  for (auto const& [info, bytes] : tensors) {
    if (info.name == "__metadata__")
      throw ConfigError("tensor file: a tensor cannot have the name __metadata__");
    if (header.contains(info.name))
      throw ConfigError("tensor file: two tensors have the name '" + info.name + "'");
    std::uint64_t const begin = std::exchange(end, end + bytes.size());
    header[info.name] = {{"dtype", info.dtype}, {"shape", info.shape}, {"data_offsets", {begin, end}}};
    parts.push_back(bytes);
  }
  std::string text;
  try {
    header["__metadata__"][detail::header_key] = detail::header_checksum(header);
    text = header.dump();
  } catch (nlohmann::json::exception const& error) {
    throw ConfigError(std::string("tensor file: name or metadata: ") + error.what());
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data is aligned for readers that map the file
  if (text.size() > detail::largest_header) throw ConfigError("tensor file: more than 100 MB of metadata");
  std::uint64_t const length = text.size();
  parts[0] = {reinterpret_cast<char const*>(&length), sizeof length};
  parts[1] = text;
  detail::write_atomically(path, parts);
}

/// A safetensors file in memory: what save_tensors wrote, or any other; the checksums are then optional.
class TensorFile {
 public:
  /// Checks every length against the size of the file before it allocates. Throws DataError, naming file, byte and
  /// expectation.
  explicit TensorFile(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code no_size;
    std::uint64_t const size = std::filesystem::file_size(path_, no_size);
    std::ifstream file(path_, std::ios::binary);
    if (no_size || !file)
      throw DataError(path_.string() + ": cannot be opened: " +
                      (no_size ? no_size.message() : std::string(std::strerror(errno))));
    auto const read = [&](std::uint64_t offset, void* to, std::uint64_t bytes, char const* what) {
      if (!file.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)))
        fail(offset, std::to_string(bytes) + " bytes of " + what, std::to_string(file.gcount()));
    };

    std::uint64_t length = 0;
    if (size < sizeof length) fail(0, "8 bytes of header length", std::to_string(size));
    read(0, &length, sizeof length, "header length");
    std::uint64_t const most = std::min(size - sizeof length, detail::largest_header);
    if (length > most)
      fail(0, "a header length of at most " + std::to_string(most), std::to_string(length) + " (truncated?)");
    std::string text(length, '\0');
    read(8, text.data(), length, "header");
    std::uint64_t const start = 8 + length;
    take_header(text, size - start);
    data_.resize(size - start);
    read(start, data_.data(), data_.size(), "data");

    if (auto const stored = metadata_.find(detail::data_key); stored != metadata_.end()) {
      detail::Crc32c crc;
      crc.add(data_.data(), data_.size());
      if (stored->second != crc.text()) fail(start, "data with the checksum " + stored->second, crc.text());
      metadata_.erase(stored);
    }
  }

  TensorFile(TensorFile&&) = default;  // what points into it goes with it
  TensorFile& operator=(TensorFile&&) = default;

  std::filesystem::path const& path() const { return path_; }
  /// Without the checksums.
  Metadata const& metadata() const { return metadata_; }
  /// In the order of their data.
  std::vector<TensorView> const& tensors() const { return tensors_; }

  /// The tensor of this name; none if there is none.
  TensorView const* find(std::string_view name) const {
    auto const found =
        std::ranges::find_if(tensors_, [&](TensorView const& tensor) { return tensor.info.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }

  /// Throws DataError as this file's own errors are.
  [[noreturn]] void fail(std::uint64_t offset, std::string const& expected, std::string const& found) const {
    throw DataError(path_.string() + ": byte " + std::to_string(offset) + ": expected " + expected +
                    ", found " + found);
  }

 private:
  void take_header(std::string const& text, std::uint64_t size) {
    using nlohmann::json;
    json header;
    try {
      header = json::parse(text);
    } catch (json::parse_error const& error) {  // which counts from 1
      fail(7 + error.byte, "a JSON header", error.what());
    } catch (json::exception const& error) {  // a number beyond all numbers, say
      fail(8, "a JSON header", error.what());
    }
    if (!header.is_object()) fail(8, "a header that is a JSON object", header.type_name());
    if (auto const about = header.find("__metadata__"); about != header.end()) {
      try {
        about->get_to(metadata_);
      } catch (json::exception const& error) {
        fail(8, "a __metadata__ that maps strings to strings", error.what());
      }
      if (auto const stored = metadata_.find(detail::header_key); stored != metadata_.end()) {
        about->erase(detail::header_key);
        std::string const found = detail::header_checksum(header);
        if (stored->second != found) fail(8, "a header with the checksum " + stored->second, found);
        metadata_.erase(stored);
      }
      header.erase("__metadata__");
    }
    std::vector<std::pair<std::uint64_t, TensorView>> placed;
    data_.reserve(size);  // so that what points into it stays
    for (auto const& [name, about] : header.items()) {
      std::uint64_t begin = 0, bytes = 0;
      if (!describes(about, size, begin, bytes))
        fail(8,
             "a header that describes, by dtype, shape and data_offsets, parts of the " +
                 std::to_string(size) + " bytes behind it",
             name + ": " + about.dump(-1, ' ', false, json::error_handler_t::replace));
      placed.push_back(
          {begin, {{name, about["dtype"], about["shape"]}, {data_.data() + begin, std::size_t(bytes)}}});
    }
    std::ranges::sort(placed, {}, [](auto const& tensor) {
      return std::pair{tensor.first, tensor.second.bytes.size()};
    });
    std::uint64_t end = 0;
    for (auto& [begin, tensor] : placed) {
      if (begin != end)
        fail(8,
             "a header whose tensors follow each other without gaps: " + tensor.info.name + " from byte " +
                 std::to_string(end) + " of the data",
             std::to_string(begin));
      end += tensor.bytes.size();
      tensors_.push_back(std::move(tensor));
    }
    if (end != size)
      fail(8, "a header that describes the " + std::to_string(size) + " bytes behind it",
           std::to_string(end));
  }

  /// Whether `about` makes sense as a tensor within `size` bytes, and which of them.
  static bool describes(nlohmann::json const& about, std::uint64_t size, std::uint64_t& begin,
                        std::uint64_t& bytes) {
    auto const numbers = [&](char const* key) {
      return about.contains(key) && about[key].is_array() &&
             std::ranges::all_of(about[key], [](auto const& n) { return n.is_number_unsigned(); });
    };
    if (!about.is_object() || about.size() != 3 || !about.contains("dtype") || !about["dtype"].is_string() ||
        !numbers("shape") || !numbers("data_offsets") || about["data_offsets"].size() != 2)
      return false;
    begin = about["data_offsets"][0];
    std::uint64_t const end = about["data_offsets"][1];
    if (begin > end || end > size) return false;
    bytes = end - begin;
    std::uint64_t count = 1;
    for (std::uint64_t const n : about["shape"]) {
      if (n != 0 && count > (size + 1) / n) return false;  // more values than bytes
      count *= n;
    }
    std::uint64_t const width = dtype_size(about["dtype"].get<std::string>());
    return width != 0 && bytes % width == 0 && bytes / width == count;
  }

  std::filesystem::path path_;
  Metadata metadata_;
  std::vector<TensorView> tensors_;
  std::vector<char> data_;
};

}  // namespace elastic::model
