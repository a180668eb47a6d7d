// SPDX-License-Identifier: Apache-2.0
// Every Transport x SyncRule x Device as named test cases, made from the lists of types; a combination that
// does not exist is a test case, too: its refusal.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "conformance/rule.hpp"
#include "elastic/dispatch.hpp"
#include "support/combinations.hpp"
#include "support/launch_serial.hpp"
#include "support/named_case.hpp"
#include "support/source_tree.hpp"

namespace matrix {

using namespace elastic;

/// The choice at run time refuses what the compiler refuses, in the same words.
template <class Net, class Rule, class Dev>
void is_refused() {
  CHECK_THROWS_WITH((dispatch<Dev, Types<Net>, Types<Rule>>(Net::name, Rule::name, []<class, class>() {})),
                    Catch::Matchers::ContainsSubstring(std::string(explain(refusal<Net, Rule, Dev>()))));
}

template <class Net, class Rule, class Dev>
bool add_cell() {
  auto const add = [](void (*body)(), char const* promise) {
    std::string const cell =
        std::string(Net::name) + " x " + std::string(Rule::name) + " x " + std::string(Dev::name);
    return support::add_case(body, cell + promise, "[matrix]");
  };
  if constexpr (Composable<Reaching<Net, Dev>, Rule, Dev>) {
    bool added = add(conformance::converges<Net, Rule, Dev>, ": converges") &&
                 add(conformance::one_worker_is_sgd<Net, Rule, Dev>, ": one worker is plain SGD") &&
                 add(conformance::conserves<Net, Rule, Dev>, ": conserves") &&
                 add(conformance::steps_once<Net, Rule, Dev>, ": one gradient and one move a step");
    if constexpr (support::Launch<Net>::can_abort && support::Launch<Net>::max_ranks > 1)
      added = added && add(conformance::a_failure_ends_all<Net, Rule, Dev>, ": a failure ends all");
    if constexpr (PointToPoint<Net>)
      added = added && add(conformance::serves_a_tester<Net, Rule, Dev>, ": serves a tester");
    return added;
  } else {
    return add(is_refused<Net, Rule, Dev>, ": refused");
  }
}

/// A line of docs/matrix.md: the transport, the device, and for each rule whether the three work together.
template <class Net, class Dev, class... Rs>
std::string documented_row(Types<Rs...>) {
  auto const cell = [](Refusal why) {
    return " | " + (why == Refusal::none ? std::string("yes") : "no: " + std::string(explain(why)));
  };
  return "| " + std::string(Net::name) + " | " + std::string(Dev::name) +
         (cell(refusal<Net, Rs, Dev>()) + ...) + " |\n";
}

template <class Net, class... Rs, class... Devs>
std::string documented_rows(Types<Rs...> rules, Types<Devs...>) {
  return (documented_row<Net, Devs>(rules) + ...);
}

template <class... Rs>
std::string documented_head(Types<Rs...>) {
  return "| transport | device" + ((" | " + std::string(Rs::name)) + ...) + " |\n";
}

/// docs/matrix.md says what the compiler does. When it fails, what it misses is what to write there.
template <class Net>
void is_documented() {
  auto const page = support::source_tree() / "docs" / "matrix.md";
  std::ifstream file(page);
  REQUIRE(file);
  std::string const text(std::istreambuf_iterator<char>(file), {});
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring(documented_head(Rules{})));
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring(documented_rows<Net>(Rules{}, Devices{})));
}

template <class Net, class... Rs, class... Devs>
bool add_row(Types<Rs...>, Types<Devs...>) {
  auto const add_rule = []<class Rule>() { return (add_cell<Net, Rule, Devs>() && ...); };
  return (add_rule.template operator()<Rs>() && ...);
}

/// Registers all cells of one transport.
template <class Net, class... Devs>
bool add(Types<Devs...> devices) {
  return add_row<Net>(Rules{}, devices);
}
template <class Net>
bool add() {
  return add<Net>(Devices{}) &&
         support::add_case(is_documented<Net>, std::string(Net::name) + ": its row stands in docs/matrix.md",
                           "[matrix]");
}

}  // namespace matrix
