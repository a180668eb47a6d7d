// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reader of configuration files, and the options that take its values.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "elastic/cli/settings.hpp"
#include "elastic/error.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "input.hpp"

namespace {

template <class Policy>
void add_keys(std::vector<std::string>& keys) {
  std::apply([&](auto const&... option) { (keys.emplace_back(option.key), ...); }, Policy::options);
}

template <class Policy>
void try_apply(elastic::cli::Settings const& settings) {
  for (auto const& setting : settings) try {
      Policy policy;
      elastic::cli::apply({setting}, policy);
    } catch (elastic::ConfigError const&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  int const file = memfd_create("config", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  std::string path = "/proc/self/fd/";
  path += std::to_string(file);
  std::vector<std::string> keys;
  add_keys<elastic::rule::AsyncEasgd>(keys);
  add_keys<elastic::optimizer::Sgd>(keys);
  try {
    auto const settings = elastic::cli::read_yaml(path, keys);
    try_apply<elastic::rule::AsyncEasgd>(settings);
    try_apply<elastic::optimizer::Sgd>(settings);
  } catch (elastic::ConfigError const&) {
  }
  close(file);
  return 0;
}
