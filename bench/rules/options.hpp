// SPDX-License-Identifier: Apache-2.0
// What the benches of rules take on their command lines besides Google Benchmark's own options.
#pragma once

#include <benchmark/benchmark.h>

#include <charconv>
#include <cstddef>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// Parsed before there are any other processes or threads; what it does not know is left to Google Benchmark.
struct Options {
  int ranks = 2;
  std::vector<std::size_t> sizes{65'536, 1'400'000, 17'000'000};
  double seconds = 0.2;
  long rounds = 0;
  std::vector<std::string> rest;

  static constexpr char const* help =
      "  --ranks=N           processes or threads, rank 0 included (under mpirun its own -np counts); "
      "default 2\n"
      "  --sizes=B[,B...]    bytes of the vectors; default 65536,1400000,17000000\n"
      "  --seconds=S         about how long a repetition takes; default 0.2\n"
      "  --rounds=N          so many rounds a repetition, whatever they take; for counts that repeat "
      "exactly\n"
      "Each benchmark runs --benchmark_repetitions times (default 5); a repetition is one run of agreed many "
      "rounds.\n"
      "Google Benchmark's options:\n";

  Options(int argc, char** argv) {
    rest = {argv[0], "--benchmark_repetitions=5", "--benchmark_display_aggregates_only=true"};
    for (int i = 1; i < argc; ++i) {
      std::string_view const argument = argv[i];
      auto const value = [&](std::string_view name) { return argument.substr(name.size()); };
      if (argument == "--help" || argument == "-h") {
        std::cout << "usage: " << argv[0] << " [OPTION...]\n" << help << std::flush;
        rest.push_back("--help");
        give_rest();  // prints and exits
      } else if (argument.starts_with("--ranks=")) {
        ranks = static_cast<int>(whole(argument, value("--ranks=")));
      } else if (argument.starts_with("--sizes=")) {
        sizes = list(argument, value("--sizes="));
      } else if (argument.starts_with("--seconds=")) {
        seconds = number<double>(argument, value("--seconds="));
      } else if (argument.starts_with("--rounds=")) {
        rounds = whole(argument, value("--rounds="));
      } else {
        rest.emplace_back(argument);
      }
    }
    if (!(seconds > 0)) throw std::invalid_argument("--seconds: expected more than 0");
  }

  /// Hands over what is not ours; false, with a word on stderr, if Google Benchmark does not know it either.
  bool give_rest() {
    std::vector<char*> words;
    for (std::string& word : rest) words.push_back(word.data());
    int count = static_cast<int>(words.size());
    benchmark::Initialize(&count, words.data());
    return !benchmark::ReportUnrecognizedArguments(count, words.data());
  }

 private:
  template <class T>
  static T number(std::string_view argument, std::string_view text) {
    T found{};
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), found);
    if (error != std::errc{} || end != text.data() + text.size())
      throw std::invalid_argument(std::string(argument) + ": expected a number");
    return found;
  }
  static long whole(std::string_view argument, std::string_view text) {
    long const found = number<long>(argument, text);
    if (found < 1) throw std::invalid_argument(std::string(argument) + ": expected at least 1");
    return found;
  }
  static std::vector<std::size_t> list(std::string_view argument, std::string_view text) {
    std::vector<std::size_t> found;
    for (std::size_t comma = 0; comma != text.npos; text.remove_prefix(comma == text.npos ? 0 : comma + 1)) {
      comma = text.find(',');
      found.push_back(static_cast<std::size_t>(whole(argument, text.substr(0, comma))));
      if (found.back() < 4)
        throw std::invalid_argument(std::string(argument) + ": expected at least 4 bytes");
    }
    return found;
  }
};

}  // namespace bench
