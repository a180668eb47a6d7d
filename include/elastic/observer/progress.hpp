// SPDX-License-Identifier: Apache-2.0
// How far a run is, on one line: rewritten in place on a terminal, now and then a line of its own in a file.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace elastic::observer {

/// Where and how often progress shows; intervals in seconds.
struct ProgressOptions {
  std::FILE* stream = stderr;
  std::optional<bool> terminal = {};  ///< not said: whether the stream is one, and not a dumb one
  double quiet = 2;                   ///< nothing but the last line before this age
  double every_on_terminal = 0.2;
  double every_in_file = 5;
  double smoothing = 0.98;  ///< weight of the past in the loss shown, 0 ... 1 (not 1)
};

/// Prints "1200/5000 24 %  41200 samples/s  loss 0.412  1:05 left". Use it from one thread. `Clock` is a
/// parameter for the tests.
template <class Clock>
class BasicProgress {
 public:
  explicit BasicProgress(ProgressOptions options = {}) : options_(options) {
    auto const says = [](char const* variable) {
      char const* const value = std::getenv(variable);
      return std::string_view(value == nullptr ? "" : value);
    };
    int const file = ::fileno(options_.stream);
    terminal_ = options_.terminal.value_or(file >= 0 && ::isatty(file) == 1 && says("TERM") != "dumb");
    color_ = terminal_ && says("NO_COLOR").empty();
  }
  BasicProgress(BasicProgress const&) = delete;
  BasicProgress& operator=(BasicProgress const&) = delete;
  ~BasicProgress() { finish(); }

  /// Notes the state of the run and shows it if it is time to: `done` of `total` steps (0: unknown), the mean
  /// loss of the latest step, if there is such a thing, and whatever else is worth a word in `extra`.
  void update(long done, long total, double samples_per_second, std::optional<double> loss,
              std::string_view extra = {}) {
    auto const now = Clock::now();
    if (!origin_) origin_ = Origin{done, now};  // a resumed run does not begin at 0
    done_ = done;
    total_ = total;
    rate_ = samples_per_second;
    extra_ = extra;
    // An average over the past that, unlike a plain one, neither starts at 0 nor stays not-a-number.
    if (loss) {
      weight_ = std::isfinite(*loss) && std::isfinite(loss_) ? options_.smoothing * weight_ : 0;
      loss_ = weight_ == 0 ? *loss : (loss_ * weight_ + *loss) / (weight_ + 1);
      weight_ += 1;
    }
    double const age = seconds(now - started_);
    double const interval = terminal_ ? options_.every_on_terminal : options_.every_in_file;
    if (age < options_.quiet || (shown_ && seconds(now - *shown_) < interval)) return;
    shown_ = now;
    show(total > done ? left(now) : "", terminal_ ? "" : "\n");
  }

  /// Prints the last line, once; the destructor does it too. Without an update there is nothing to print.
  void finish() {
    if (!origin_ || finished_) return;
    finished_ = true;
    show("in " + clock_text(seconds(Clock::now() - started_)), "\n");
  }

 private:
  struct Origin {
    long done;
    typename Clock::time_point when;
  };

  static double seconds(typename Clock::duration t) { return std::chrono::duration<double>(t).count(); }

  /// 1:05, 12:00:09
  static std::string clock_text(double seconds) {
    long const s = static_cast<long>(std::clamp(seconds, 0.0, 1e9) + 0.5);
    char text[32];
    if (s < 3600) {
      std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
    } else {
      std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    }
    return text;
  }

  std::string left(typename Clock::time_point now) const {
    long const since = done_ - origin_->done;
    if (since <= 0) return {};
    double const each = seconds(now - origin_->when) / static_cast<double>(since);
    return clock_text(each * static_cast<double>(total_ - done_)) + " left";
  }

  void show(std::string const& time, char const* end) {
    char text[160];
    std::string line = std::to_string(done_);
    if (total_ > 0) {
      double const percent = 100.0 * static_cast<double>(done_) / static_cast<double>(total_);
      std::snprintf(text, sizeof text, "/%ld %.0f %%", total_, std::floor(percent));
      line += text;
    }
    std::snprintf(text, sizeof text, "  %.0f samples/s", rate_);
    line += text;
    std::snprintf(text, sizeof text, "  loss %.4g", loss_);
    if (weight_ > 0) line += text;
    if (!time.empty()) line += "  " + time;
    std::size_t const plain = line.size();
    if (!extra_.empty()) line += "  " + extra_;
    if (terminal_) {
      line.resize(std::min(line.size(), columns() - 1));  // a line that wraps cannot be rewritten
      if (color_ && line.size() > plain)
        line = line.substr(0, plain) + "\033[2m" + line.substr(plain) + "\033[0m";
      line = "\r" + line + "\033[K";
    }
    line += end;
    std::fputs(line.c_str(), options_.stream);
    std::fflush(options_.stream);
  }

  std::size_t columns() const {
    winsize size{};
    int const file = ::fileno(options_.stream);
    bool const known = file >= 0 && ::ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return known ? size.ws_col : 80;
  }

  ProgressOptions options_;
  bool terminal_;
  bool color_;
  typename Clock::time_point started_ = Clock::now();
  std::optional<Origin> origin_;
  std::optional<typename Clock::time_point> shown_;
  long done_ = 0;
  long total_ = 0;
  double rate_ = 0;
  double loss_ = 0;
  double weight_ = 0;
  std::string extra_;
  bool finished_ = false;
};

using Progress = BasicProgress<std::chrono::steady_clock>;

}  // namespace elastic::observer
