// SPDX-License-Identifier: Apache-2.0
// One rank, no peers: every collective program runs unchanged without a launcher.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "elastic/error.hpp"
#include "elastic/span.hpp"
#include "elastic/traffic.hpp"

namespace elastic::transport {

/// A world of one. It has collectives, which have nothing to do, and no messages: a rule with a server
/// refuses it.
class Serial {
 public:
  static constexpr std::string_view name = "serial";
  template <class Memory>
  static constexpr bool reaches = true;

  struct Done {
    void wait() {}
    bool done() { return true; }
  };

  int rank() const { return 0; }
  int size() const { return 1; }
  Traffic traffic() const { return {}; }
  std::chrono::duration<double> timeout() const { return {}; }

  /// Throws Aborted: the only rank to release is the caller.
  void abort(std::string_view why) { throw Aborted(0, "", "abort", {}, std::string(why)); }

  void team(int) {}
  void barrier() {}
  template <class T, class Memory>
  void broadcast(Span<T, Memory>, int) {}
  template <class T, class Memory>
  void all_reduce(Span<T, Memory>) {}
  template <class T, class Memory>
  [[nodiscard("wait() on it")]] Done start_all_reduce(Span<T, Memory>) {
    return {};
  }
};

}  // namespace elastic::transport
