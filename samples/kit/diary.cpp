// SPDX-License-Identifier: Apache-2.0
// The observers that the kit's programs choose from by their options.
#include "diary.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include "elastic/observer/cost.hpp"
#include "elastic/observer/jsonl.hpp"
#include "elastic/observer/progress.hpp"
#include "elastic/observer/records.hpp"
#include "elastic/observer/status.hpp"
#include "elastic/observer/tensorboard.hpp"
#include "elastic/observer/trace.hpp"
#include "elastic/observer/watchdog.hpp"

namespace sample {
namespace {

namespace observer = elastic::observer;
using Clock = std::chrono::steady_clock;

/// Rank 0's view of the run: how many samples all workers have used, how fast, with what loss.
class Overview {
 public:
  Overview(int workers, long steps, int batch)
      : done_(std::size_t(workers)), total_(long(workers) * steps), batch_(batch) {}

  /// `worker` counts from 0 and has finished `steps` steps.
  void update(int worker, long steps, double loss, std::string const& extra) {
    done_[std::size_t(worker)] = steps;
    long sum = 0;
    for (long n : done_) sum += n;
    auto const now = Clock::now();
    if (!older_) older_ = newer_ = {sum, now};  // a run that goes on does not begin at 0
    if (seconds(now - newer_->when) > 10) older_ = std::exchange(newer_, Mark{sum, now});
    double const passed = seconds(now - older_->when);
    double const rate = passed > 0 ? double(sum - older_->sum) * batch_ / passed : 0;
    progress_.update(sum, total_, rate, loss, extra);
  }
  void finish() { progress_.finish(); }

 private:
  struct Mark {
    long sum;
    Clock::time_point when;
  };
  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  observer::Progress progress_;
  std::vector<long> done_;
  long total_;
  int batch_;
  std::optional<Mark> older_, newer_;  // the rate shown is that of the last 10 to 20 seconds
};

}  // namespace

class Diary::Parts {
 public:
  Parts(Job const& job, int rank, elastic::Layout const& layout, long steps, double images)
      : rank_(rank),
        layout_(layout),
        watchdog_(rank, std::chrono::duration<double>(
                            job.timeout / 2 +
                            (layout.role_of(rank) == elastic::Role::tester ? job.test_every : 0))) {
    namespace fs = std::filesystem;
    elastic::Role const role = layout.role_of(rank);
    std::string const name(to_string(role)), number = std::to_string(rank);
    fs::path const out = job.out;
    if (!job.out.empty()) {
      fs::create_directories(out);
      log_.emplace(out / "log.jsonl");
    }
    if (job.trace) trace_.emplace(out / ("trace-" + number + ".json"), rank, name);
    if (job.tensorboard) board_.emplace(out / "tensorboard" / (name + "-" + number));
    if (job.status) status_.emplace(out / ("status-" + number + ".json"), rank, name);
    if (role == elastic::Role::worker)
      records_.emplace(log_ ? &*log_ : nullptr,
                       observer::RecordsOptions{.batch = job.batch,
                                                .workers = layout.workers(),
                                                .images_per_epoch = images,
                                                .print = rank == layout.first_worker() ? stderr : nullptr});
    if (rank == 0) overview_.emplace(layout.workers(), steps, job.batch);
  }

  template <class Event>
  void tell(Event const& e) {
    auto const to = [&](auto& part) {
      if constexpr (std::invocable<decltype(*part)&, Event const&>)
        if (part) (*part)(e);
    };
    to(trace_);
    to(board_);
    to(status_);
    to(records_);
    elastic::notify(e, watchdog_);
  }

  std::optional<observer::JsonlLog> log_;  // before the records, which write to it
  Clock::time_point started_ = Clock::now();
  int rank_;
  elastic::Layout layout_;
  double staleness_ = 0;  // smoothed
  std::optional<Overview> overview_;
  std::optional<observer::Records> records_;
  std::optional<observer::Trace> trace_;
  std::optional<observer::TensorBoard> board_;
  std::optional<observer::Status> status_;
  observer::Watchdog watchdog_;
};

Diary::Diary(Job const& job, int rank, elastic::Layout const& layout, long steps, double images)
    : parts_(std::make_unique<Parts>(job, rank, layout, steps, images)) {}
Diary::~Diary() = default;

void Diary::write(std::string_view event, Json const& fields) {
  if (parts_->log_) parts_->log_->write(event, fields);
}

void Diary::test(double samples, Json const& fields) {
  write("test", fields);
  if (!parts_->board_) return;
  for (auto const& [key, value] : fields.items())
    if (value.is_number() && (key.starts_with("test_") || key.starts_with("train_")))
      parts_->board_->scalar("test/" + key, value, static_cast<std::int64_t>(samples));
}

void Diary::end(elastic::Report const& report, Json fields) {
  if (parts_->overview_) parts_->overview_->finish();
  if (parts_->records_) parts_->records_->finish();
  Json line = observer::cost_fields(parts_->rank_, report);
  line["wall"] = seconds();
  line.update(fields);
  write("end", line);
  std::fprintf(stderr, "%s\n", observer::cost_line(parts_->rank_, report).c_str());
}

double Diary::seconds() const {
  return std::chrono::duration<double>(Clock::now() - parts_->started_).count();
}

template <class Event>
void Diary::tell(Event const& e) {
  parts_->tell(e);
}

void Diary::operator()(elastic::event::Step const& e) {
  tell(e);
  if (e.rank != 0 || !parts_->overview_) return;
  for (int w = 0; w < parts_->layout_.workers(); ++w) parts_->overview_->update(w, e.step + 1, e.loss, "");
}
void Diary::operator()(elastic::event::Exchange const& e) { tell(e); }
void Diary::operator()(elastic::event::Applied const& e) {
  tell(e);
  parts_->staleness_ += 0.02 * (double(e.staleness) - parts_->staleness_);
  char extra[40];
  std::snprintf(extra, sizeof extra, "staleness %.1f", parts_->staleness_);
  parts_->overview_->update(e.worker - parts_->layout_.first_worker(), e.step + 1, e.loss, extra);
}
void Diary::operator()(elastic::event::Snapshot const& e) { tell(e); }
void Diary::operator()(elastic::event::Interval const& e) { tell(e); }
void Diary::operator()(elastic::event::Joined const& e) {
  tell(e);
  write("joined", {{"rank", e.worker}, {"version", e.version}, {"lost", e.lost}});
  if (e.lost > 0)
    std::fprintf(stderr, "rank %d is back; %llu of its exchanges came after the last commit and are lost\n",
                 e.worker, static_cast<unsigned long long>(e.lost));
}
void Diary::operator()(elastic::event::Lost const& e) {
  tell(e);
  std::fprintf(stderr, "going on without rank %d: %s\n", e.worker, std::string(e.why).c_str());
  write("lost", {{"rank", e.worker}, {"why", e.why}});
}
void Diary::operator()(elastic::event::Refused const& e) {
  tell(e);
  std::fprintf(stderr, "refused what rank %d sent in step %ld: not finite, or beyond the limit\n", e.worker,
               e.step);
  write("refused", {{"rank", e.worker}, {"step", e.step}, {"pieces", e.pieces}});
}

}  // namespace sample
