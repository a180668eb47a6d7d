// SPDX-License-Identifier: Apache-2.0
// Before ranks train together they compare what they must have in common. Rank 0 is the authority: whoever
// differs is told which field, and everybody stops with the same error.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"

namespace elastic {

namespace detail {

/// The first lines in which two texts differ, "nothing" where one of them ends; equal if none do.
inline std::pair<std::string, std::string> first_different_lines(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    std::string_view const x = a.substr(0, a.find('\n')), y = b.substr(0, b.find('\n'));
    if (x != y) return {std::string(x.empty() ? "nothing" : x), std::string(y.empty() ? "nothing" : y)};
    a.remove_prefix(std::min(a.size(), x.size() + 1));
    b.remove_prefix(std::min(b.size(), y.size() + 1));
  }
  return {};
}

/// The first "key=value" line in which `mine` differs from `theirs`, as a sentence; empty if none does.
inline std::string first_difference(std::string_view theirs, std::string_view mine, int rank) {
  auto const [a, b] = first_different_lines(theirs, mine);
  if (a == b) return {};
  return "rank 0 trains with " + a + ", rank " + std::to_string(rank) + " with " + b +
         "; start every rank with the same options";
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
