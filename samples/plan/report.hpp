// SPDX-License-Identifier: Apache-2.0
// A plan as a table for people and as JSON: what every rule costs at every period, and one sentence of
// advice.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "elastic/options.hpp"
#include "elastic/planner/needs.hpp"
#include "elastic/planner/prediction.hpp"

namespace plan {

using Json = nlohmann::ordered_json;
namespace planner = elastic::planner;
namespace rule = elastic::rule;

inline constexpr std::array<long, 5> periods{1, 4, 10, 16, 64};

/// What is said of a rule in one order, or one way to combine.
struct Row {
  std::string rule;
  std::string flags;  ///< of a command line
  bool period = true;
  std::optional<long> needed{};           ///< period for the efficiency that is asked for
  std::vector<planner::Prediction> at{};  ///< each of `periods`
  planner::Prediction there{};            ///< at `needed`, or at the longest of `periods`
  planner::MemoryNeed memory{};
  std::optional<planner::AlphaRange> alpha{};
};

template <class Rule>
Row row_of(Rule rule, std::string const& flags, planner::Job const& job, planner::Site const& site,
           double efficiency) {
  Row row{std::string(Rule::name), flags, planner::has_period(rule)};
  row.needed = planner::smallest_period(rule, job, site, efficiency);
  row.memory = planner::memory_need(rule, job, site);
  row.alpha = planner::alpha_range(rule, job.workers);
  auto const at = [&](long period) {
    rule.period = period;
    return planner::predict(rule, job, site);
  };
  for (long const period : periods)
    if (row.period || period == 1) row.at.push_back(at(period));
  row.there = row.period ? at(row.needed.value_or(periods.back())) : row.at.front();
  return row;
}

inline std::vector<Row> rows_of(planner::Job const& job, planner::Site const& site, elastic::Wire wire,
                                double efficiency) {
  using rule::Order;
  auto const row = [&](auto rule, char const* flags) {
    rule.wire = wire;
    return row_of(rule, flags, job, site, efficiency);
  };
  return {row(rule::Bsp{}, ""),
          row(rule::Bsp{.combine = rule::Combine::parameters}, "--combine parameters"),
          row(rule::SyncEasgd{.order = Order::jacobi}, "--order jacobi"),
          row(rule::SyncEasgd{.order = Order::post_step}, "--order post_step"),
          row(rule::AsyncEasgd{.order = Order::jacobi}, "--order jacobi"),
          row(rule::AsyncEasgd{.order = Order::post_step}, "--order post_step")};
}

inline std::string printed(char const* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}
inline std::string bytes_text(double bytes) {
  return bytes < 1e9 ? printed("%.1f MB", bytes / 1e6) : printed("%.2f GB", bytes / 1e9);
}

/// The rule to take: gradients together if that is efficient enough, for nothing is easier to reason about;
/// else the elastic rule that may exchange most often.
inline std::string advice_of(std::vector<Row> const& rows, planner::Job const& job, double efficiency) {
  std::string const share = printed("%.0f %%", 100 * efficiency);
  if (job.workers == 1)
    return "One worker exchanges with nobody: train without a rule's help, or add workers.";
  if (rows.front().needed)
    return "BSP reaches " + share +
           " at every step (--rule bsp): the same steps as one process on the joined "
           "batch, so nothing else is worth its looser coupling here.";
  Row const* best = nullptr;
  for (Row const& row : rows)
    if (row.alpha && row.needed &&
        (!best || *row.needed < *best->needed ||
         (*row.needed == *best->needed && row.there.images_per_second > best->there.images_per_second)))
      best = &row;
  if (!best)
    return "No rule reaches " + share + " here: the link is too slow for this model at any sensible period.";
  std::string text = "BSP stays at " + printed("%.0f %%", 100 * rows.front().at[0].efficiency) +
                     "; take --rule " + best->rule + " " + best->flags + " --period " +
                     std::to_string(*best->needed) + " for " + share + " (about " +
                     printed("%.0f", best->there.images_per_second) + " images/s)";
  for (Row const& row : rows)
    if (row.rule == rule::AsyncEasgd::name && row.at.front().knee <= job.workers) {
      text += "; at short periods one server is too few for these workers (see p*)";
      break;
    }
  return text + ".";
}

inline Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

inline Json json_of(Row const& row) {
  auto const& e = row.at.front().exchange;
  Json json{{"rule", row.rule},
            {"options", row.flags},
            {"exchange_ms", 1e3 * e.total},
            {"visible_ms", 1e3 * e.visible},
            {"server_ms", 1e3 * e.service},
            {"cpu_ms", 1e3 * e.cpu},
            {"period_needed", row.needed ? Json(*row.needed) : Json()},
            {"memory_worker_bytes", std::uint64_t(row.memory.worker)},
            {"memory_server_bytes", std::uint64_t(row.memory.server)},
            {"periods", Json::array()}};
  for (std::size_t i = 0; i < row.at.size(); ++i) {
    auto const& at = row.at[i];
    json["periods"].push_back({{"period", periods[i]},
                               {"period_ms", 1e3 * at.period_seconds},
                               {"efficiency", at.efficiency},
                               {"images_per_second", at.images_per_second},
                               {"saturation_workers", number(at.knee)},
                               {"servers", std::uint64_t(at.servers)}});
  }
  if (row.alpha)
    json["alpha"] = {{"default", row.alpha->standard}, {"most", row.alpha->most}, {"safe", row.alpha->safe}};
  return json;
}

inline void print(std::vector<Row> const& rows, double efficiency) {
  std::printf("\n%-38s%9s%9s%9s   %-33s%9s%8s%22s%15s\n", "", "exchange", "seen",
              ("for " + printed("%.0f %%", 100 * efficiency)).c_str(), "efficiency at period", "images/s",
              "p*", "memory", "alpha");
  std::printf("%-38s%9s%9s%9s   ", "rule", "ms", "ms", "period");
  for (long const period : periods) std::printf("%-6ld ", period);
  std::printf("%7s%8s%22s%15s\n", "there", "there", "worker / server", "own / most");
  for (Row const& row : rows) {
    auto const& e = row.at.front().exchange;
    std::printf("%-38s%9.2f%9.2f%9s   ", (row.rule + " " + row.flags).c_str(), 1e3 * e.total, 1e3 * e.visible,
                row.needed ? std::to_string(*row.needed).c_str() : "none");
    for (std::size_t i = 0; i < periods.size(); ++i)
      std::printf("%-6s ", i < row.at.size() ? printed("%.1f %%", 100 * row.at[i].efficiency).c_str() : "");
    std::string const server = row.memory.server > 0 ? bytes_text(row.memory.server) : "-";
    std::printf(
        "%7.0f%8s%22s%15s\n", row.there.images_per_second,
        std::isfinite(row.there.knee) ? printed("%.1f", row.there.knee).c_str() : "-",
        (bytes_text(row.memory.worker) + " / " + server).c_str(),
        row.alpha ? (printed("%.3f", row.alpha->standard) + " / " + printed("%.3f", row.alpha->most)).c_str()
                  : "-");
  }
  std::printf(
      "\nexchange: from its first instruction to its last; seen: what is not hidden behind a gradient.\n"
      "there: at the period of the third column. p*: workers from which on the one server is always busy; "
      "this library\n"
      "has one (its center is cut in shards, which one process serves), so beyond p* a longer period is the "
      "cure.\n"
      "memory: vectors of the model, without its activations. alpha: what the rule takes by itself, and what "
      "it refuses\n"
      "to exceed.\n");
}

}  // namespace plan
