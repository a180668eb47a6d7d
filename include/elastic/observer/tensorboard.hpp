// SPDX-License-Identifier: Apache-2.0
// Curves for TensorBoard. Its event files are TFRecords of three small protobuf messages, written here by
// hand: the library would be many times this file.
#pragma once

#include <unistd.h>

#include <atomic>
#include <bit>
#include <boost/crc.hpp>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "elastic/event.hpp"
#include "elastic/observer/detail/append_file.hpp"
#include "elastic/observer/detail/this_process.hpp"

namespace elastic::observer {

/// How often a rank's events become points of its curves.
struct TensorBoardOptions {
  double every = 1;  ///< seconds from one point of a curve to the next, at least
};

/// Writes scalars to an event file in a folder that `tensorboard --logdir` reads; one folder for each rank,
/// since each folder is a run there. Use it from one thread.
///
/// As an observer it writes, over the step that the event names:
///   a worker   train/loss and train/error (means since the last point), train/learning_rate,
///              exchange/waited (seconds, mean likewise)
///   a server   center/loss (of the workers' last batches, mean likewise), over the center's exchanges
class TensorBoard {
 public:
  /// Makes the folder if need be. Throws Error if the file cannot be opened.
  explicit TensorBoard(std::filesystem::path const& folder, TensorBoardOptions options = {})
      : options_(options),
        file_("TensorBoard file", (std::filesystem::create_directories(folder), folder / file_name())) {
    Message version;
    version.add(1, detail::unix_time());
    version.add(3, "brain.Event:2");
    record(version.bytes);
  }

  /// One point. Values that are not finite are kept: TensorBoard marks them. Throws Error if the file cannot
  /// take it.
  void scalar(std::string_view tag, double value, std::int64_t step) {
    Message point, summary, event;
    point.add(1, tag);
    point.add(2, static_cast<float>(value));
    summary.add(1, point.bytes);
    event.add(1, detail::unix_time());
    event.add(2, step);
    event.add(5, summary.bytes);
    record(event.bytes);
  }

  void operator()(event::Step const& e) {
    if (auto const loss = train_loss_.next(e.loss, options_.every)) {
      scalar("train/loss", *loss, e.step);
      scalar("train/learning_rate", e.rate, e.step);
    }
    if (std::isnan(e.error)) return;
    if (auto const error = train_error_.next(e.error, options_.every)) scalar("train/error", *error, e.step);
  }
  void operator()(event::Exchange const& e) {
    if (auto const waited = waited_.next(e.waited, options_.every))
      scalar("exchange/waited", *waited, e.step);
  }
  void operator()(event::Applied const& e) {
    if (auto const loss = center_loss_.next(e.loss, options_.every))
      scalar("center/loss", *loss, static_cast<std::int64_t>(e.version));
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// The fields of one protobuf message, as far as events have them.
  struct Message {
    std::string bytes;
    void add(int field, double value) { fixed(field, 1, std::bit_cast<std::uint64_t>(value), 8); }
    void add(int field, float value) { fixed(field, 5, std::bit_cast<std::uint32_t>(value), 4); }
    void add(int field, std::int64_t value) {
      bytes += static_cast<char>(field << 3);
      varint(static_cast<std::uint64_t>(value));
    }
    void add(int field, std::string_view text) {
      bytes += static_cast<char>(field << 3 | 2);
      varint(text.size());
      bytes += text;
    }

   private:
    void fixed(int field, int type, std::uint64_t bits, int width) {
      bytes += static_cast<char>(field << 3 | type);
      bytes += little_endian(bits, width);
    }
    void varint(std::uint64_t value) {
      for (; value > 127; value >>= 7) bytes += static_cast<char>(value | 128);
      bytes += static_cast<char>(value);
    }
  };

  /// The mean of a value between two points of its curve.
  struct Thinned {
    double sum = 0;
    long count = 0;
    Clock::time_point due{};
    std::optional<double> next(double value, double every) {
      sum += value;
      ++count;
      auto const now = Clock::now();
      if (now < due) return std::nullopt;
      due = now + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(every));
      double const mean = sum / static_cast<double>(count);
      sum = 0;
      count = 0;
      return mean;
    }
  };

  static std::string little_endian(std::uint64_t bits, int width) {
    std::string bytes;
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(bits >> (8 * i));
    return bytes;
  }

  /// events.out.tfevents.<unix time>.<host>.<process>.<n>: TensorBoard looks for the first part.
  static std::string file_name() {
    static std::atomic<int> files{0};
    return "events.out.tfevents." + std::to_string(static_cast<long>(detail::unix_time())) + "." +
           detail::host_name() + "." + std::to_string(::getpid()) + "." + std::to_string(files++);
  }

  /// A TFRecord: length, its checksum, the bytes, their checksum.
  void record(std::string const& bytes) {
    std::string const length = little_endian(bytes.size(), 8);
    file_.append(length + checksum(length) + bytes + checksum(bytes));
  }

  /// CRC-32C, rotated and offset so that records that hold records do not confuse it.
  static std::string checksum(std::string const& bytes) {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    return little_endian(std::rotr(std::uint32_t(crc.checksum()), 15) + 0xA282EAD8u, 4);
  }

  TensorBoardOptions options_;
  detail::AppendFile file_;
  Thinned train_loss_, train_error_, waited_, center_loss_;
};

}  // namespace elastic::observer
