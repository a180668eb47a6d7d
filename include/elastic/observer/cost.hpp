// SPDX-License-Identifier: Apache-2.0
// What a rank's part in a run cost, as a line for people and as one for a log.
#pragma once

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "elastic/report.hpp"

namespace elastic::observer {

/// "rank 1 worker  62.1 s: computing 91.2 %, exchanging 2.0 %, ...; sent 812.3 MB in 1204 messages, received
/// ..., 26.2 MB/s"; MB are 10^6 bytes, the rate is of both directions over all of the rank's time.
inline std::string cost_line(int rank, Report const& report) {
  double const total = std::max(report.seconds.total(), 1e-9);
  char text[96];
  std::snprintf(text, sizeof text, "rank %d %s  %.1f s:", rank, to_string(report.role).data(),
                report.seconds.total());
  std::string line = text;
  Seconds seconds = report.seconds;
  for (auto const what :
       {Doing::computing, Doing::exchanging, Doing::waiting, Doing::loading, Doing::observing}) {
    if (seconds.of(what) <= 0) continue;
    std::snprintf(text, sizeof text, "%s %s %.1f %%", line.back() == ':' ? "" : ",", to_string(what).data(),
                  100 * seconds.of(what) / total);
    line += text;
  }
  auto const& moved = report.traffic;
  auto const side = [&](char const* name, std::uint64_t bytes, std::uint64_t messages) {
    std::snprintf(text, sizeof text, " %s %.1f MB in %llu messages,", name, 1e-6 * double(bytes),
                  static_cast<unsigned long long>(messages));
    line += text;
  };
  line += ";";
  side("sent", moved.sent_bytes, moved.sent_messages);
  side("received", moved.received_bytes, moved.received_messages);
  std::snprintf(text, sizeof text, " %.1f MB/s",
                1e-6 * double(moved.sent_bytes + moved.received_bytes) / total);
  return line + text;
}

/// The same and the rest of the report as the fields of a log's line "end".
inline nlohmann::ordered_json cost_fields(int rank, Report const& report) {
  return {{"role", to_string(report.role)},
          {"rank", rank},
          {"steps", report.steps},
          {"exchanges", report.exchanges},
          {"stopped", report.stopped},
          {"lost", report.lost},
          {"refused", report.refused},
          {"rejoined", report.rejoined},
          {"computing", report.seconds.computing},
          {"exchanging", report.seconds.exchanging},
          {"waiting", report.seconds.waiting},
          {"loading", report.seconds.loading},
          {"observing", report.seconds.observing},
          {"sent_bytes", report.traffic.sent_bytes},
          {"received_bytes", report.traffic.received_bytes},
          {"sent_messages", report.traffic.sent_messages},
          {"received_messages", report.traffic.received_messages}};
}

}  // namespace elastic::observer
