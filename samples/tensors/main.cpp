// SPDX-License-Identifier: Apache-2.0
// elastic-tensors: looks into safetensors files, checkpoints and centers among them, and tells two of them apart.
//
//   elastic-tensors inspect center.safetensors
//   elastic-tensors compare run/step-100/rank-0.safetensors other/step-100/rank-0.safetensors
//   elastic-tensors npy center.safetensors center center.npy
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "elastic/error.hpp"
#include "elastic/model/npy_file.hpp"
#include "elastic/model/safetensors.hpp"
#include "elastic/model/tensor_values.hpp"

namespace {

namespace model = elastic::model;

constexpr int exit_different = 1, exit_failed = 2;

void inspect(std::string const& path, bool whole) {
  model::TensorFile const file(path);
  std::uint64_t bytes = 0, values = 0;
  std::printf("%-32s %-20s %12s %12s %12s %12s\n", "tensor", "type", "least", "most", "mean", "norm");
  for (auto const& tensor : file.tensors()) {
    auto const numbers = model::numbers_of(tensor);
    double least = INFINITY, most = -INFINITY, sum = 0, squares = 0;
    std::size_t odd = 0;
    for (double const x : numbers) {
      if (!std::isfinite(x)) ++odd;
      least = std::min(least, x), most = std::max(most, x);
      sum += x, squares += x * x;
    }
    std::printf("%-32s %-20s", tensor.info.name.c_str(), to_string(tensor.info).c_str());
    if (!numbers.empty())
      std::printf(" %12.5g %12.5g %12.5g %12.5g", least, most, sum / double(numbers.size()),
                  std::sqrt(squares));
    if (odd > 0) std::printf("  %zu not finite", odd);
    std::printf("\n");
    bytes += tensor.bytes.size();
    values += numbers.size();
  }
  std::printf("%zu tensors, %llu values, %llu bytes\n", file.tensors().size(),
              static_cast<unsigned long long>(values), static_cast<unsigned long long>(bytes));
  for (auto const& [key, text] : file.metadata()) {
    constexpr std::size_t most = 200;
    bool const cut = !whole && text.size() > most;
    std::printf("%s: ", key.c_str());
    for (char const c : std::string_view(text).substr(0, cut ? most : text.size()))
      c == '\n' ? std::printf("\n  ") : std::printf("%c", c);
    std::printf(cut ? " ... (%zu bytes; --all shows them)\n" : "\n", text.size());
  }
}

/// Returns whether they are the same, after one line for each tensor that is not.
bool compare(std::string const& one, std::string const& other, double tolerance) {
  model::TensorFile const a(one), b(other);
  bool same = true;
  auto const differs = [&](std::string const& name, std::string const& how) {
    same = false;
    std::printf("%s: %s\n", name.c_str(), how.c_str());
  };
  for (auto const& mine : a.tensors()) {
    auto const* const theirs = b.find(mine.info.name);
    if (theirs == nullptr) {
      differs(mine.info.name, "only in " + one);
    } else if (to_string(mine.info) != to_string(theirs->info)) {
      differs(mine.info.name, to_string(mine.info) + " and " + to_string(theirs->info));
    } else if (mine.bytes != theirs->bytes) {
      auto const x = model::numbers_of(mine), y = model::numbers_of(*theirs);
      double absolute = 0, relative = 0;
      std::size_t count = 0, first = x.size();
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (std::bit_cast<std::uint64_t>(x[i]) == std::bit_cast<std::uint64_t>(y[i])) continue;
        if (count++ == 0) first = i;
        double const d = std::abs(x[i] - y[i]);
        absolute = std::isnan(d) ? INFINITY : std::max(absolute, d);
        relative = std::max(relative, d / std::max(std::abs(x[i]), std::abs(y[i])));
      }
      if (count == 0 || absolute <= tolerance) continue;
      char text[256];
      std::snprintf(
          text, sizeof text,
          "%zu of %zu values differ, by %.3g at most, relatively %.3g; the first is [%zu]: %.9g and %.9g",
          count, x.size(), absolute, relative, first, x[first], y[first]);
      differs(mine.info.name, text);
    }
  }
  for (auto const& theirs : b.tensors())
    if (a.find(theirs.info.name) == nullptr) differs(theirs.info.name, "only in " + other);
  for (auto const& [key, text] : a.metadata()) {
    auto const found = b.metadata().find(key);
    if (found == b.metadata().end() || found->second != text)
      std::printf("metadata %s: differs (which makes no tensor different)\n", key.c_str());
  }
  if (same) std::printf("the same: %zu tensors\n", a.tensors().size());
  return same;
}

void extract(std::string const& path, std::string const& name, std::string const& out) {
  model::TensorFile const file(path);
  auto const* const tensor = file.find(name);
  if (tensor == nullptr) {
    std::string known;
    for (auto const& each : file.tensors()) known += " " + each.info.name;
    throw elastic::ConfigError(path + ": has no tensor '" + name + "'; there is" + known);
  }
  model::save_npy(out, *tensor);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Looks into safetensors files: checkpoints (<folder>/step-<n>/rank-<r>.safetensors), centers, files of "
      "other\n"
      "programs. Checksums are checked wherever the file has them.");
  app.require_subcommand(1);
  app.footer(
      "exit code: 0; 1: compare has found a difference; 2: a file cannot be read, or the command line is "
      "wrong\n"
      "examples:\n"
      "  elastic-tensors inspect run/center.safetensors\n"
      "  elastic-tensors compare run/center.safetensors other/center.safetensors\n"
      "  elastic-tensors npy run/center.safetensors center center.npy   # numpy.load('center.npy')");
  std::string a, b, name;
  bool whole = false;
  double tolerance = 0;
  auto* const inspects = app.add_subcommand(
      "inspect", "names, types, shapes, least, most, mean and norm of all tensors, and the metadata");
  inspects->add_option("file", a, "a safetensors file")->required();
  inspects->add_flag("--all", whole, "also long metadata, whole: generators, terms");
  auto* const compares = app.add_subcommand(
      "compare", "the tensors in which two files differ, by how much at most, and where first");
  compares->add_option("a", a, "a safetensors file")->required();
  compares->add_option("b", b, "another")->required();
  compares->add_option("--tolerance", tolerance, "differences up to this do not count")
      ->capture_default_str();
  auto* const extracts = app.add_subcommand("npy", "writes one tensor as a .npy file");
  extracts->add_option("file", a, "a safetensors file")->required();
  extracts->add_option("tensor", name, "its name")->required();
  extracts->add_option("out", b, "the .npy file")->required();
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& error) {
    return app.exit(error) == 0 ? 0 : exit_failed;
  }
  if (inspects->parsed()) inspect(a, whole);
  if (extracts->parsed()) extract(a, name, b);
  return compares->parsed() && !compare(a, b, tolerance) ? exit_different : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_failed;
  }
}
