// SPDX-License-Identifier: Apache-2.0
// What a training job of a bench is asked to do, what it reads, and what it says in the end.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "../../samples/kit/small_images.hpp"
#include "elastic/data/image_set.hpp"
#include "elastic/data/normalization.hpp"
#include "elastic/error.hpp"
#include "elastic/model/architecture.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/options.hpp"

using Json = nlohmann::json;

namespace bench {

constexpr int evaluation_batch = 250;

struct Job {
  std::string data{};
  sample::NetName net = sample::NetName::perceptron;
  std::string rule = "bsp";
  std::string transport = "shared_memory";
  int workers = 2;
  int batch = 128;
  double epochs = 1;
  long steps = 0;
  long seed = 1;
  bool flip = false;
  bool bind = false;
  int points = 0;
  long test_images = 0;
  std::string networks{};
  std::string host = "127.0.0.1";

  static constexpr auto options = std::tuple{
      elastic::Option{"data", &Job::data, sample::data_help},
      elastic::Option{"net", &Job::net, "784-512-512-10, the EASGD paper's, or the Async-EASGD example's"},
      elastic::Option{"rule", &Job::rule,
                      "bsp, sync_easgd, async_easgd, or none: workers that never communicate"},
      elastic::Option{"transport", &Job::transport, "shared_memory or tcp"},
      elastic::Option{"workers", &Job::workers, "beside a server, if the rule has one", 1, 64},
      elastic::Option{"batch", &Job::batch, "images per step and worker", 1, 65536},
      elastic::Option{"epochs", &Job::epochs, "passes over the training set, all workers together", 0.0},
      elastic::Option{"steps", &Job::steps, "of each worker, instead of epochs; 0: as epochs say", 0},
      elastic::Option{"seed", &Job::seed, "of the first parameters, the order of samples, and dropout", 0},
      elastic::Option{"flip", &Job::flip, "mirror half of the training images"},
      elastic::Option{"bind", &Job::bind, "each worker on a core of its own, as far as there are cores"},
      elastic::Option{"points", &Job::points,
                      "how often on the way the center is kept, to be tested when training is over", 0, 100},
      elastic::Option{"test_images", &Job::test_images,
                      "images that each kept center but the last is tested on; 0: all", 0},
      elastic::Option{"networks", &Job::networks,
                      "tcp: names of network namespaces, separated by commas, that ranks are spread over"},
      elastic::Option{"host", &Job::host, "tcp: where rank 0 is found"},
  };

  void check() const {
    elastic::check_options(*this);
    if (transport != "shared_memory" && transport != "tcp")
      throw elastic::ConfigError("transport: expected shared_memory or tcp, found '" + transport + "'");
    if (rule == "none" && points > 0)
      throw elastic::ConfigError("points: workers that never communicate have no center");
    if (!networks.empty() && transport != "tcp")
      throw elastic::ConfigError("networks: only tcp crosses a network");
  }
};

/// The words between commas.
inline std::vector<std::string> words(std::string const& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) found.push_back(word);
  return found;
}

struct Images {
  elastic::data::ImageSet train, test;
  elastic::data::Normalization normal;
};

/// Throws ConfigError or DataError where the folder does not hold what it should.
Images read(Job const& job);

/// Throws ConfigError for a net that does not take these images.
elastic::model::Architecture architecture(Job const& job, elastic::data::ImageSet const& images);

/// Steps of each worker.
inline long steps_of(Job const& job, std::size_t images, int workers) {
  if (job.steps > 0) return job.steps;
  return std::max(1L, std::lround(job.epochs * double(images) / (double(job.batch) * workers)));
}

/// What the ranks say, put together. A worker's seconds are all but those of observers, which keep centers; its rate
/// is that over its own seconds, and the job's the sum of its workers'.
Json summary(Job const& job, elastic::optimizer::Sgd const& sgd, Json const& reports);

}  // namespace bench
