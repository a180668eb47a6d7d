// SPDX-License-Identifier: Apache-2.0
// Apart from the job itself, so that the nets are not compiled with every rule and transport.
#include "job.hpp"

#include <algorithm>
#include <cstdint>

namespace bench {

Images read(Job const& job) {
  using elastic::data::Split;
  Images images{
      sample::small_images(job.data, Split::train), sample::small_images(job.data, Split::test), {}};
  images.normal = elastic::data::normalization(images.train);
  return images;
}

elastic::model::Architecture architecture(Job const& job, elastic::data::ImageSet const& images) {
  return sample::architecture(job.net, images);
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
