// SPDX-License-Identifier: Apache-2.0
// Which of a job's processes this is, as the launcher that started it says in the environment.
#pragma once

#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "elastic/error.hpp"

namespace elastic::cli {

/// A process's place in its job.
struct Place {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  ///< among the job's processes on this host; rank where the launcher does not say
  std::string host{};  ///< where rank 0 is, if the launcher says
  int port = 0;        ///< rank 0's, if the launcher says
  std::string source = "nothing in the environment: a single process";
};

/// Names that a launcher's variables have; empty where it has none.
struct Launcher {
  std::string_view name, rank, size, local_rank, host, port;
};

/// In the order in which they are asked.
inline constexpr std::array launchers{
    Launcher{"elastic", "ELASTIC_RANK", "ELASTIC_SIZE", "ELASTIC_LOCAL_RANK", "", ""},
    Launcher{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"},
    Launcher{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "",
             ""},
    Launcher{"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "", ""},
    Launcher{"Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "", ""},
};

/// The place that the first launcher in `launchers` with both its rank and its size set gives this process.
///
/// Throws ConfigError for a variable that is not a whole number, and for a rank outside its job. Slurm's batch script
/// has the variables of a rank, too; only what srun starts is one.
inline Place detect_place(char const* const* environment) {
  auto const value = [&](std::string_view name) -> std::optional<std::string_view> {
    for (char const* const* entry = environment; !name.empty() && entry && *entry; ++entry) {
      std::string_view const line = *entry;
      if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == '=')
        return line.substr(name.size() + 1);
    }
    return std::nullopt;
  };
  auto const number = [&](std::string_view name, int otherwise) {
    auto const text = value(name);
    if (!text) return otherwise;
    int read = 0;
    auto const [end, failure] = std::from_chars(text->data(), text->data() + text->size(), read);
    if (failure != std::errc() || end != text->data() + text->size() || read < 0)
      throw ConfigError("environment variable " + std::string(name) + ": '" + std::string(*text) +
                        "' is not a whole number >= 0");
    return read;
  };
  for (Launcher const& launcher : launchers) {
    if (!value(launcher.rank) || !value(launcher.size)) continue;
    Place place;
    if (launcher.name == "Slurm" && !value("SLURM_STEP_ID")) {
      place.source = "Slurm's batch script, which is one process: start the processes of a job with srun";
      return place;
    }
    place.rank = number(launcher.rank, 0);
    place.size = number(launcher.size, 1);
    place.local_rank = number(launcher.local_rank, place.rank);
    place.host = value(launcher.host).value_or("");
    place.port = number(launcher.port, 0);
    place.source = std::string(launcher.name) + " (" + std::string(launcher.rank) + ")";
    if (place.rank >= place.size)
      throw ConfigError("environment: " + std::string(launcher.rank) + "=" + std::to_string(place.rank) +
                        " of " + std::string(launcher.size) + "=" + std::to_string(place.size));
    return place;
  }
  return {};
}

}  // namespace elastic::cli
