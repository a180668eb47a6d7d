// SPDX-License-Identifier: Apache-2.0
// Catch2 under either of its two layouts: v2 (one header, Debian 12) and v3. Tests use v3's names.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;  // v2 puts it here by itself
#else
#include <catch2/catch.hpp>

namespace Catch::Matchers {
inline auto ContainsSubstring(std::string const& text) { return Contains(text); }
}  // namespace Catch::Matchers
#endif
