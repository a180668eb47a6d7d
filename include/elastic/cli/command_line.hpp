// SPDX-License-Identifier: Apache-2.0
// Options tables as a command line: CLI11 parses and prints the help, the tables say what there is.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <CLI/CLI.hpp>

#include "elastic/cli/settings.hpp"
#include "elastic/error.hpp"
#include "elastic/options.hpp"
#include "elastic/version.hpp"

namespace elastic::cli {

/// Collects options tables, then reads file, environment and command line into Settings.
///
/// Every key exists three times: `key: value` in the YAML file that `--config` names, `ELASTIC_KEY` in the
/// environment,
/// `--key value` on the command line. Later ones win.
class CommandLine {
 public:
  explicit CommandLine(std::string const& description) : app_(description) {
    app_.set_version_flag("--version", "elastic " + std::to_string(library_version.major) + "." +
                                           std::to_string(library_version.minor) + "." +
                                           std::to_string(library_version.patch));
    app_.add_option("-c,--config", config_, "YAML file of `key: value` lines, the keys as below")
        ->type_name("FILE");
    app_.get_formatter()->column_width(34);
    app_.footer(
        "Every option can also stand in the file (learning_rate: 0.05) or the environment "
        "(ELASTIC_LEARNING_RATE=0.05);\n"
        "the environment wins over the file, the command line over both.");
  }

  /// Adds the rows of Policy::options under a heading; the defaults shown are those of `defaults`. A key that
  /// two tables share is one option.
  template <class Policy>
  void add(std::string const& heading, Policy const& defaults = {}) {
    std::apply(
        [&](auto const&... option) { (add_row(heading, option, to_text(defaults.*option.member)), ...); },
        Policy::options);
  }

  /// Adds a word without a dash in front, such as a role.
  void add_word(std::string const& name, std::string& into, std::string const& help,
                std::vector<std::string> const& words) {
    app_.add_option(name, into, help)->required()->check(CLI::IsMember(words));
  }

  /// Parses; none if --help or --version has been printed. Throws ConfigError for everything that is wrong.
  std::optional<Settings> parse(int argc, char const* const* argv, char const* const* environment,
                                std::vector<std::string> const& reserved = {
                                    "ELASTIC_SECRET", "ELASTIC_SECRET_FILE", "ELASTIC_RANK", "ELASTIC_SIZE",
                                    "ELASTIC_LOCAL_RANK"}) {
    std::vector<std::string> arguments;
    for (int i = argc - 1; i > 0; --i) arguments.push_back(dashed(argv[i]));  // CLI11 wants them backwards
    try {
      app_.parse(arguments);
    } catch (CLI::CallForHelp const& e) {
      return app_.exit(e), std::nullopt;
    } catch (CLI::CallForVersion const& e) {
      return app_.exit(e), std::nullopt;
    } catch (CLI::ExtrasError const&) {
      for (std::string const& extra : app_.remaining())
        if (extra.starts_with("-")) check_key(normal_key(extra.substr(0, extra.find('='))), extra, keys());
      throw ConfigError("'" + app_.remaining().front() +
                        "' is one word too many; --help shows what is expected");
    } catch (CLI::ParseError const& e) {
      throw ConfigError(std::string(e.what()) + "; --help shows what is expected");
    }
    Settings settings = config_.empty() ? Settings{} : read_yaml(config_, keys());
    for (auto const& [key, setting] : read_environment(environment, "ELASTIC_", keys(), reserved))
      settings[key] = setting;
    for (auto const& [key, row] : rows_)
      if (row.option->count() > 0) settings[key] = {row.text, "--" + row.name};
    return settings;
  }

  /// The keys of all options.
  std::vector<std::string> keys() const {
    std::vector<std::string> all{"config", "help", "version"};
    for (auto const& [key, row] : rows_) all.push_back(key);
    return all;
  }

 private:
  struct Row {
    std::string name;
    std::string text{};
    CLI::Option* option = nullptr;
  };

  static std::string with_dashes(std::string_view key) {
    std::string name(key);
    for (char& c : name) c = c == '_' ? '-' : c;
    return name;
  }

  /// --learning_rate=0.1 as --learning-rate=0.1
  static std::string dashed(std::string argument) {
    if (argument.starts_with("--"))
      for (std::size_t i = 2; i < argument.size() && argument[i] != '='; ++i)
        if (argument[i] == '_') argument[i] = '-';
    return argument;
  }

  template <class Owner, class Value>
  void add_row(std::string const& heading, Option<Owner, Value> const& option, std::string const& standard) {
    auto const [at, fresh] = rows_.try_emplace(std::string(option.key), Row{with_dashes(option.key)});
    if (!fresh) return;
    Row& row = at->second;
    std::string const flags = "--" + row.name;
    if constexpr (std::same_as<Value, bool>)
      row.option = app_.add_flag(flags + "{true}", row.text, std::string(option.help));
    else
      row.option = app_.add_option(flags, row.text, std::string(option.help))->type_name(short_type(option));
    row.option->group(heading)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (!standard.empty() && standard != "false") row.option->default_str(standard);
  }

  template <class Owner, class Value>
  static std::string short_type(Option<Owner, Value> const& option) {
    if constexpr (std::same_as<Value, std::string>)
      return "TEXT";
    else
      return expectation(option);
  }

  CLI::App app_;
  std::string config_;
  std::map<std::string, Row, std::less<>> rows_;
};

}  // namespace elastic::cli
