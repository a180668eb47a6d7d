// SPDX-License-Identifier: Apache-2.0
// Apart from the job itself, so that the nets are not compiled with every rule and transport.
#include "job.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>

#include "elastic/data/cifar10.hpp"
#include "elastic/data/idx.hpp"
#include "elastic/model/nets.hpp"

namespace bench {

Images read(Job const& job) {
  namespace data = elastic::data;
  bool const cifar =
      !job.data.empty() && std::filesystem::exists(std::filesystem::path(job.data) / "data_batch_1.bin");
  auto const part = [&](data::Split split) {
    return cifar ? data::cifar10(job.data, split)
                 : data::fashion_mnist(job.data.empty() ? data::fashion_mnist_folder : job.data, split);
  };
  Images images{part(data::Split::train), part(data::Split::test), {}};
  images.normal = data::normalization(images.train);
  return images;
}

elastic::model::Architecture architecture(NetName net, elastic::data::ImageSet const& images) {
  namespace model = elastic::model;
  switch (net) {
    case NetName::easgd:
      return model::easgd_cifar(images.channels, images.classes, {model::Init{model::Init::Kind::glorot}});
    case NetName::async_easgd:
      return model::async_easgd_cifar(images.channels, images.height, images.classes);
    case NetName::perceptron: break;
  }
  if (images.channels != 1)
    throw elastic::ConfigError("net: the perceptron takes Fashion-MNIST's gray images");
  return model::perceptron();
}

Json summary(Job const& job, elastic::optimizer::Sgd const& sgd, Json const& reports) {
  double rate = 0, slowest = 0, samples = 0;
  Json mean{{"computing", 0.0}, {"exchanging", 0.0}, {"waiting", 0.0}, {"loading", 0.0}};
  Json curve = Json::array();
  std::uint64_t bytes = 0;
  for (Json const& r : reports) {
    if (!r["curve"].empty()) curve = r["curve"];
    if (r["role"] != "worker") continue;
    double seconds = 0;
    for (auto& [name, sum] : mean.items()) {
      sum = sum.get<double>() + r[name].get<double>() / job.workers;
      seconds += r[name].get<double>();
    }
    double const own = r["steps"].get<double>() * job.batch;
    samples += own;
    rate += own / seconds;
    slowest = std::max(slowest, seconds);
    bytes += r["sent_bytes"].get<std::uint64_t>() + r["received_bytes"].get<std::uint64_t>();
  }
  return {{"rule", job.rule},
          {"transport", job.transport},
          {"net", elastic::to_text(job.net)},
          {"workers", job.workers},
          {"batch", job.batch},
          {"seed", job.seed},
          {"learning_rate", sgd.learning_rate},
          {"momentum", sgd.momentum},
          {"parameters", reports[0]["parameters"]},
          {"samples", samples},
          {"seconds", slowest},
          {"images_per_second", rate},
          {"worker_seconds", mean},
          {"worker_bytes", bytes},
          {"curve", curve},
          {"ranks", reports}};
}

}  // namespace bench
