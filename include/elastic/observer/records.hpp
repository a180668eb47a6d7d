// SPDX-License-Identifier: Apache-2.0
// A worker's records of a run: its training curve, and where the time went for every 5,120 images, which is
// how the first programs of this kind were compared.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "elastic/event.hpp"
#include "elastic/observer/jsonl.hpp"
#include "elastic/report.hpp"

namespace elastic::observer {

struct RecordsOptions {
  int batch = 1;                ///< images of a worker's step
  int workers = 1;              ///< that train together
  double images_per_epoch = 0;  ///< 0: epochs are not told
  double every = 5120;          ///< images of all workers together from one line to the next
  std::FILE* print = nullptr;   ///< where the times and how long an epoch took are printed, if anywhere
  double print_every = 5;       ///< seconds from one line of the times to the next, at least
};

/// Observes one worker and writes to a log (docs/records.md):
///   "train"  every 5,120 images of all workers, as if they were as far as this one: rank, step, samples,
///            epoch, loss and error (means since the last line), rate, images (used since), and the seconds
///            that 5,120 images took: total, and of that computing, exchanging, waiting, loading, observing
///   "epoch"  at the end of each: rank, epoch (counted from 1), took (seconds), rate
/// It prints "time per 5120 images: 31.2 s (train 26.4 exchange 1.2 wait 3.2 data 0.4)".
class Records {
 public:
  /// Writes to `log`, unless that is null.
  explicit Records(JsonlLog* log, RecordsOptions options) : log_(log), options_(options) {}
  Records(Records const&) = delete;
  Records& operator=(Records const&) = delete;

  void operator()(event::Step const& e) {
    if (full_) write(*std::exchange(full_, std::nullopt));
    auto const now = Clock::now();
    if (window_.steps == 0 && !window_.begin) window_.begin = now;
    double const before = epochs(e.step), after = epochs(e.step + 1);
    if (!epoch_begin_) epoch_begin_ = *window_.begin;
    ++window_.steps;
    window_.last = e;
    window_.loss += e.loss;
    window_.error += e.error;
    window_.end = now;
    if (std::floor(after) > std::floor(before)) end_epoch(e, long(after), now);
  }

  /// Seconds of the window; the next one begins where data are loaded for its first step.
  void operator()(event::Interval const& e) {
    if (e.what == Doing::loading && double(window_.steps) * images_per_step() >= options_.every) {
      window_.end = e.begin;
      full_ = std::exchange(window_, {});
    }
    if (!window_.begin) window_.begin = e.begin;
    window_.end = e.end;
    window_.seconds.of(e.what) += seconds(e.end - e.begin);
  }

  /// Writes what has not been written: the last line may be of fewer images.
  void finish() {
    if (full_) write(*std::exchange(full_, std::nullopt));
    if (window_.steps > 0) write(std::exchange(window_, {}));
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Window {
    std::optional<Clock::time_point> begin{};
    Clock::time_point end{};
    long steps = 0;
    event::Step last{};
    double loss = 0, error = 0;
    Seconds seconds{};
  };

  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
  double images_per_step() const { return double(options_.batch) * options_.workers; }
  double epochs(long steps) const {  // a step that ends an epoch but for rounding ends it
    if (options_.images_per_epoch <= 0) return 0;
    return double(steps) * images_per_step() / options_.images_per_epoch + 1e-9;
  }

  void write(Window const& w) {
    double const images = double(w.steps) * images_per_step();
    double const per = options_.every / images, total = seconds(w.end - *w.begin) * per;
    Seconds mean = w.seconds;
    for (auto const what :
         {Doing::computing, Doing::exchanging, Doing::waiting, Doing::loading, Doing::observing})
      mean.of(what) *= per;
    if (log_)
      log_->write("train",
                  {{"rank", w.last.rank},
                   {"step", w.last.step + 1},
                   {"samples", double(w.last.step + 1) * images_per_step()},
                   {"epoch", options_.images_per_epoch > 0 ? epochs(w.last.step + 1)
                                                           : std::numeric_limits<double>::quiet_NaN()},
                   {"loss", w.loss / double(w.steps)},
                   {"error", w.error / double(w.steps)},
                   {"rate", w.last.rate},
                   {"images", images},
                   {"total", total},
                   {"computing", mean.computing},
                   {"exchanging", mean.exchanging},
                   {"waiting", mean.waiting},
                   {"loading", mean.loading},
                   {"observing", mean.observing}});
    if (options_.print == nullptr || seconds(Clock::now() - printed_) < options_.print_every) return;
    printed_ = Clock::now();
    char text[200];
    std::snprintf(text, sizeof text,
                  "time per %.0f images: %.3g s (train %.3g exchange %.3g wait %.3g data %.3g)  loss %.4g",
                  options_.every, total, mean.computing, mean.exchanging, mean.waiting, mean.loading,
                  w.loss / double(w.steps));
    print(text);
  }

  void end_epoch(event::Step const& e, long epoch, Clock::time_point now) {
    double const took = seconds(now - *std::exchange(epoch_begin_, now));
    if (log_) log_->write("epoch", {{"rank", e.rank}, {"epoch", epoch}, {"took", took}, {"rate", e.rate}});
    if (options_.print == nullptr) return;
    char text[80];
    std::snprintf(text, sizeof text, "epoch %ld took %.1f s", epoch, took);
    print(text);
  }

  /// A line of its own, also where progress has left an unfinished one.
  void print(char const* text) const {
    bool const terminal = ::isatty(::fileno(options_.print)) == 1;
    std::fprintf(options_.print, "%s%s\n", terminal ? "\r\033[K" : "", text);
  }

  JsonlLog* log_;
  RecordsOptions options_;
  Window window_{};
  std::optional<Window> full_{};  // to be written where an observer may throw
  std::optional<Clock::time_point> epoch_begin_{};
  Clock::time_point printed_ = Clock::now();
};

}  // namespace elastic::observer
