// SPDX-License-Identifier: Apache-2.0
// Before ranks train together they compare what they must have in common. Rank 0 is the authority: whoever
// differs is told which field, and everybody stops with the same error.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"

namespace elastic {

namespace detail {

/// The first "key=value" line in which `mine` differs from `theirs`, as a sentence; empty if none does.
inline std::string first_difference(std::string_view theirs, std::string_view mine, int rank) {
  while (!theirs.empty() || !mine.empty()) {
    std::string_view const a = theirs.substr(0, theirs.find('\n')), b = mine.substr(0, mine.find('\n'));
    if (a != b)
      return "rank 0 trains with " + std::string(a.empty() ? "nothing" : a) + ", rank " +
             std::to_string(rank) + " with " + std::string(b.empty() ? "nothing" : b) +
             "; start every rank with the same options";
    theirs.remove_prefix(std::min(theirs.size(), a.size() + 1));
    mine.remove_prefix(std::min(mine.size(), b.size() + 1));
  }
  return {};
}

}  // namespace detail

/// Compares `terms` ("key=value" lines) with rank 0's; throws Disagreement on every rank if any rank differs.
template <PointToPoint Net>
void agree(Net& net, std::string const& terms) {
  using Verdict = std::array<char, 512>;
  auto const refuse_if = [](Verdict const& verdict) {
    if (verdict[0] != 0) throw Disagreement(verdict.data());
  };
  Verdict verdict{};
  if (net.rank() == 0) {
    std::uint64_t const length = terms.size();
    for (int r = 1; r < net.size(); ++r) {
      net.send(read(as_bytes(const_cast<std::uint64_t&>(length))), r, tag::agree);
      net.send(Span<char const>(terms), r, tag::agree);
    }
    for (int r = 1; r < net.size(); ++r) {
      Verdict answer{};
      net.receive(Span<char>(answer), r, tag::agree);
      if (verdict[0] == 0) verdict = answer;
    }
    for (int r = 1; r < net.size(); ++r) net.send(Span<char const>(verdict), r, tag::agree);
  } else {
    std::uint64_t length = 0;
    net.receive(as_bytes(length), 0, tag::agree);
    constexpr std::uint64_t most = 1 << 16;
    if (length > most)
      throw ProtocolError(0, "", "agree", {},
                          "terms of " + std::to_string(length) + " bytes, at most 65536 are expected");
    std::string theirs(length, ' ');
    net.receive(Span<char>(theirs), 0, tag::agree);
    std::string const difference = detail::first_difference(theirs, terms, net.rank());
    std::copy_n(difference.begin(), std::min(difference.size(), verdict.size() - 1), verdict.begin());
    net.send(Span<char const>(verdict), 0, tag::agree);
    net.receive(Span<char>(verdict), 0, tag::agree);
  }
  refuse_if(verdict);
}

}  // namespace elastic
