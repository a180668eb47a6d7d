// SPDX-License-Identifier: Apache-2.0
// Every Transport x SyncRule x Device as named test cases, made from the lists of types; a combination that
// does not exist is a test case, too: its refusal.
#pragma once

#include <string>

#include "conformance/rule.hpp"
#include "elastic/dispatch.hpp"
#include "support/launch_serial.hpp"
#include "support/named_case.hpp"

namespace matrix {

using namespace elastic;

using Rules = Types<rule::Bsp, rule::SyncEasgd, rule::AsyncEasgd>;
using Devices = Types<device::Cpu>;

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
  if constexpr (Composable<Net, Rule, Dev>) {
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

template <class Net, class... Rs, class... Devs>
bool add_row(Types<Rs...>, Types<Devs...>) {
  auto const add_rule = []<class Rule>() { return (add_cell<Net, Rule, Devs>() && ...); };
  return (add_rule.template operator()<Rs>() && ...);
}

/// Registers all cells of one transport.
template <class Net>
bool add() {
  return add_row<Net>(Rules{}, Devices{});
}

}  // namespace matrix
