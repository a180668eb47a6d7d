// SPDX-License-Identifier: Apache-2.0
// `imagenet prepare`: options, signals and the last word; preparation.hpp does the work.
#include "prepare.hpp"

#include <unistd.h>
#include <csignal>

#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "elastic/cli/command_line.hpp"
#include "preparation.hpp"

namespace sample {

namespace {

std::atomic<bool> stop = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// The first SIGINT or SIGTERM leaves off in order, a second one ends the process.
void watch() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

int run(int argc, char** argv) {
  Preparation how;
  elastic::cli::CommandLine line(
      "Decodes photographs once and for all: writes them as batch files, from which `imagenet --data` trains "
      "without\ndecoding. Run it again to go on after an interruption. For example\n"
      "  imagenet prepare --from ILSVRC2012 --to batches --jobs 8");
  line.add("Options", how);
  auto const settings = line.parse(argc, argv, ::environ);
  if (!settings) return 0;
  elastic::cli::apply(*settings, how);
  if (how.from.empty() || how.to.empty())
    throw elastic::ConfigError("prepare: expected --from DIR and --to DIR; --help shows all options");
  std::filesystem::path const from = how.from, to = how.to;
  if (!std::filesystem::is_directory(from / "train"))
    throw elastic::ConfigError("from: " + from.string() + " has no folder train");
  watch();

  std::vector<std::string> class_names;
  for (std::string const split : {"train", "val"}) {
    if (!std::filesystem::is_directory(from / split)) {
      std::printf("%s: not there\n", split.c_str());
      continue;
    }
    elastic::data::FolderOptions options{.size = how.size, .class_names = class_names};
    if (split == "val") options.labels = how.val_labels;
    elastic::data::ImageFolder const set(from / split, options);
    class_names = set.class_names;
    Prepared const result = prepare_set(set, to / split, how, stop);
    std::printf("%s: %zu images in %zu files of %s, %zu of them kept; %zu images skipped%s\n", split.c_str(),
                result.images, result.files, (to / split).c_str(), result.kept, result.skipped,
                result.stopped ? "; stopped, run it again to go on" : "");
    std::fflush(stdout);
    if (result.stopped) return 75;
  }
  return 0;
}

}  // namespace

int prepare(int argc, char** argv) try { return run(argc, argv); } catch (elastic::ConfigError const& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
} catch (std::exception const& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

}  // namespace sample
