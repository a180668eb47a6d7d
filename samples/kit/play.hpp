// SPDX-License-Identifier: Apache-2.0
// One process's part in a run: the same call for server, client and tester; the rank decides.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
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
#include "diary.hpp"
#include "elastic/data/shard.hpp"
#include "elastic/model/center_store.hpp"
#include "elastic/model/tensor_file.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/staged.hpp"
#include "evaluate.hpp"
#include "job.hpp"
#include "resume.hpp"

namespace sample {

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

/// How good the center was when it was tested: says so, and keeps the best as a file.
class Results {
 public:
  Results(Part const& part, Diary& diary) : job_(part.job), task_(part.task), diary_(diary) {
    auto const kept = std::filesystem::path(job_.out) / "best.safetensors";
    if (!job_.resume || !std::filesystem::exists(kept)) return;
    auto const metadata = elastic::model::load_tensor(kept).metadata;
    if (metadata.contains("test_error")) best_ = std::stod(metadata.at("test_error"));
  }

  /// `samples`: images used for training so far; `fields` go to the log, too. Returns whether it is the best so far.
  bool add(Scores const& test, double samples, Json fields) {
    bool const better = test.error < best_;
    if (better) best_ = test.error;
    double const epoch = samples / double(task_.count(elastic::data::Split::train)), taken = seconds();
    char train[40] = "";
    if (fields.contains("train_error"))
      std::snprintf(train, sizeof train, "  train error %6.2f %%", 100 * fields["train_error"].get<double>());
    std::fprintf(stderr, "%stest  %6.1f s  epoch %5.2f  test error %6.2f %%  top-5 %6.2f %%%s%s\n",
                 isatty(2) ? "\r\033[K" : "", taken, epoch, 100 * test.error, 100 * test.top5_error, train,
                 better ? "  best" : "");
    Json line{{"seconds", taken},
              {"samples", samples},
              {"epoch", epoch},
              {"test_error", test.error},
              {"test_top5_error", test.top5_error},
              {"test_loss", test.loss},
              {"label", job_.label.empty() ? job_.rule : job_.label}};
    line.update(fields);
    diary_.test(samples, line);
    return better;
  }
  /// Writes the parameters of the model as the best ones.
  template <class Model>
  void keep(Model& model, std::map<std::string, std::string> metadata) {
    if (job_.out.empty()) return;
    metadata["test_error"] = std::to_string(best_);
    save("best", job_, model.device(), elastic::read(model.parameters()), std::move(metadata));
  }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  Job const& job_;
  Task const& task_;
  Diary& diary_;
  double best_ = 2;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A tester's view: evaluates snapshots of the center on all test images and some training images.
template <class Model>
class Examiner {
 public:
  /// A run that goes on had used `before` samples and counts its versions anew.
  Examiner(Part const& part, Results& results, Model& model, double samples_per_version, double before)
      : part_(part),
        results_(results),
        model_(model),
        samples_per_version_(samples_per_version),
        before_(before) {}

  void operator()(elastic::event::Snapshot const& snapshot) {
    using elastic::data::Split;
    Task const& task = part_.task;
    int const batch = task.evaluation_batch();
    measure_statistics(model_, task, batch);
    Scores const train = score(
        model_, task, {.split = Split::train, .batch = batch, .count = std::size_t(part_.job.train_images)},
        part_.stop);
    Scores const test = score(model_, task, {.split = Split::test, .batch = batch}, part_.stop);
    if (part_.stop) return;
    Json fields{{"train_error", train.error}, {"train_loss", train.loss}, {"last", snapshot.last}};
    auto const classes = task.class_names().size();
    bool const few = classes <= most_confused;
    if (few) fields["confusion"] = confusion(test, classes);
    if (results_.add(test, before_ + double(snapshot.version) * samples_per_version_, fields))
      results_.keep(model_, {{"version", std::to_string(snapshot.version)}});
    if (snapshot.last && few) print_confusion(confusion(test, classes), task.class_names());
  }

 private:
  static constexpr std::size_t most_confused = 100;  // classes that a confusion matrix is legible with

  Part const& part_;
  Results& results_;
  Model& model_;
  double samples_per_version_, before_;
};

/// The workers' own validation of a rule without a server: each evaluates its share of the test images with the
/// center, nothing is counted twice, and training goes on as if nothing had been.
template <class Net, class Model>
class Validation {
 public:
  /// One every `steps` steps; 0: none.
  Validation(Part const& part, Results& results, Net& net, elastic::Layout layout, Model& model, long steps)
      : part_(part), results_(results), net_(net), layout_(layout), model_(model), steps_(steps) {}

  template <class T, class Memory>
  void operator()(elastic::event::Turn<T, Memory> const& turn) {
    if constexpr (elastic::Collective<Net>) {
      if (steps_ == 0 || turn.steps == 0 || turn.report.stopped || (turn.steps % steps_ != 0 && !turn.last))
        return;
      auto kept = model_.device().template allocate<T>(turn.parameters.size());
      model_.device().copy(turn.parameters, kept.span());
      auto const randomness = model_.generator();
      for (auto const& state : turn.states)
        if (state.name == "center") model_.device().copy(state.values, model_.parameters());

      std::size_t const images = part_.task.count(elastic::data::Split::test);
      auto const mine = elastic::data::shard(images, net_.rank() - layout_.first_worker(), layout_.workers());
      measure_statistics(model_, part_.task, part_.job.batch);
      std::atomic<bool> const go_on{false};
      elastic::model::Evaluation const own = evaluate(
          model_, part_.task, {.batch = part_.job.batch, .first = mine.first, .count = mine.count}, go_on);
      std::array<double, 4> sums{own.loss_sum, double(own.correct), double(own.top5), double(own.count)};
      net_.all_reduce(elastic::Span<double>(sums.data(), sums.size()));
      if (turn.rank == 0) {
        Scores const scores{
            .error = 1 - sums[1] / sums[3], .top5_error = 1 - sums[2] / sums[3], .loss = sums[0] / sums[3]};
        double const samples = double(turn.steps) * part_.job.batch * layout_.workers();
        if (results_.add(scores, samples, {{"images", sums[3]}, {"last", turn.last}}))
          results_.keep(model_, {{"steps", std::to_string(turn.steps)}});
      }
      model_.device().copy(elastic::read(kept.span()), model_.parameters());
      model_.generator() = randomness;
    }
  }

 private:
  Part const& part_;
  Results& results_;
  Net& net_;
  elastic::Layout layout_;
  Model& model_;
  long steps_;
};

/// The server's commits, if the job keeps any.
class Commits {
 public:
  /// Finds what an earlier server of the job left; throws ConfigError if the rule has no server.
  Commits(Job const& job, std::string const& role, int servers) {
    if (servers == 0 && !job.commit.empty())
      throw elastic::ConfigError("commit: " + job.rule + " has no server that could commit");
    std::string const folder = job.commit_folder();
    if (folder.empty() || servers == 0 || (role != "server" && role != "all")) return;
    store_.emplace(folder);
    last_ = store_->load([](std::string const& warning) { std::fprintf(stderr, "%s\n", warning.c_str()); });
    if (last_ && job.commit.empty() && !job.resume)
      throw elastic::ConfigError(
          folder + ": holds the center of an earlier run; --resume it, or give this one another folder");
    if (last_)
      std::fprintf(stderr, "going on from generation %llu, exchange %llu in %s\n",
                   static_cast<unsigned long long>(last_->lineage.generation - 1),
                   static_cast<unsigned long long>(last_->lineage.version), folder.c_str());
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

  int const max_batch = works ? job.batch : role == Role::tester ? task.evaluation_batch() : 1;
  auto model = On::model(task.architecture(), max_batch, device, part);
  model.reseed(std::uint64_t(job.seed), std::uint64_t(net.rank()));
  std::size_t const images = task.count(elastic::data::Split::train);
  elastic::Plan plan{.steps = steps(job, images),
                     .sgd = sgd,
                     .steps_per_epoch = double(images) / (double(job.batch) * layout.workers()),
                     .testers = job.testers,
                     .test_every = job.test_every,
                     .commit_every = job.commit_folder().empty() ? 0 : job.commit_every,
                     .distance_every = job.status ? 1.0 : 0.0,
                     .lineage = commits.lineage(),
                     .stop = &stop};
  auto checkpoints = checkpoints_of(rule, plan, layout, net.rank(), job, task);
  if (checkpoints)
    if (auto const from = checkpoints->open(net)) plan.from = *from;
  auto const* const found = checkpoints && checkpoints->found() ? &*checkpoints->found() : nullptr;
  auto const batches = task.stream({.batch = job.batch,
                                    .rank = works ? net.rank() - layout.first_worker() : 0,
                                    .ranks = layout.workers(),
                                    .seed = std::uint64_t(job.seed),
                                    .prefetch = works ? 2 : 0,
                                    .start = found ? found->samples() : 0});
  Diary diary(job, net.rank(), layout, plan.steps, double(images));
  std::string const label = job.label.empty() ? job.rule : job.label;
  if (found) {
    std::fprintf(stderr, "rank %d goes on after step %ld: %s\n", net.rank(), plan.from.steps,
                 found->path().c_str());
    diary.write("resumed", {{"rank", net.rank()}, {"steps", plan.from.steps}, {"samples", found->samples()}});
  }
  if (net.rank() == 0) {
    std::fprintf(stderr, "%s: %s over %s on %s, %d client(s), %zu parameters, %ld steps of %d images each\n",
                 label.c_str(), Rule::name.data(), Net::name.data(), Dev::name.data(), layout.workers(),
                 model.parameters().size(), plan.steps, job.batch);
    diary.write("start", {{"label", label},
                          {"rule", Rule::name},
                          {"transport", Net::name},
                          {"device", Dev::name},
                          {"workers", layout.workers()},
                          {"parameters", model.parameters().size()},
                          {"steps", plan.steps},
                          {"batch", job.batch},
                          {"options", elastic::describe(rule) + elastic::describe(sgd) +
                                          elastic::describe(sgd.schedule) + elastic::describe(job) +
                                          task.describe()}});
  }

  double const per_exchange = double(rule.period) * job.batch * (layout.servers > 0 ? 1 : layout.workers());
  Results results(part, diary);
  double const before = layout.servers > 0 ? 0 : double(plan.from.steps) * job.batch * layout.workers();
  Examiner examiner(part, results, model, per_exchange, before);
  if (job.validate_every > 0 && layout.servers > 0)
    throw elastic::ConfigError("validate_every: the workers of " + job.rule +
                               " never meet; let a tester test the center instead: --testers 1");
  // at a step behind which the parameters of all workers, or their centers, are the same
  long const meets = rule.period;
  long const validates =
      job.validate_every > 0
          ? std::max(1L, std::lround(job.validate_every * plan.steps_per_epoch / double(meets))) * meets
          : 0;
  Validation validation(part, results, net, layout, model, validates);

  auto const on_turn = [&]<class T, class Memory>(elastic::event::Turn<T, Memory> const& turn) -> void {
    if (checkpoints) checkpoints->save_if_due(net, turn, model, *batches);
  };

  elastic::Trainer trainer(net, rule, model.device());
  if (found) found->restore(model, *batches, trainer, plan);
  if (net.rank() == 0 && commits.center())
    trainer.restore("center", elastic::Span<float const>(*commits.center()));
  elastic::Report const report =
      trainer.run(model, *batches, plan, diary, examiner, validation, on_turn, commits);

  if (net.rank() == layout.holder() && !job.out.empty())
    save("center", job, model.device(),
         trainer.has_state("center") ? trainer.state("center") : elastic::read(model.parameters()),
         {{"label", label},
          {"exchanges", std::to_string(report.exchanges)},
          {"stopped", report.stopped ? "true" : "false"}});
  diary.end(report, {{"device", Dev::name}, {"saving", checkpoints ? checkpoints->seconds() : 0}});
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
