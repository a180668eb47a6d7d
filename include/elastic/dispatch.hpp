// SPDX-License-Identifier: Apache-2.0
// Names to types: the only place where a string chooses an algorithm.
#pragma once

#include <string>
#include <string_view>

#include "elastic/compose.hpp"
#include "elastic/error.hpp"

namespace elastic {

template <class... Ts>
struct Types {};
template <class T>
struct Type {
  using type = T;
};

/// "a, b, c": the names of the listed types.
template <class... Ts>
std::string names_of(Types<Ts...>) {
  std::string text;
  ((text += text.empty() ? "" : ", ", text += Ts::name), ...);
  return text;
}

/// Calls f(Type<T>{}) for the T of the list whose T::name is `name`; throws ConfigError naming those there
/// are.
template <class... Ts, class F>
void select(Types<Ts...> list, std::string_view axis, std::string_view name, F f) {
  bool const found = ((Ts::name == name && (f(Type<Ts>{}), true)) || ...);
  if (!found)
    throw ConfigError("no " + std::string(axis) + " is called '" + std::string(name) + "'; there is " +
                      names_of(list));
}

/// Calls f.template operator()<Net, Rule>() for the named pair. It is instantiated for pairs that exist only;
/// the others throw ConfigError with the sentence that the static_assert prints.
template <class Dev, class Nets, class Rules, class F>
void dispatch(std::string_view net, std::string_view rule, F f) {
  select(Nets{}, "transport", net, [&]<class Net>(Type<Net>) {
    select(Rules{}, "rule", rule, [&]<class Rule>(Type<Rule>) {
      if constexpr (constexpr Refusal why = refusal<Net, Rule, Dev>(); why == Refusal::none)
        f.template operator()<Net, Rule>();
      else
        throw ConfigError(std::string(rule) + " over " + std::string(net) + ": " + std::string(explain(why)));
    });
  });
}

}  // namespace elastic
