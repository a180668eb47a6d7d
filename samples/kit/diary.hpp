// SPDX-License-Identifier: Apache-2.0
// What a rank of a program of the kit says about itself and leaves behind: progress on the terminal, its part
// of the run's log, and what else was asked for. Compiled once, not for every transport, rule and device.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "elastic/event.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "job.hpp"

namespace sample {

using Json = nlohmann::ordered_json;

/// Observes one rank.
class Diary {
 public:
  /// Of a rank whose workers make `steps` steps each and have `images` to train on. Throws Error if a file
  /// cannot be written.
  Diary(Job const& job, int rank, elastic::Layout const& layout, long steps, double images);
  ~Diary();

  /// A line of the log; silent without an --out folder.
  void write(std::string_view event, Json const& fields);
  /// How good the center was: the line "test" of the log, and points of TensorBoard's curves.
  void test(double samples, Json const& fields);
  /// The rank's last words: what its part cost, and whatever `fields` add.
  void end(elastic::Report const& report, Json fields);
  /// Since the rank began.
  double seconds() const;

  void operator()(elastic::event::Step const& e);
  void operator()(elastic::event::Exchange const& e);
  void operator()(elastic::event::Applied const& e);
  void operator()(elastic::event::Snapshot const& e);
  void operator()(elastic::event::Joined const& e);
  void operator()(elastic::event::Lost const& e);
  void operator()(elastic::event::Refused const& e);
  void operator()(elastic::event::Interval const& e);

 private:
  class Parts;
  template <class Event>
  void tell(Event const& e);
  std::unique_ptr<Parts> parts_;
};

}  // namespace sample
