// SPDX-License-Identifier: Apache-2.0
// One process's part in a run: the same call for server, client and tester; the rank decides.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "choices.hpp"
#include "elastic/model/center_store.hpp"
#include "elastic/model/tensor_file.hpp"
#include "elastic/observer/jsonl.hpp"
#include "elastic/observer/progress.hpp"
#include "elastic/observer/watchdog.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/staged.hpp"
#include "evaluate.hpp"
#include "job.hpp"

namespace sample {

using Json = nlohmann::ordered_json;

/// The run's shared log; silent without an `out` folder.
class Log {
 public:
  explicit Log(Job const& job) {
    if (job.out.empty()) return;
    std::filesystem::create_directories(job.out);
    log_.emplace(std::filesystem::path(job.out) / "log.jsonl");
  }
  void write(std::string const& event, Json const& fields) {
    if (log_) log_->write(event, fields);
  }

 private:
  std::optional<elastic::observer::JsonlLog> log_;
};

/// Rank 0's view of the run: how many samples all workers have used, how fast, with what loss.
class Dashboard {
 public:
  Dashboard(Log& log, int workers, long steps, int batch)
      : log_(log), done_(std::size_t(workers)), total_(long(workers) * steps), batch_(batch) {}

  /// `worker` counts from 0 and has finished `steps` steps.
  void update(int worker, long steps, double loss) {
    done_[std::size_t(worker)] = steps;
    long sum = 0;
    for (long n : done_) sum += n;
    double const age = seconds();
    double const rate = double(sum) * batch_ / std::max(age, 1e-9);
    progress_.update(sum, total_, rate, loss);
    if (age - logged_ < 1) return;
    logged_ = age;
    log_.write("train",
               {{"seconds", age}, {"samples", sum * batch_}, {"loss", loss}, {"samples_per_second", rate}});
  }
  void finish() { progress_.finish(); }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  Log& log_;
  elastic::observer::Progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<long> done_;
  long total_;
  int batch_;
  double logged_ = 0;
};

/// Writes a center from any device's memory to <out>/<name>.safetensors.
template <class Dev>
void save(std::string const& name, Job const& job, Dev& device,
          elastic::Span<float const, typename Dev::memory> center,
          std::map<std::string, std::string> metadata) {
  std::vector<float> values(center.size());
  device.download(center, elastic::Span<float>(values));
  elastic::model::save_tensor(std::filesystem::path(job.out) / (name + ".safetensors"), "center", values,
                              std::move(metadata));
}

/// Evaluates snapshots of the center, keeps the best as a file, and says so.
template <class Model>
class Examiner {
 public:
  Examiner(Part const& part, Log& log, Model& model, double samples_per_version)
      : job_(part.job),
        task_(part.task),
        log_(log),
        model_(model),
        samples_per_version_(samples_per_version),
        stop_(part.stop) {}

  void examine(elastic::event::Snapshot const& snapshot) {
    using elastic::data::Split;
    double const taken = seconds();
    int const batch = task_.evaluation_batch();
    measure_statistics(model_, task_, batch);
    Scores const train =
        score(model_, task_, {.split = Split::train, .batch = batch, .count = std::size_t(job_.train_images)},
              stop_);
    Scores const test = score(model_, task_, {.split = Split::test, .batch = batch}, stop_);
    if (stop_) return;
    double const samples = double(snapshot.version) * samples_per_version_;
    bool const better = test.error < best_;
    if (better) best_ = test.error;
    std::fprintf(stderr, "%stest  %6.1f s  epoch %5.2f  test error %6.2f %%  train error %6.2f %%%s\n",
                 isatty(2) ? "\r\033[K" : "", taken, samples / double(task_.count(Split::train)),
                 100 * test.error, 100 * train.error, better ? "  best" : "");
    Json fields{{"seconds", taken},
                {"samples", samples},
                {"test_error", test.error},
                {"test_top5_error", test.top5_error},
                {"test_loss", test.loss},
                {"train_error", train.error},
                {"train_loss", train.loss},
                {"last", snapshot.last},
                {"label", job_.label.empty() ? job_.rule : job_.label}};
    auto const classes = task_.class_names().size();
    bool const few = classes <= most_confused;
    if (few) fields["confusion"] = confusion(test, classes);
    log_.write("test", fields);
    if (better && !job_.out.empty())
      save("best", job_, model_.device(), elastic::read(model_.parameters()),
           {{"test_error", std::to_string(test.error)}, {"version", std::to_string(snapshot.version)}});
    if (snapshot.last && few) print_confusion(confusion(test, classes), task_.class_names());
  }

 private:
  static constexpr std::size_t most_confused = 100;  // classes that a confusion matrix is legible with

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  Job const& job_;
  Task const& task_;
  Log& log_;
  Model& model_;
  double samples_per_version_;
  std::atomic<bool> const& stop_;
  double best_ = 2;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The server's commits, if the job keeps any.
class Commits {
 public:
  /// Finds what an earlier server of the job left; throws ConfigError if the rule has no server.
  Commits(Job const& job, std::string const& role, int servers) {
    if (job.commit.empty() || (role != "server" && role != "all")) return;
    if (servers == 0) throw elastic::ConfigError("commit: " + job.rule + " has no server that could commit");
    store_.emplace(job.commit);
    last_ = store_->load([](std::string const& warning) { std::fprintf(stderr, "%s\n", warning.c_str()); });
    if (last_)
      std::fprintf(stderr, "going on from generation %llu, exchange %llu in %s\n",
                   static_cast<unsigned long long>(last_->lineage.generation - 1),
                   static_cast<unsigned long long>(last_->lineage.version), job.commit.c_str());
  }
  elastic::Lineage lineage() const { return last_ ? last_->lineage : elastic::Lineage{}; }
  std::vector<float> const* center() const { return last_ ? &last_->center : nullptr; }
  void operator()(elastic::event::Center<float> const& center) {
    if (store_) (*store_)(center);
  }

 private:
  std::optional<elastic::model::CenterStore> store_;
  std::optional<elastic::model::Commit> last_;
};

/// Plays the part over a transport that reaches the device.
template <class On, class Net, class Rule, class Dev>
bool play_with(Net& net, Rule const& rule, Part const& part, Dev& device) {
  using elastic::Role;
  auto const& [job, compute, sgd, task, commits, stop] = part;
  elastic::Layout const layout{net.size(), Rule::needs == elastic::Needs::point_to_point ? 1 : 0,
                               job.testers};
  layout.check();
  if (layout.workers() != job.clients)
    throw elastic::ConfigError(std::to_string(net.size()) + " ranks for " + std::to_string(job.clients) +
                               " clients: " + std::to_string(layout.servers + layout.testers + job.clients) +
                               " are needed (clients, testers, and a server if the rule has one)");
  Role const role = layout.role_of(net.rank());
  bool const works = role == Role::worker;

  Log log(job);
  int const max_batch = works ? job.batch : role == Role::tester ? task.evaluation_batch() : 1;
  auto model = On::model(task.architecture(), max_batch, device, part);
  model.reseed(std::uint64_t(job.seed), std::uint64_t(net.rank()));
  auto const batches = task.stream({.batch = job.batch,
                                    .rank = works ? net.rank() - layout.first_worker() : 0,
                                    .ranks = layout.workers(),
                                    .seed = std::uint64_t(job.seed),
                                    .prefetch = works ? 2 : 0});

  std::size_t const images = task.count(elastic::data::Split::train);
  elastic::Plan const plan{.steps = steps(job, images),
                           .sgd = sgd,
                           .steps_per_epoch = double(images) / (double(job.batch) * layout.workers()),
                           .testers = job.testers,
                           .test_every = job.test_every,
                           .commit_every = job.commit.empty() ? 0 : job.commit_every,
                           .lineage = commits.lineage(),
                           .stop = &stop};
  std::string const label = job.label.empty() ? job.rule : job.label;
  if (net.rank() == 0) {
    std::fprintf(stderr, "%s: %s over %s on %s, %d client(s), %zu parameters, %ld steps of %d images each\n",
                 label.c_str(), Rule::name.data(), Net::name.data(), Dev::name.data(), layout.workers(),
                 model.parameters().size(), plan.steps, job.batch);
    log.write("start",
              {{"label", label},
               {"rule", Rule::name},
               {"transport", Net::name},
               {"device", Dev::name},
               {"workers", layout.workers()},
               {"parameters", model.parameters().size()},
               {"steps", plan.steps},
               {"batch", job.batch},
               {"options", elastic::describe(rule) + elastic::describe(sgd) +
                               elastic::describe(sgd.schedule) + elastic::describe(job) + task.describe()}});
  }

  Dashboard dashboard(log, layout.workers(), plan.steps, job.batch);
  double const per_exchange = double(rule.period) * job.batch * (layout.servers > 0 ? 1 : layout.workers());
  Examiner examiner(part, log, model, per_exchange);

  auto const on_applied = [&](elastic::event::Applied const& e) {
    dashboard.update(e.worker - layout.first_worker(), e.step + 1, e.loss);
  };
  auto const on_step = [&](elastic::event::Step const& e) {
    if (e.rank != 0) return;
    for (int w = 0; w < layout.workers(); ++w) dashboard.update(w, e.step + 1, e.loss);
  };
  auto const on_snapshot = [&](elastic::event::Snapshot const& e) { examiner.examine(e); };

  auto const on_loss = [&](elastic::event::Lost const& e) {
    std::fprintf(stderr, "going on without rank %d: %s\n", e.worker, std::string(e.why).c_str());
    log.write("lost", {{"rank", e.worker}, {"why", e.why}});
  };
  auto const on_join = [&](elastic::event::Joined const& e) {
    log.write("joined", {{"rank", e.worker}, {"version", e.version}, {"lost", e.lost}});
    if (e.lost > 0)
      std::fprintf(stderr, "rank %d is back; %llu of its exchanges came after the last commit and are lost\n",
                   e.worker, static_cast<unsigned long long>(e.lost));
  };
  auto const on_refused = [&](elastic::event::Refused const& e) {
    std::fprintf(stderr, "refused what rank %d sent in step %ld: not finite, or beyond the limit\n", e.worker,
                 e.step);
    log.write("refused", {{"rank", e.worker}, {"step", e.step}, {"pieces", e.pieces}});
  };

  elastic::observer::Watchdog watchdog(net.rank(), std::chrono::duration<double>(job.timeout / 2));

  elastic::Trainer trainer(net, rule, model.device());
  if (net.rank() == 0 && commits.center())
    trainer.restore("center", elastic::Span<float const>(*commits.center()));
  elastic::Report const report = trainer.run(model, *batches, plan, on_applied, on_step, on_snapshot, on_loss,
                                             on_join, on_refused, commits, watchdog);
  dashboard.finish();

  if (net.rank() == layout.holder() && !job.out.empty())
    save("center", job, model.device(),
         trainer.has_state("center") ? trainer.state("center") : elastic::read(model.parameters()),
         {{"label", label},
          {"exchanges", std::to_string(report.exchanges)},
          {"stopped", report.stopped ? "true" : "false"}});
  log.write("end", {{"role", elastic::to_string(report.role)},
                    {"rank", net.rank()},
                    {"device", Dev::name},
                    {"steps", report.steps},
                    {"exchanges", report.exchanges},
                    {"stopped", report.stopped},
                    {"lost", report.lost},
                    {"refused", report.refused},
                    {"rejoined", report.rejoined},
                    {"wall", dashboard.seconds()},
                    {"computing", report.seconds.computing},
                    {"exchanging", report.seconds.exchanging},
                    {"waiting", report.seconds.waiting},
                    {"loading", report.seconds.loading},
                    {"sent_bytes", report.traffic.sent_bytes},
                    {"received_bytes", report.traffic.received_bytes}});
  return report.stopped;
}

/// The same over any transport; one that does not reach the device is wrapped.
template <class On, class Net, class Rule>
bool play(Net& net, Rule const& rule, Part const& part) {
  auto device = On::device(net, part);
  using Dev = decltype(device);
  if constexpr (elastic::Reaches<Net, typename Dev::memory>) {
    return play_with<On>(net, rule, part, device);
  } else {
    elastic::transport::Staged<Net, Dev> staged(
        net, device,
        {.center_on_device = part.compute.center_on_device, .piece_bytes = part.compute.piece_bytes});
    if (!staged.why_not().empty())
      std::fprintf(stderr, "the center stays in host memory: %s\n", staged.why_not().c_str());
    return play_with<On>(staged, rule, part, device);
  }
}

}  // namespace sample
