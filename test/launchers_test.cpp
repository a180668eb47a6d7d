// SPDX-License-Identifier: Apache-2.0
// What others than our own command line say: the launcher's environment, and Theano-MPI's configuration files.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

#include "../samples/kit/job.hpp"
#include "../samples/kit/theano_mpi.hpp"
#include "elastic/cli/place.hpp"
#include "elastic/cli/settings.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "support/catch.hpp"

namespace {

using namespace elastic;
using cli::detect_place;

cli::Place place(std::vector<char const*> environment) {
  environment.push_back(nullptr);
  return detect_place(environment.data());
}

/// Theano-MPI's config.yaml and alexnet.yaml as shipped at 8780609, but for the paths.
constexpr char const* config = R"(
name: alexnet
resume_train: False
load_epoch: 44
use_momentum: True
use_nesterov_momentum: False
sync_rule: BSP
avg_freq: 1
alpha: 0.5
train_mode: avg
cuda_aware: True
fp: 32
file_batch_size: 128
use_data_layer: False
para_load: True
data_source: hkl
lib_conv: cudnn
flag_top_5: True
print_info_every: 5120
snapshot_freq: 2
print_train_error: True
print_freq: 2
random: True
shuffle: True
rand_crop: True
batch_crop_mirror: True
weight_init_seed: 23455
gpushift: 0
sock_data: 5011
debug: False
)";
constexpr char const* alexnet = R"(
n_epochs: 70
learning_rate: 0.01
lr_policy: step
lr_adapt_threshold: 0.01
lr_step: [20, 40, 60]
weight_decay: 0.0005
momentum: 0.9
batch_size: 128
)";

/// The settings of files with these texts.
cli::Settings theirs(std::vector<std::string> const& texts) {
  std::filesystem::path const folder =
      std::filesystem::temp_directory_path() / ("elastic-theano-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::string files;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    auto const file = folder / (std::to_string(i) + ".yaml");
    std::ofstream(file) << texts[i];
    if (i > 0) files += ',';
    files += file.string();
  }
  struct Remove {
    std::filesystem::path folder;
    ~Remove() { std::filesystem::remove_all(folder); }
  } const remove{folder};
  return sample::theano_mpi::read(files);
}

}  // namespace

TEST_CASE("the first launcher that sets rank and size decides the place") {
  CHECK(place({}).size == 1);
  CHECK(place({"RANK=1"}).size == 1);  // no WORLD_SIZE: not torchrun's
  cli::Place const torchrun =
      place({"SLURM_PROCID=3", "SLURM_NTASKS=4", "SLURM_STEP_ID=0", "RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=0",
             "MASTER_ADDR=node7", "MASTER_PORT=29500"});
  CHECK(torchrun.rank == 1);
  CHECK(torchrun.size == 2);
  CHECK(torchrun.local_rank == 0);
  CHECK(torchrun.host == "node7");
  CHECK(torchrun.port == 29500);
  CHECK(torchrun.source == "torchrun (RANK)");
  cli::Place const own = place({"RANK=1", "WORLD_SIZE=2", "ELASTIC_RANK=4", "ELASTIC_SIZE=6"});
  CHECK(own.rank == 4);
  CHECK(own.local_rank == 4);
  CHECK(place({"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=3", "OMPI_COMM_WORLD_LOCAL_RANK=1"})
            .local_rank == 1);
  CHECK(place({"PMI_RANK=2", "PMI_SIZE=3"}).rank == 2);
  CHECK(place({"SLURM_PROCID=3", "SLURM_NTASKS=4", "SLURM_STEP_ID=0"}).rank == 3);
}

TEST_CASE("Slurm's batch script is one process") {
  cli::Place const script = place({"SLURM_PROCID=0", "SLURM_NTASKS=4"});
  CHECK(script.size == 1);
  CHECK(script.source.find("srun") != std::string::npos);
}

TEST_CASE("a variable of a launcher that cannot be is named") {
  CHECK_THROWS_WITH(place({"RANK=one", "WORLD_SIZE=2"}),
                    "elastic: environment variable RANK: 'one' is not a whole number >= 0");
  CHECK_THROWS_WITH(place({"RANK=2", "WORLD_SIZE=2"}), "elastic: environment: RANK=2 of WORLD_SIZE=2");
  CHECK_THROWS_AS(place({"RANK=-1", "WORLD_SIZE=2"}), ConfigError);
}

TEST_CASE("Theano-MPI's shipped files are options of ours") {
  cli::Settings const ours = theirs({config, alexnet});
  sample::Job job;
  optimizer::Sgd sgd;
  rule::Bsp bsp;
  cli::apply(ours, job);
  cli::apply(ours, sgd);
  cli::apply(ours, sgd.schedule);
  cli::apply(ours, bsp);
  CHECK(job.rule == "bsp");
  CHECK(job.batch == 128);
  CHECK(job.epochs == 70);
  CHECK(job.seed == 23455);
  CHECK(bsp.combine == rule::Combine::parameters);
  CHECK(bsp.period == 1);
  CHECK(sgd.learning_rate == 0.01);
  CHECK(sgd.momentum == 0.9);
  CHECK(sgd.momentum_kind == optimizer::Momentum::heavy_ball);
  CHECK(sgd.weight_decay == 0.0005);
  CHECK(sgd.schedule.decay == optimizer::Decay::step);
  CHECK(sgd.schedule.decay_epochs == std::vector<double>{20, 40, 60});
  CHECK(sgd.schedule.scale_by_workers);
  CHECK(ours.at("net").text == "alexnet");
  CHECK(ours.at("augment").text == "batch");
  CHECK(ours.at("wire").text == "float32");
  CHECK(ours.at("epochs").origin.find("1.yaml:2") != std::string::npos);
}

TEST_CASE("Theano-MPI's other values are, too; a later file wins") {
  cli::Settings const ours =
      theirs({config, alexnet,
              "sync_rule: EASGD\navg_freq: 8\nfp: 16\nuse_momentum: False\nshuffle: False\n"
              "lr_policy: auto\nbatch_crop_mirror: False\nresume_train: True\n"});
  rule::AsyncEasgd easgd;
  optimizer::Sgd sgd;
  cli::apply(ours, easgd);
  cli::apply(ours, sgd);
  cli::apply(ours, sgd.schedule);
  CHECK(ours.at("rule").text == "async_easgd");
  CHECK(easgd.order == rule::Order::post_step);
  CHECK(easgd.period == 8);
  CHECK(easgd.alpha == 0.5);
  CHECK(sgd.momentum == 0);
  CHECK(sgd.schedule.decay == optimizer::Decay::plateau);
  CHECK_FALSE(sgd.schedule.scale_by_workers);
  CHECK(ours.at("wire").text == "fp16");
  CHECK(ours.at("sampler").text == "linear");
  CHECK(ours.at("augment").text == "image");
  CHECK(ours.at("resume").text == "true");
  cli::Settings const summed = theirs({"train_mode: cdd\nsync_rule: BSP\nuse_nesterov_momentum: True\n"});
  CHECK(summed.at("combine").text == "velocities");
  CHECK(summed.at("momentum_kind").text == "nesterov");
}

TEST_CASE("what has no meaning any more is refused with file, line and reason") {
  auto const refused = [](std::string const& text, std::string const& why) {
    INFO(text);
    try {
      theirs({"name: alexnet\n" + text + "\n"});
      FAIL("it is accepted");
    } catch (ConfigError const& e) {
      CHECK(std::string(e.what()).find("0.yaml:2: " + why) != std::string::npos);
    }
  };
  refused("debug: True", "debug: 'True' has no meaning here, only False: --epochs shortens a run");
  refused("dir_head: /data", "dir_head: its hickle files cannot be read");
  refused("data_source: lmdb", "data_source: 'lmdb' has no meaning here, only hkl");
  refused("sync_rule: ASGD", "sync_rule: 'ASGD' is not BSP or EASGD");
  refused("shuffle: maybe", "shuffle: 'maybe' is not True or False");
  refused("batch_sise: 3", "there is no option 'batch_sise'; did you mean 'batch_size'?");
  CHECK_THROWS_WITH(theirs({"batch_size: 64\nfile_batch_size: 128\n"}),
                    Catch::Matchers::ContainsSubstring("file_batch_size: 128, but"));
}
