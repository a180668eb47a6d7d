// SPDX-License-Identifier: Apache-2.0
// What a user asked for, as text with its origin, from three places: a file gives way to the environment, and
// the environment to the command line.
#pragma once

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "elastic/error.hpp"
#include "elastic/options.hpp"

namespace elastic::cli {

struct Setting {
  std::string text;
  std::string origin;  ///< "run.yaml:3", "ELASTIC_ALPHA", "--alpha"
};

/// Settings by key; keys are written with underscores.
using Settings = std::map<std::string, Setting, std::less<>>;

/// "--learning-rate", "learning_rate" and "LEARNING_RATE" are one key.
inline std::string normal_key(std::string_view written) {
  written.remove_prefix(std::min(written.find_first_not_of('-'), written.size()));
  std::string key(written);
  for (char& c : key) c = c == '-' ? '_' : char(std::tolower(static_cast<unsigned char>(c)));
  return key;
}

/// The entry of `known` that is the fewest insertions, deletions and replacements away from `word`.
inline std::string nearest(std::string_view word, std::vector<std::string> const& known) {
  auto const distance = [&](std::string const& other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t j = 0; j < other.size(); ++j)
        diagonal = std::exchange(row[j + 1],
                                 std::min({row[j] + 1, row[j + 1] + 1, diagonal + (word[i] != other[j])}));
    }
    return row.back();
  };
  return known.empty() ? "" : *std::ranges::min_element(known, {}, distance);
}

/// Throws ConfigError unless `key` is known: says where it stands and which known key is nearest.
inline void check_key(std::string const& key, std::string const& origin,
                      std::vector<std::string> const& known) {
  if (std::ranges::find(known, key) == known.end())
    throw ConfigError(origin + ": there is no option '" + key + "'; did you mean '" + nearest(key, known) +
                      "'? (--help lists them all)");
}

/// Reads a YAML file of `key: value` lines; lists become comma-separated text. Throws ConfigError naming file
/// and line.
inline Settings read_yaml(std::string const& file, std::vector<std::string> const& known) {
  Settings settings;
  auto const at = [&](YAML::Mark mark) { return file + ":" + std::to_string(mark.line + 1); };
  try {
    YAML::Node const root = YAML::LoadFile(file);
    if (root.IsNull()) return settings;
    if (!root.IsMap()) throw ConfigError(at(root.Mark()) + ": expected lines 'key: value'");
    for (auto const& entry : root) {
      std::string const written = entry.first.as<std::string>(), key = normal_key(written);
      std::string const origin = at(entry.first.Mark());
      check_key(key, origin, known);
      std::string text;
      if (entry.second.IsSequence())
        for (auto const& item : entry.second) {
          if (!text.empty()) text += ',';
          text += item.as<std::string>();
        }
      else if (entry.second.IsScalar())
        text = entry.second.as<std::string>();
      else
        throw ConfigError(origin + ": '" + written + "' needs a value or a list of values");
      if (!settings.emplace(key, Setting{text, origin}).second)
        throw ConfigError(origin + ": '" + written + "' is set twice in this file");
    }
  } catch (YAML::BadFile const&) {
    throw ConfigError("cannot read the configuration file '" + file + "'");
  } catch (YAML::Exception const& e) {
    throw ConfigError(at(e.mark) + ": not YAML: " + e.msg);
  }
  return settings;
}

/// Reads variables `<prefix>KEY` of the environment, except those in `reserved` (full names, for other
/// purposes).
inline Settings read_environment(char const* const* environment, std::string_view prefix,
                                 std::vector<std::string> const& known,
                                 std::vector<std::string> const& reserved) {
  Settings settings;
  for (; environment && *environment; ++environment) {
    std::string_view const entry = *environment;
    std::size_t const equals = entry.find('=');
    std::string const name(entry.substr(0, equals));
    if (!entry.starts_with(prefix) || equals == entry.npos ||
        std::ranges::find(reserved, name) != reserved.end())
      continue;
    std::string const key = normal_key(std::string_view(name).substr(prefix.size()));
    check_key(key, "environment variable " + name, known);
    settings[key] = {std::string(entry.substr(equals + 1)), name};
  }
  return settings;
}

/// Sets every option of `policy` that `settings` names; throws ConfigError that begins with the origin of a
/// bad value.
template <class Policy>
void apply(Settings const& settings, Policy& policy) {
  for (auto const& [key, setting] : settings) try {
      set_option(policy, key, setting.text);
    } catch (ConfigError const& e) {
      std::string_view const why = e.what();
      throw ConfigError(setting.origin + ": " + std::string(why.substr(Error::prefix.size())));
    }
}

}  // namespace elastic::cli
