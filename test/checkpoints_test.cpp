// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a run that is stopped, or dies, and goes on from its files in new processes' objects ends with the
// bits of one that was never interrupted; files that are damaged or missing are passed over, other runs refused.
// optimize: 1
#include "elastic/checkpoints.hpp"

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "elastic/data/batches.hpp"
#include "elastic/data/image_set.hpp"
#include "elastic/data/noise.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/model/center_store.hpp"
#include "elastic/model/dropout.hpp"
#include "elastic/model/initialize.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/model/softmax.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "support/catch.hpp"
#include "support/launch_serial.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/launch_threads.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::Contains;
using support::Answers;
using support::Launch;
using support::message_of;
using support::TempFolder;
namespace fs = std::filesystem;

data::ImageSet random_images() {
  data::ImageSet set{};
  set.count = 60;
  set.channels = 1;
  set.height = set.width = 9;
  set.classes = 3;
  std::mt19937 bits(5);
  set.pixels.resize(set.count * set.image_bytes());
  for (auto& pixel : set.pixels) pixel = static_cast<std::uint8_t>(bits());
  for (std::size_t i = 0; i < set.count; ++i) set.labels.push_back(static_cast<std::uint8_t>(bits() % 3));
  return set;
}

/// A linear classifier of images with dropout in front, as small as a net can be that has all a checkpoint saves.
class SmallNet {
 public:
  using scalar = float;
  using device_type = device::Cpu;
  using batch = model::Batch;
  explicit SmallNet(int outputs)
      : architecture_({1, 8, 8}, {model::Dropout{0.4}, model::Linear{.outputs = outputs}}),
        x_(architecture_.parameter_count()),
        g_(x_.size()) {
    model::initialize(architecture_, 3, x_);
  }
  device::Cpu& device() { return cpu_; }
  model::Architecture const& architecture() const { return architecture_; }
  std::vector<ParameterGroup> groups() const { return architecture_.groups(); }
  Span<float> parameters() { return x_; }
  Span<float> gradients() { return g_; }
  model::Generator& generator() { return generator_; }

  double gradient(batch const& images) {
    std::size_t const outputs = std::size_t(architecture_.classes()), inputs = 64;
    std::vector<float> in(images.images.size()), out;
    model::draw_dropout_mask(generator_, 0.4, in);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] *= images.images[i];
    for (std::size_t n = 0; n < images.labels.size(); ++n)
      for (std::size_t k = 0; k < outputs; ++k)
        out.push_back(std::inner_product(in.data() + n * inputs, in.data() + (n + 1) * inputs,
                                         x_.data() + k * inputs, x_[outputs * inputs + k]));
    std::vector<int> unused(images.labels.size());
    double const loss =
        model::softmax_cross_entropy(out, images.labels, architecture_.classes(), unused).loss();
    std::ranges::fill(g_, 0.0f);
    for (std::size_t n = 0; n < images.labels.size(); ++n)
      for (std::size_t k = 0; k < outputs; ++k) {
        float const slope = out[n * outputs + k];
        for (std::size_t i = 0; i < inputs; ++i) g_[k * inputs + i] += slope * in[n * inputs + i];
        g_[outputs * inputs + k] += slope;
      }
    return loss;
  }

 private:
  device::Cpu cpu_;
  model::Architecture architecture_;
  std::vector<float> x_, g_;
  model::Generator generator_;
};

/// What a run is asked to do beside its rule.
struct Wish {
  CheckpointOptions checkpoints{};
  long steps = 20;
  int testers = 0;
  int outputs = 3;
  long stop_at = -1;  // a signal arrives in this step
  optimizer::Sgd sgd{.learning_rate = 0.05,
                     .momentum = 0.9,
                     .weight_decay = 1e-3,
                     .schedule = {.decay = optimizer::Decay::plateau, .threshold = 0.05, .patience = 1}};
};

/// Trains a small net with dropout on random images, as a program would that keeps checkpoints; answers with all
/// that a rank is left with.
template <class Net, class Rule>
std::vector<double> train(Net& net, Rule const& rule, Wish wish) {
  static data::ImageSet const images = random_images();
  Layout const layout{net.size(), Rule::needs == Needs::point_to_point ? 1 : 0, wish.testers};
  int const worker = net.rank() - layout.first_worker();
  bool const works = layout.role_of(net.rank()) == Role::worker;
  std::atomic<bool> stop = false;
  Plan plan{
      .steps = wish.steps, .sgd = wish.sgd, .steps_per_epoch = 4, .testers = wish.testers, .stop = &stop};

  device::Cpu cpu;
  SmallNet model(wish.outputs);
  model.generator() = model::make_generator(7, std::uint64_t(net.rank()));
  wish.checkpoints.terms = checkpoint_terms(rule, plan, layout.workers()) + wish.checkpoints.terms;
  Checkpoints checkpoints(wish.checkpoints, layout, net.rank());
  auto const from = checkpoints.open(net);
  if (from) plan.from = *from;
  auto const start = checkpoints.found() ? checkpoints.found()->samples() : 0;
  data::Batches batches(images, data::normalization(images),
                        {.batch = 5,
                         .rank = works ? worker : 0,
                         .ranks = layout.workers(),
                         .seed = 11,
                         .crop = 8,
                         .flip = true,
                         .prefetch = works ? 2 : 0,
                         .start = start});
  Trainer trainer(net, rule, cpu);
  if (checkpoints.found()) checkpoints.found()->restore(model, batches, trainer, plan);

  std::optional<model::CenterStore> store;
  if (layout.role_of(net.rank()) == Role::server) {
    store.emplace(wish.checkpoints.folder / "center");
    auto const commit = store->load([](std::string const&) {});
    if (commit) trainer.restore("center", Span<float const>(commit->center));
    if (commit) plan.lineage = commit->lineage;
  }
  auto const commit = [&](event::Center<float> const& center) { (*store)(center); };
  auto const signal = [&](event::Step const& step) {
    if (step.step == wish.stop_at) stop = true;
  };
  trainer.run(model, batches, plan, checkpoints.saver(net, model, batches), commit, signal);

  std::vector<double> left(model.parameters().begin(), model.parameters().end());
  for (char const* name : {"velocity", "center"})
    if (trainer.has_state(name)) {
      auto const values = trainer.state(name);
      left.insert(left.end(), values.begin(), values.end());
    }
  left.push_back(double(batches.samples()));
  left.push_back(double(model.generator()() >> 11));
  return left;
}

template <class Net, class Rule>
Answers run(Rule const& rule, int ranks, Wish const& wish) {
  return Launch<Net>::run(ranks, [&](Net& net) { return train(net, rule, wish); });
}

/// A run that is stopped and goes on, twice, against one that is not.
template <class Net, class Rule>
void check_resumed(Rule const& rule, int ranks, long first, long second) {
  CAPTURE(Net::name, Rule::name, describe(rule));
  TempFolder const straight, folder;
  Answers const expected = run<Net>(rule, ranks, {.checkpoints = {.folder = straight.path()}});
  run<Net>(rule, ranks, {.checkpoints = {.folder = folder.path()}, .stop_at = first});
  Wish again{.checkpoints = {.folder = folder.path(), .resume = true, .every_steps = 3}, .stop_at = second};
  run<Net>(rule, ranks, again);
  again.stop_at = -1;
  CHECK(run<Net>(rule, ranks, again) == expected);
}

std::vector<std::string> listed(fs::path const& folder) {
  std::vector<std::string> all;
  for (auto const& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) all.push_back(fs::relative(entry.path(), folder).string());
  std::sort(all.begin(), all.end());
  return all;
}

void flip_byte(fs::path const& path, std::streamoff from_end) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-from_end, std::ios::end);
  char const byte = static_cast<char>(file.get() ^ 1);
  file.seekp(-from_end, std::ios::end);
  file.put(byte);
}

rule::SyncEasgd const easgd{.period = 4};

/// Gathers warnings of all ranks.
struct Warnings {
  std::mutex mutex;
  std::string text;
  auto taker() {
    return [this](std::string const& warning) {
      std::lock_guard const lock(mutex);
      text += warning + "\n";
    };
  }
};

}  // namespace

TEST_CASE("stopped and resumed is bit for bit the run that was not: one process") {
  check_resumed<transport::Serial>(easgd, 1, 6, 13);
  check_resumed<transport::Serial>(rule::Bsp{}, 1, 6, 13);
}

TEST_CASE("stopped and resumed is bit for bit the run that was not: threads") {
  check_resumed<transport::Threads>(easgd, 3, 6, 13);
  check_resumed<transport::Threads>(rule::SyncEasgd{.period = 3, .order = rule::Order::post_step}, 2, 5, 12);
  check_resumed<transport::Threads>(rule::SyncEasgd{.period = 3, .wire = Wire::bf16}, 2, 5, 12);
  check_resumed<transport::Threads>(rule::Bsp{.combine = rule::Combine::parameters, .period = 3}, 3, 6, 13);
  for (rule::Order const order : {rule::Order::jacobi, rule::Order::post_step})
    check_resumed<transport::Threads>(rule::AsyncEasgd{.alpha = 0.4, .period = 3, .order = order}, 2, 6, 13);
}

TEST_CASE("stopped and resumed is bit for bit the run that was not: shared memory") {
  check_resumed<transport::SharedMemory>(easgd, 3, 6, 13);
  check_resumed<transport::SharedMemory>(rule::AsyncEasgd{.alpha = 0.4, .period = 3}, 2, 6, 13);
}

TEST_CASE("a run that dies goes on from the newest step that everybody has whole") {
  auto const damage =
      GENERATE(as<std::string>(), "nothing", "a missing rank", "an empty folder", "a flipped byte",
               "half a file", "a file of another step", "the first rank's metadata");
  CAPTURE(damage);
  TempFolder const straight, folder;
  Answers const expected = run<transport::Threads>(easgd, 3, {.checkpoints = {.folder = straight.path()}});
  Warnings warnings;
  CheckpointOptions options{.folder = folder.path(), .every_steps = 5, .warn = warnings.taker()};
  run<transport::Threads>(easgd, 3, {.checkpoints = options, .steps = 10});
  CHECK(listed(folder.path()).size() == 6);
  auto const newest = folder.path() / "step-10";
  std::string expected_warning = "step-10/rank-2.safetensors";
  if (damage == "nothing") expected_warning = "";
  if (damage == "a missing rank") fs::remove(newest / "rank-2.safetensors");
  if (damage == "an empty folder")
    fs::remove_all(newest), fs::create_directory(newest), expected_warning = "step-10";
  if (damage == "a flipped byte") flip_byte(newest / "rank-2.safetensors", 9);
  if (damage == "half a file") fs::resize_file(newest / "rank-2.safetensors", 3000);
  if (damage == "a file of another step")
    fs::copy_file(folder.path() / "step-5" / "rank-2.safetensors", newest / "rank-2.safetensors",
                  fs::copy_options::overwrite_existing);
  if (damage == "the first rank's metadata") {
    auto const size = static_cast<std::streamoff>(fs::file_size(newest / "rank-0.safetensors"));
    flip_byte(newest / "rank-0.safetensors", size - 100);
    expected_warning = "step-10/rank-0.safetensors";
  }
  std::ofstream(folder.path() / "step-5" / "rank-1.safetensors.tmp99-0") << "unfinished";
  options.resume = true;
  CHECK(run<transport::Threads>(easgd, 3, {.checkpoints = options}) == expected);
  CHECK_THAT(warnings.text, Contains(expected_warning));
  CHECK(warnings.text.empty() == expected_warning.empty());
  CHECK(listed(folder.path()) ==
        std::vector<std::string>{"step-15/rank-0.safetensors", "step-15/rank-1.safetensors",
                                 "step-15/rank-2.safetensors", "step-20/rank-0.safetensors",
                                 "step-20/rank-1.safetensors", "step-20/rank-2.safetensors"});
}

TEST_CASE("what cannot go on is refused with the first difference") {
  TempFolder const folder;
  Wish wish{.checkpoints = {.folder = folder.path(), .terms = "seed=1\n"}, .steps = 6};
  wish.checkpoints.warn = [](std::string const&) {};
  run<transport::Serial>(easgd, 1, wish);
  auto const refusal = [&](rule::SyncEasgd const& rule, Wish const& changed) {
    return message_of<ConfigError>([&] { run<transport::Serial>(rule, 1, changed); });
  };
  CHECK_THAT(refusal(easgd, wish), Contains("holds the checkpoints of an earlier run"));
  wish.checkpoints.resume = true;
  CHECK_THAT(refusal({.period = 5}, wish),
             Contains("step-6/rank-0.safetensors: the run that was saved had period=4, "
                      "this one has period=5"));
  Wish other = wish;
  other.checkpoints.terms = "seed=2\n";
  CHECK_THAT(refusal(easgd, other), Contains("had seed=1, this one has seed=2"));
  other = wish;
  other.sgd.momentum = 0.5;
  CHECK_THAT(refusal(easgd, other), Contains("had momentum=0.9, this one has momentum=0.5"));
  other = wish;
  other.outputs = 4;
  CHECK_THAT(refusal(easgd, other),
             Contains("weights of another layout: parameters.1.weight is F32[4,64] in this "
                      "model and F32[3,64] in the file"));
  other = wish;
  other.checkpoints.keep = 0;
  CHECK_THAT(refusal(easgd, other), Contains("at least 1"));
  other = wish;
  other.steps = 9;  // may change
  run<transport::Serial>(easgd, 1, other);
  CHECK(listed(folder.path()) ==
        std::vector<std::string>{"step-6/rank-0.safetensors", "step-9/rank-0.safetensors"});
  for (auto const& file : listed(folder.path())) flip_byte(folder.path() / file, 5);
  CHECK_THAT(message_of<DataError>([&] { run<transport::Serial>(easgd, 1, wish); }),
             Contains("none of its checkpoints is whole"));
}

TEST_CASE("the terms of another run are refused on every rank, by the one that sees them first") {
  TempFolder const folder;
  Wish wish{.checkpoints = {.folder = folder.path()}, .steps = 6};
  run<transport::Threads>(easgd, 3, wish);
  wish.checkpoints.resume = true;
  CHECK_THROWS_WITH(run<transport::Threads>(rule::SyncEasgd{.period = 5}, 3, wish), Contains("had period=4"));
}

TEST_CASE("testers go on with the workers; the clock is one for all; so many are kept") {
  TempFolder const folder;
  Wish wish{
      .checkpoints = {.folder = folder.path(), .every_seconds = 1e-9, .keep = 3}, .steps = 57, .testers = 1};
  run<transport::Threads>(easgd, 3, wish);
  std::vector<std::string> const kept{"step-40/rank-0.safetensors", "step-40/rank-1.safetensors",
                                      "step-50/rank-0.safetensors", "step-50/rank-1.safetensors",
                                      "step-57/rank-0.safetensors", "step-57/rank-1.safetensors"};
  CHECK(listed(folder.path()) == kept);
  wish.checkpoints.resume = true;
  wish.steps = 60;
  run<transport::Threads>(easgd, 3, wish);
  CHECK(fs::exists(folder.path() / "step-60" / "rank-1.safetensors"));
  fs::create_directory(folder.path() / "step-7");  // of an attempt that came to nothing
  fs::create_directory(folder.path() / "step-x");
  wish.steps = 63;
  run<transport::Threads>(easgd, 3, wish);
  CHECK(fs::exists(folder.path() / "step-63" / "rank-1.safetensors"));
}

TEST_CASE("a checkpoint that cannot be written is a warning, the last one an error") {
  TempFolder const folder;
  Warnings warnings;
  folder.write("step-5", "in the way");
  Wish wish{.checkpoints = {.folder = folder.path(), .every_steps = 5, .warn = warnings.taker()},
            .steps = 12};
  run<transport::Threads>(easgd, 2, wish);
  CHECK_THAT(warnings.text, Contains("step-5") && Contains("training goes on"));
  CHECK(fs::exists(folder.path() / "step-12" / "rank-1.safetensors"));
  TempFolder const last;
  last.write("step-12", "in the way");
  wish.checkpoints.folder = last.path();
  CHECK_THROWS_WITH(run<transport::Threads>(easgd, 2, wish), Contains("step-12"));
}

TEST_CASE("tensors have the names and shapes that PyTorch gives them") {
  model::Architecture const net(
      {4, 8, 8},
      {model::Conv{.channels = 6, .kernel = 3, .groups = 2}, model::BatchNorm{}, model::Relu{},
       model::MaxPool{2}, model::Linear{.outputs = 5}, model::Dropout{}, model::Linear{.outputs = 3}});
  std::string listed;
  std::size_t end = 0;
  for (auto const& place : model::tensor_places(net)) {
    listed += to_string(model::TensorInfo{place.name, place.name + " ", place.shape}) + "; ";
    CHECK(place.offset == end);
    end += place.count;
  }
  CHECK(end == net.parameter_count());
  CHECK(listed ==
        "0.weight [6,2,3,3]; 0.bias [6]; 1.weight [6]; 1.bias [6]; 4.weight [5,54]; 4.bias [5]; "
        "6.weight [3,5]; 6.bias [3]; ");
}

TEST_CASE("data that can be streamed is saved too; records and metadata come back") {
  TempFolder const folder;
  device::Cpu cpu;
  auto const train_on = [&](long steps, bool resume, bool keeps) {
    transport::Serial net;
    model::Quadratic<float> model(cpu, 8);
    std::fill_n(model.parameters().data(), 8, 2.0f);
    data::Noise<float> noise(8, 1, 4);
    Plan plan{.steps = steps, .sgd = {.learning_rate = 0.1, .momentum = 0.5}};
    Checkpoints checkpoints({.folder = folder.path(),
                             .terms = "x=1\n",
                             .resume = resume,
                             .records = [] { return std::string("{\"epochs\": 2}"); }},
                            {1, 0, 0}, 0);
    Trainer trainer(net, rule::Bsp{}, cpu);
    if (keeps && checkpoints.open(net)) {
      CHECK(checkpoints.found()->text("records") == "{\"epochs\": 2}");
      CHECK(checkpoints.found()->samples() == 0);
      checkpoints.found()->restore(model, noise, trainer, plan);
    }
    if (keeps)
      trainer.run(model, noise, plan, checkpoints.saver(net, model, noise));
    else
      trainer.run(model, noise, plan);
    CHECK((checkpoints.seconds() > 0) == keeps);
    return std::vector<float>(model.parameters().begin(), model.parameters().end());
  };
  auto const straight = train_on(31, false, false);
  train_on(11, false, true);
  CHECK(train_on(31, true, true) == straight);
}

TEST_CASE("Python reads the tensors with nothing but json and struct") {
  if (std::system("python3 -c pass 2>/dev/null") != 0) {
    WARN("python3 is not installed");
    return;
  }
  TempFolder const folder;
  Answers const left = run<transport::Serial>(easgd, 1, {.checkpoints = {.folder = folder.path()}});
  auto const script = folder.write("read.py", R"(
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
length, = struct.unpack_from('<Q', data)
header = json.loads(data[8:8 + length])
about = header.pop('__metadata__')
assert about['steps'] == '20' and 'rule=sync_easgd' in about['terms'], about
shapes = {name: t['shape'] for name, t in header.items() if name.startswith('center.')}
assert shapes == {'center.1.weight': [3, 64], 'center.1.bias': [3]}, shapes
assert len(header) == 6, list(header)
for name, t in header.items():
    begin, end = t['data_offsets']
    values = struct.unpack_from('<%df' % ((end - begin) // 4), data, 8 + length + begin)
    if name == 'parameters.1.weight':
        print('%.9g' % values[5])
)");
  auto const out = folder.path() / "value";
  std::string const command = "python3 '" + script.string() + "' '" +
                              (folder.path() / "step-20" / "rank-0.safetensors").string() + "' > '" +
                              out.string() + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  double value = 0;
  std::ifstream(out) >> value;
  CHECK(value == Approx(left[0][5]).epsilon(1e-7));
}
