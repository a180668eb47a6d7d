// SPDX-License-Identifier: Apache-2.0
// Catch2 under either of its two layouts: v2 (one header, Debian 12) and v3.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

using Catch::Approx;
