// SPDX-License-Identifier: Apache-2.0
// Prints docs/options.md from the tables of options that also make --help. After a change of an option:
//     print_options > docs/options.md
#include <cstdio>
#include <string>
#include <tuple>

#include "../samples/cifar10/images.hpp"
#include "../samples/kit/compute.hpp"
#include "../samples/kit/job.hpp"
#include "../samples/kit/stored_images.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/optimizer/schedule.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/options.hpp"
#include "elastic/rule/ancestors.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/transport/staged.hpp"

namespace {

/// One row for each option of `Policy`, with the default that its default constructor sets.
template <class Policy>
void print_table(char const* heading, char const* about) {
  std::printf("\n## %s\n%s\n\n| key | default | expected | what it does |\n|---|---|---|---|\n", heading,
              about);
  Policy const defaults;
  auto const row = [&](auto const& option) {
    std::string const text = elastic::to_text(defaults.*option.member);
    std::printf("| `%s` | %s | %s | %s |\n", std::string(option.key).c_str(),
                text.empty() ? "not set" : ("`" + text + "`").c_str(), elastic::expectation(option).c_str(),
                std::string(option.help).c_str());
  };
  std::apply([&](auto const&... option) { (row(option), ...); }, Policy::options);
}

}  // namespace

int main() {
  namespace rule = elastic::rule;
  namespace optimizer = elastic::optimizer;
  std::printf(
      "%s",
      "<!-- Printed by test/print_options.cpp. Change the tables of options, not this page. -->\n"
      "# Options\n\n"
      "A key is a member of the type it stands under, a flag of [cifar10](cifar10.md) (`--learning-rate` "
      "for\n"
      "`learning_rate`), a line of its YAML file and a variable of its environment "
      "(`ELASTIC_LEARNING_RATE`).\n"
      "Defaults are those of the types; `cifar10 --help` shows the sample's where it starts from others.\n"
      "What the options of rules mean: [rules.md](rules.md).\n");
  print_table<rule::Bsp>("rule::Bsp", "[rule/bsp.hpp](../include/elastic/rule/bsp.hpp)");
  print_table<rule::SyncEasgd>(
      "rule::SyncEasgd",
      "[rule/sync_easgd.hpp](../include/elastic/rule/sync_easgd.hpp). At most one of "
      "`alpha` and `beta` is set.");
  print_table<rule::AsyncEasgd>(
      "rule::AsyncEasgd",
      "[rule/async_easgd.hpp](../include/elastic/rule/async_easgd.hpp). At most one of "
      "`alpha` and `beta` is set.");
  print_table<rule::AllToAllBsp>(
      "rule::AllToAllBsp",
      "[rule/ancestors.hpp](../include/elastic/rule/ancestors.hpp): a baseline, not in the samples.");
  print_table<rule::TwoWeightsEasgd>(
      "rule::TwoWeightsEasgd",
      "[rule/ancestors.hpp](../include/elastic/rule/ancestors.hpp): a baseline, not in the samples.");
  print_table<optimizer::Sgd>(
      "optimizer::Sgd",
      "The local step of every rule: [optimizer/sgd.hpp](../include/elastic/optimizer/sgd.hpp).");
  print_table<optimizer::Schedule>(
      "optimizer::Schedule",
      "Its learning rate over time: [optimizer/schedule.hpp](../include/elastic/optimizer/schedule.hpp).");
  print_table<elastic::model::CudaNetOptions>(
      "model::CudaNetOptions",
      "Of a net on a GPU ([gpu-models.md](gpu-models.md)): "
      "[model/cuda_net_options.hpp](../include/elastic/model/cuda_net_options.hpp).");
  print_table<elastic::transport::StagedOptions>(
      "transport::StagedOptions",
      "Of device memory over a transport ([adding-a-device.md](adding-a-device.md)): "
      "[transport/staged.hpp](../include/elastic/transport/staged.hpp).");
  print_table<sample::Compute>(
      "Where a process of cifar10 computes",
      "[samples/kit/compute.hpp](../samples/kit/compute.hpp); the processes of a job may differ.");
  print_table<sample::Job>("The job of a sample", "[samples/kit/job.hpp](../samples/kit/job.hpp).");
  print_table<sample::Images>("The data and nets of cifar10",
                              "[samples/cifar10/images.hpp](../samples/cifar10/images.hpp).");
  print_table<sample::Reading>("How the samples read images",
                               "[samples/kit/stored_images.hpp](../samples/kit/stored_images.hpp).");
}
