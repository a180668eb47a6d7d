// SPDX-License-Identifier: Apache-2.0
// What one process of the sample is asked to do, and the data and net that follow from it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/data/augment.hpp"
#include "elastic/data/batches.hpp"
#include "elastic/data/cifar10.hpp"
#include "elastic/data/idx.hpp"
#include "elastic/error.hpp"
#include "elastic/model/nets.hpp"
#include "elastic/options.hpp"

namespace sample {

enum class NetName { easgd, async_easgd, perceptron };

constexpr auto names(NetName) {
  return std::array{std::pair{std::string_view("easgd"), NetName::easgd},
                    std::pair{std::string_view("async_easgd"), NetName::async_easgd},
                    std::pair{std::string_view("perceptron"), NetName::perceptron}};
}

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
  std::string job = "cifar10";
  double timeout = 60;

  std::string data{};
  NetName net = NetName::easgd;
  int batch = 32;
  double epochs = 5;
  long seed = 1;
  bool flip = true;
  int pad = 0;

  double test_every = 15;
  int train_images = 10000;
  std::string out{};
  std::string commit{};
  double commit_every = 30;
  std::string label{};

  using Option = elastic::Option<Job, int>;
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
      elastic::Option{
          "data", &Job::data,
          "folder with CIFAR-10's .bin or Fashion-MNIST's files; not set: Debian's Fashion-MNIST"},
      elastic::Option{"net", &Job::net, "the EASGD paper's net, the Async-EASGD example's, or a perceptron"},
      elastic::Option{"batch", &Job::batch, "images per step and client", 1, 65536},
      elastic::Option{"epochs", &Job::epochs, "passes over the training set, all clients together", 0.0},
      elastic::Option{"seed", &Job::seed, "of the first parameters, the order of samples, and dropout", 0.0},
      elastic::Option{"flip", &Job::flip, "mirror half of the training images"},
      elastic::Option{"pad", &Job::pad, "zeros around an image that a random crop may reach into", 0, 16},
      elastic::Option{"test_every", &Job::test_every, "seconds from one test of the center to the next", 0.0},
      elastic::Option{"train_images", &Job::train_images,
                      "training images a test evaluates, beside all test images", 0.0},
      elastic::Option{"out", &Job::out,
                      "folder for log.jsonl, center.safetensors and best.safetensors; not set: none"},
      elastic::Option{"commit", &Job::commit,
                      "async_easgd: folder where the server keeps its center, to go on from if it is killed"},
      elastic::Option{"commit_every", &Job::commit_every, "seconds from one commit to the next", 0.001},
      elastic::Option{"label", &Job::label, "name of the run in its log; not set: the rule"},
  };

  void check() const { elastic::check_options(*this); }
};

/// The images of a job and how they enter the net.
struct Sets {
  elastic::data::ImageSet train, test;
  elastic::data::Normalization normal;
  int crop;  ///< side of the net's input
};

inline Sets load(Job const& job) {
  namespace data = elastic::data;
  Sets sets{};
  bool const cifar =
      !job.data.empty() && std::filesystem::exists(std::filesystem::path(job.data) / "data_batch_1.bin");
  auto const read = [&](data::Split split) {
    return cifar ? data::cifar10(job.data, split)
                 : data::fashion_mnist(job.data.empty() ? data::fashion_mnist_folder : job.data, split);
  };
  sets.train = read(data::Split::train);
  sets.test = read(data::Split::test);
  sets.normal = data::normalization(sets.train);
  sets.crop = job.net == NetName::async_easgd ? sets.train.height : 28;
  return sets;
}

inline elastic::model::Architecture architecture(Job const& job, Sets const& sets) {
  switch (job.net) {
    case NetName::easgd:
      return elastic::model::easgd_cifar(sets.train.channels, sets.train.classes,
                                         {elastic::model::Init{elastic::model::Init::Kind::glorot}});
    case NetName::async_easgd:
      return elastic::model::async_easgd_cifar(sets.train.channels, sets.crop, sets.train.classes);
    case NetName::perceptron: break;
  }
  if (sets.train.channels != 1)
    throw elastic::ConfigError("net: the perceptron takes Fashion-MNIST's gray images");
  return elastic::model::perceptron();
}

/// Steps of each client so that together they use `epochs` times the training set.
inline long steps(Job const& job, Sets const& sets) {
  return std::max(1L, std::lround(job.epochs * double(sets.train.count) / (double(job.batch) * job.clients)));
}

}  // namespace sample
