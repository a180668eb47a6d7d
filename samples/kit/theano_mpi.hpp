// SPDX-License-Identifier: Apache-2.0
// Theano-MPI's configuration files (config.yaml and <model>.yaml, 2016) as options of these programs.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/cli/settings.hpp"
#include "elastic/error.hpp"

namespace sample::theano_mpi {

/// A key of theirs.
struct Key {
  std::string_view name;
  std::string_view shipped;  ///< the value in their repository; empty: a path or the model's
  std::string_view ours;     ///< the option that takes its value as it is; empty: see `about`
  std::string_view about;    ///< what becomes of it, or why nothing can
};

/// All of them. A key without an option of ours and without a case in translate() is accepted with the shipped value,
/// which is what these programs do anyway, and refused with any other.
inline constexpr std::array keys{
    Key{"name", "alexnet", "net", "alexnet or googlenet"},
    Key{"n_epochs", "70", "epochs", "all workers together, as there"},
    Key{"batch_size", "128", "batch", "images of a worker's step"},
    Key{"file_batch_size", "128", "",
        "there, a step is a file; here batch_size alone says it, and must agree"},
    Key{"learning_rate", "0.01", "learning_rate", ""},
    Key{"lr_policy", "step", "", "step: decay = step; auto: decay = plateau, of the training loss"},
    Key{"lr_step", "20,40,60", "decay_epochs", ""},
    Key{"lr_adapt_threshold", "0.01", "threshold", ""},
    Key{"weight_decay", "0.0005", "weight_decay", "on weights only, as there"},
    Key{"momentum", "0.9", "momentum", ""},
    Key{"use_momentum", "True", "", "False: momentum = 0"},
    Key{"use_nesterov_momentum", "False", "", "momentum_kind = nesterov or heavy_ball"},
    Key{"sync_rule", "BSP", "", "BSP: rule = bsp; EASGD: rule = async_easgd with order = post_step"},
    Key{"train_mode", "avg", "",
        "BSP: avg: combine = parameters and scale_by_workers; cdd: combine = velocities, which are summed"},
    Key{"avg_freq", "1", "period", "own steps of a worker"},
    Key{"alpha", "0.5", "alpha", "EASGD; BSP has no use for it"},
    Key{"fp", "32", "", "32: wire = float32; 16: wire = fp16"},
    Key{"cuda_aware", "True", "", "device memory always travels as it can"},
    Key{"lib_conv", "cudnn", "", "--conv chooses between cuDNN and cuBLAS on a GPU"},
    Key{"para_load", "True", "", "batches are always prepared beside the computing"},
    Key{"use_data_layer", "False", "", "crops and flips are always made by the loader"},
    Key{"batch_crop_mirror", "True", "", "True: augment = batch; False: augment = image"},
    Key{"rand_crop", "True", "", "training crops are always random"},
    Key{"random", "True", "", "flip = true or false"},
    Key{"shuffle", "True", "", "sampler = permutation or linear"},
    Key{"flag_top_5", "True", "", "top-5 is always measured"},
    Key{"print_train_error", "True", "", "the training error is always recorded"},
    Key{"print_freq", "2", "", "it was never read there"},
    Key{"print_info_every", "5120", "", "seconds are recorded for every 5120 images"},
    Key{"weight_init_seed", "23455", "seed", ""},
    Key{"snapshot_freq", "2", "checkpoint_every", "epochs"},
    Key{"weights_dir", "", "checkpoint", ""},
    Key{"record_dir", "", "out", ""},
    Key{"resume_train", "False", "", "resume"},
    Key{"load_epoch", "44", "", "a run goes on from its last whole checkpoint; see resume_train"},
    Key{"load_path", "", "", "its .npy files of weights cannot be read; checkpoints are safetensors"},
    Key{"data_source", "hkl", "", "the files that `imagenet prepare` writes; see data"},
    Key{"dir_head", "", "",
        "its hickle files cannot be read: `imagenet prepare` writes open ones from photographs; "
        "then say data"},
    Key{"lmdb_head", "", "", "it was never read there; see data"},
    Key{"label_folder", "", "", "labels are in the batch files; see data"},
    Key{"mean_file", "", "", "the mean image is in the batch files; see data"},
    Key{"train_folder", "", "", "train/ in the folder that data names"},
    Key{"val_folder", "", "", "val/ in the folder that data names"},
    Key{"gpushift", "0", "", "say --gpu to each process"},
    Key{"sock_data", "5011", "", "the loader is a thread and needs no socket"},
    Key{"debug", "False", "", "--epochs shortens a run"},
};

inline bool truth(std::string const& key, elastic::cli::Setting const& setting) {
  std::string text = setting.text;
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  if (text != "true" && text != "false")
    throw elastic::ConfigError(setting.origin + ": " + key + ": '" + setting.text + "' is not True or False");
  return text == "true";
}

/// One of `words`, as its index.
inline std::size_t choice(std::string const& key, elastic::cli::Setting const& setting,
                          std::vector<std::string> const& words, std::string const& about) {
  auto const found = std::ranges::find(words, setting.text);
  if (found != words.end()) return std::size_t(found - words.begin());
  std::string expected = words.front();
  for (std::size_t i = 1; i < words.size(); ++i) expected.append(" or ").append(words[i]);
  throw elastic::ConfigError(setting.origin + ": " + key + ": '" + setting.text + "' is not " + expected +
                             (about.empty() ? "" : ": " + about));
}

/// Their settings as ours; each keeps its origin. Throws ConfigError, with the reason, for what has no meaning here.
inline elastic::cli::Settings translate(elastic::cli::Settings const& theirs) {
  elastic::cli::Settings ours;
  auto const set = [&](std::string const& key, std::string const& text, std::string const& origin) {
    ours.insert_or_assign(key, elastic::cli::Setting{text, origin});
  };
  bool const easgd = theirs.contains("sync_rule") && theirs.at("sync_rule").text == "EASGD";
  for (Key const& key : keys) {
    auto const found = theirs.find(key.name);
    if (found == theirs.end()) continue;
    std::string const name(key.name), about(key.about);
    auto const& setting = found->second;
    auto const& [text, origin] = setting;
    auto const pick = [&](std::vector<std::string> const& words) {
      return choice(name, setting, words, about);
    };
    if (!key.ours.empty()) {
      set(std::string(key.ours), text, origin);
    } else if (name == "file_batch_size") {
      auto const batch = theirs.find("batch_size");
      if (batch == theirs.end())
        set("batch", text, origin);
      else if (batch->second.text != text)
        throw elastic::ConfigError(origin + ": file_batch_size: " + text + ", but " + batch->second.origin +
                                   " has batch_size: " + batch->second.text + ": " + about);
    } else if (name == "lr_policy") {
      set("decay", std::array{"step", "plateau"}[pick({"step", "auto"})], origin);
    } else if (name == "use_momentum") {
      if (!truth(name, setting)) set("momentum", "0", origin);
    } else if (name == "use_nesterov_momentum") {
      set("momentum_kind", truth(name, setting) ? "nesterov" : "heavy_ball", origin);
    } else if (name == "sync_rule") {
      set("rule", std::array{"bsp", "async_easgd"}[pick({"BSP", "EASGD"})], origin);
      if (easgd) set("order", "post_step", origin);
    } else if (name == "train_mode") {
      bool const average = pick({"avg", "cdd"}) == 0;
      set("combine", average ? "parameters" : "velocities", origin);
      set("scale_by_workers", average && !easgd ? "true" : "false", origin);
    } else if (name == "fp") {
      set("wire", std::array{"float32", "fp16"}[pick({"32", "16"})], origin);
    } else if (name == "batch_crop_mirror") {
      set("augment", truth(name, setting) ? "batch" : "image", origin);
    } else if (name == "random") {
      set("flip", truth(name, setting) ? "true" : "false", origin);
    } else if (name == "shuffle") {
      set("sampler", truth(name, setting) ? "permutation" : "linear", origin);
    } else if (name == "resume_train") {
      set("resume", truth(name, setting) ? "true" : "false", origin);
    } else if (key.shipped.empty()) {
      throw elastic::ConfigError(origin + ": " + name + ": " + about);
    } else if (text != key.shipped) {
      throw elastic::ConfigError(origin + ": " + name + ": '" + text + "' has no meaning here, only " +
                                 std::string(key.shipped) + ": " + about);
    }
  }
  return ours;
}

/// Reads their files, "config.yaml,alexnet.yaml", a later one before an earlier one.
inline elastic::cli::Settings read(std::string_view files) {
  std::vector<std::string> known;
  for (Key const& key : keys) known.emplace_back(key.name);
  elastic::cli::Settings theirs;
  while (!files.empty()) {
    auto const comma = files.find(',');
    for (auto const& [key, setting] : elastic::cli::read_yaml(std::string(files.substr(0, comma)), known))
      theirs.insert_or_assign(key, setting);
    files = comma == files.npos ? std::string_view() : files.substr(comma + 1);
  }
  return translate(theirs);
}

}  // namespace sample::theano_mpi
