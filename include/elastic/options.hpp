// SPDX-License-Identifier: Apache-2.0
// A policy's options as a table: the same rows are its --help, its keys in a file, its documentation, and the
// text that ranks compare before they train together.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "elastic/error.hpp"

namespace elastic {

/// One option: the key, the member it sets, a sentence for the reader, and for numbers the closed range of
/// values.
template <class Owner, class Value>
struct Option {
  std::string_view key;
  Value Owner::*member;
  std::string_view help;
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};
template <class O, class V>
Option(std::string_view, V O::*, std::string_view) -> Option<O, V>;
template <class O, class V>
Option(std::string_view, V O::*, std::string_view, double) -> Option<O, V>;
template <class O, class V>
Option(std::string_view, V O::*, std::string_view, double, double) -> Option<O, V>;

/// An enumeration whose values have names: `names(E)` is found by its argument and returns (name, value)
/// pairs.
template <class E>
concept Named = std::is_enum_v<E> && requires(E e) {
  names(e).size();
};

namespace detail {

inline std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", x);
  double shorter = 0;
  for (int digits = 6; digits < 17; ++digits) {
    char candidate[32];
    std::snprintf(candidate, sizeof candidate, "%.*g", digits, x);
    std::from_chars(candidate, candidate + std::char_traits<char>::length(candidate), shorter);
    if (shorter == x) return candidate;
  }
  return text;
}

template <class Value>
struct is_optional : std::false_type {};
template <class Value>
struct is_optional<std::optional<Value>> : std::true_type {};

}  // namespace detail

/// The option's value as text that `parse` reads back; an unset optional is empty.
template <class Value>
std::string to_text(Value const& value) {
  if constexpr (detail::is_optional<Value>::value) {
    return value ? to_text(*value) : "";
  } else if constexpr (std::same_as<Value, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::floating_point<Value>) {
    return detail::number(value);
  } else if constexpr (std::integral<Value>) {
    return std::to_string(value);
  } else if constexpr (Named<Value>) {
    for (auto const& [name, v] : names(value))
      if (v == value) return std::string(name);
    return "";
  } else if constexpr (std::same_as<Value, std::vector<double>>) {
    std::string text;
    for (double x : value) {
      if (!text.empty()) text += ",";
      text += detail::number(x);
    }
    return text;
  } else {
    return std::string(value);
  }
}

/// What a reader may write for this option: "a number in [0, 1]", "jacobi or post_step".
template <class Owner, class Value>
std::string expectation(Option<Owner, Value> const& option) {
  if constexpr (detail::is_optional<Value>::value) {
    return expectation(Option<Owner, typename Value::value_type>{option.key, nullptr, option.help,
                                                                 option.least, option.most});
  } else if constexpr (std::same_as<Value, bool>) {
    return "true or false";
  } else if constexpr (std::integral<Value> || std::floating_point<Value>) {
    std::string const kind = std::integral<Value> ? "a whole number" : "a number";
    bool const low = option.least > -std::numeric_limits<double>::infinity();
    bool const high = option.most < std::numeric_limits<double>::infinity();
    if (low && high)
      return kind + " in [" + detail::number(option.least) + ", " + detail::number(option.most) + "]";
    if (low) return kind + " >= " + detail::number(option.least);
    return kind;
  } else if constexpr (Named<Value>) {
    std::string text;
    for (auto const& [name, v] : names(Value{})) {
      if (!text.empty()) text += " or ";
      text += name;
    }
    return text;
  } else if constexpr (std::same_as<Value, std::vector<double>>) {
    return "numbers separated by commas";
  } else {
    return "text";
  }
}

/// Reads `text` into `value`; false if it is not what the option expects.
template <class Owner, class Value, class Target>
bool parse(Option<Owner, Value> const& option, std::string_view text, Target& value) {
  char const *const first = text.data(), *const last = first + text.size();
  if constexpr (detail::is_optional<Target>::value) {
    if (text.empty()) return value.reset(), true;
    typename Target::value_type inner{};
    if (!parse(option, text, inner)) return false;
    value = inner;
    return true;
  } else if constexpr (std::same_as<Target, bool>) {
    if (text != "true" && text != "false") return false;
    value = text == "true";
    return true;
  } else if constexpr (std::integral<Target> || std::floating_point<Target>) {
    Target read{};
    auto const [end, failure] = std::from_chars(first, last, read);
    if (failure != std::errc() || end != last || text.empty()) return false;
    if (!(double(read) >= option.least && double(read) <= option.most)) return false;  // also refuses NaN
    value = read;
    return true;
  } else if constexpr (Named<Target>) {
    for (auto const& [name, v] : names(Target{}))
      if (name == text) return value = v, true;
    return false;
  } else if constexpr (std::same_as<Target, std::vector<double>>) {
    std::vector<double> read;
    Option<Owner, double> const item{option.key, nullptr, option.help, option.least, option.most};
    while (!text.empty()) {
      std::size_t const comma = text.find(',');
      double number = 0;
      if (!parse(item, text.substr(0, comma), number)) return false;
      read.push_back(number);
      text = comma == text.npos ? std::string_view() : text.substr(comma + 1);
    }
    value = std::move(read);
    return true;
  } else {
    value = std::string(text);
    return true;
  }
}

/// Sets the option called `key` from `text`; false if the policy has none of that name.
/// Throws ConfigError naming the key, the text and what was expected.
template <class Policy>
bool set_option(Policy& policy, std::string_view key, std::string_view text) {
  bool found = false;
  auto const row = [&](auto const& option) {
    if (option.key != key) return;
    found = true;
    if (!parse(option, text, policy.*option.member))
      throw ConfigError(std::string(key) + ": '" + std::string(text) + "' is not " + expectation(option));
  };
  std::apply([&](auto const&... option) { (row(option), ...); }, Policy::options);
  return found;
}

/// Checks the numbers that were set in code against their ranges; throws ConfigError as set_option does.
template <class Policy>
void check_options(Policy copy) {
  std::apply(
      [&](auto const&... option) { (set_option(copy, option.key, to_text(copy.*option.member)), ...); },
      Policy::options);
}

/// "key=value" for every option, one a line: what ranks that train together must agree on.
template <class Policy>
std::string describe(Policy const& policy) {
  std::string text;
  std::apply(
      [&](auto const&... option) {
        ((text += std::string(option.key) + "=" + to_text(policy.*option.member) + "\n"), ...);
      },
      Policy::options);
  return text;
}

}  // namespace elastic
