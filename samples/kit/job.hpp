// SPDX-License-Identifier: Apache-2.0
// What one process is asked to do, whatever it trains.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <tuple>

#include "elastic/error.hpp"
#include "elastic/options.hpp"

namespace sample {

struct Job {
  std::string rule = "async_easgd";
  std::string transport = "tcp";
  int clients = 2;
  int testers = 1;
  int index = 1;
  std::string host = "127.0.0.1";
  std::string bind = "127.0.0.1";
  int port = 8080;
  bool tls = false;
  std::string job = "elastic";
  double timeout = 60;

  int batch = 32;
  double epochs = 5;
  long seed = 1;

  double validate_every = 0;
  double test_every = 15;
  int train_images = 10000;
  std::string out{};
  bool tensorboard = false;
  bool trace = false;
  bool status = false;
  std::string commit{};
  double commit_every = 30;
  std::string checkpoint{};
  double checkpoint_every = 1;
  int keep = 2;
  bool resume = false;
  std::string label{};
  std::string theano_mpi_config{};

  static constexpr auto options = std::tuple{
      elastic::Option{"rule", &Job::rule, "async_easgd, sync_easgd or bsp"},
      elastic::Option{"transport", &Job::transport,
                      "tcp, shared_memory, mpi (under mpirun), threads or serial"},
      elastic::Option{"clients", &Job::clients, "workers of the job", 1, 1024},
      elastic::Option{"testers", &Job::testers, "testers of the job", 0, 1},
      elastic::Option{"index", &Job::index, "which client this process is, from 1", 1, 1024},
      elastic::Option{"host", &Job::host, "tcp: where the first process of the job is found"},
      elastic::Option{"bind", &Job::bind,
                      "tcp: the address to listen on; beyond loopback a secret is needed (ELASTIC_SECRET)"},
      elastic::Option{"port", &Job::port, "tcp: the first process's port", 1, 65535},
      elastic::Option{"tls", &Job::tls, "tcp: encrypt, with a key made of the job's secret (ELASTIC_SECRET)"},
      elastic::Option{"job", &Job::job, "name of the job; equal for all of its processes"},
      elastic::Option{"timeout", &Job::timeout, "seconds after which waiting for a peer is an error", 0.1,
                      86400},
      elastic::Option{"batch", &Job::batch, "images per step and client", 1, 65536},
      elastic::Option{"epochs", &Job::epochs, "passes over the training set, all clients together", 0.0},
      elastic::Option{"seed", &Job::seed, "of the first parameters, the order of samples, and dropout", 0.0},
      elastic::Option{
          "validate_every", &Job::validate_every,
          "bsp, sync_easgd: epochs from one validation by the workers to the next, each its share of "
          "the test images; 0: none",
          0.0},
      elastic::Option{"test_every", &Job::test_every, "seconds from one test of the center to the next", 0.0},
      elastic::Option{"train_images", &Job::train_images,
                      "training images a test evaluates, beside all test images", 0.0},
      elastic::Option{"out", &Job::out,
                      "folder for log.jsonl, center.safetensors and best.safetensors; not set: none"},
      elastic::Option{"tensorboard", &Job::tensorboard, "curves for TensorBoard in the out folder"},
      elastic::Option{"trace", &Job::trace, "a timeline of each rank for Perfetto in the out folder"},
      elastic::Option{"status", &Job::status,
                      "how each rank is doing, in the out folder, for samples/status"},
      elastic::Option{"commit", &Job::commit,
                      "async_easgd: folder where the server keeps its center, to go on from if it is killed"},
      elastic::Option{"commit_every", &Job::commit_every, "seconds from one commit to the next", 0.001},
      elastic::Option{
          "checkpoint", &Job::checkpoint,
          "folder where the clients keep all they need to go on; a server its center, if commit is "
          "not set, in center/ there"},
      elastic::Option{
          "checkpoint_every", &Job::checkpoint_every,
          "epochs from one checkpoint to the next; 0: only at the end, or when a signal ends the run", 0.0},
      elastic::Option{"keep", &Job::keep, "checkpoints that stay, the newest", 1},
      elastic::Option{"resume", &Job::resume,
                      "go on from the newest checkpoint that all clients have whole, if there is one"},
      elastic::Option{"label", &Job::label, "name of the run in its log; not set: the rule"},
      elastic::Option{
          "theano_mpi_config", &Job::theano_mpi_config,
          "Theano-MPI's configuration, as `config.yaml,alexnet.yaml`; what else is said wins over it"},
  };

  void check() const {
    elastic::check_options(*this);
    char const* const needs_folder = tensorboard ? "tensorboard" : trace ? "trace" : status ? "status" : "";
    if (out.empty() && *needs_folder)
      throw elastic::ConfigError(std::string(needs_folder) + ": needs a folder to write to: --out FOLDER");
    if (resume && checkpoint.empty())
      throw elastic::ConfigError("resume: say from where: --checkpoint FOLDER");
  }

  /// Where a server keeps its center; empty: nowhere.
  std::string commit_folder() const {
    return commit.empty() && !checkpoint.empty() ? checkpoint + "/center" : commit;
  }
};

/// Steps of each client so that together they use `epochs` times `images` training images.
inline long steps(Job const& job, std::size_t images) {
  return std::max(1L, std::lround(job.epochs * double(images) / (double(job.batch) * job.clients)));
}

}  // namespace sample
