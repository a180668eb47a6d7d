// SPDX-License-Identifier: Apache-2.0
// The one place that knows which Transport x SyncRule x Device combinations exist: static_asserts, the choice
// at run time, the test matrix, the benchmarks and docs/matrix.md all ask refusal().
#pragma once

#include <concepts>
#include <string_view>

#include "elastic/concepts.hpp"
#include "elastic/options.hpp"

namespace elastic {

/// What a rule asks of its transport.
enum class Needs { collective, point_to_point };

/// An algorithm: a copyable set of options, a worker program, and a server program if its center lives on a
/// server.
template <class Rule>
concept SyncRule = std::copyable<Rule> && requires(Rule const& rule) {
  { Rule::name } -> std::convertible_to<std::string_view>;
  { Rule::needs } -> std::convertible_to<Needs>;
  Rule::options;              // a tuple of Option (options.hpp)
  rule.check(/*workers=*/1);  // throws ConfigError for values that cannot work
};

enum class Refusal { none, not_a_policy, no_collectives, no_point_to_point, memory_out_of_reach };

/// Why this combination does not exist; Refusal::none if it does.
template <class Net, class Rule, class Dev>
consteval Refusal refusal() {
  if constexpr (!Transport<Net> || !SyncRule<Rule> || !Device<Dev>) {
    return Refusal::not_a_policy;
  } else {
    if (Rule::needs == Needs::collective && !Collective<Net>) return Refusal::no_collectives;
    if (Rule::needs == Needs::point_to_point && !PointToPoint<Net>) return Refusal::no_point_to_point;
    if (!Reaches<Net, typename Dev::memory>) return Refusal::memory_out_of_reach;
    return Refusal::none;
  }
}

template <class Net, class Rule, class Dev>
concept Composable = refusal<Net, Rule, Dev>()
== Refusal::none;

// A static_assert takes a literal and explain() a value; both print these.
#define ELASTIC_NO_COLLECTIVES "this SyncRule averages with all_reduce, and this Transport has no collectives"
#define ELASTIC_NO_POINT_TO_POINT                                                                     \
  "this SyncRule talks to a server, and this Transport has no point-to-point messages; use threads, " \
  "shared_memory, tcp or mpi"
#define ELASTIC_OUT_OF_REACH "this Transport cannot read this Device's memory; wrap it in transport::Staged"

/// The sentence for a refusal: the same at compile time and at run time.
constexpr std::string_view explain(Refusal why) {
  switch (why) {
    case Refusal::none: return "supported";
    case Refusal::not_a_policy: return "one of the three policies does not model its concept";
    case Refusal::no_collectives: return ELASTIC_NO_COLLECTIVES;
    case Refusal::no_point_to_point: return ELASTIC_NO_POINT_TO_POINT;
    case Refusal::memory_out_of_reach: return ELASTIC_OUT_OF_REACH;
  }
  return "";
}

/// The compile-time check. Unconstrained on purpose: a failed static_assert names the missing requirement on
/// both g++ and clang, a failed constraint does not.
template <class Net, class Rule, class Dev>
struct Composition {
  static_assert(Transport<Net>,
                "elastic: the first policy does not model elastic::Transport (concepts.hpp).");
  static_assert(SyncRule<Rule>, "elastic: the second policy does not model elastic::SyncRule (compose.hpp).");
  static_assert(Device<Dev>, "elastic: the third policy does not model elastic::Device (concepts.hpp).");

  static constexpr Refusal why = refusal<Net, Rule, Dev>();
  static_assert(why != Refusal::no_collectives, "elastic: " ELASTIC_NO_COLLECTIVES ".");
  static_assert(why != Refusal::no_point_to_point, "elastic: " ELASTIC_NO_POINT_TO_POINT ".");
  static_assert(why != Refusal::memory_out_of_reach, "elastic: " ELASTIC_OUT_OF_REACH ".");
  static constexpr bool ok = why == Refusal::none;
};

}  // namespace elastic
