// SPDX-License-Identifier: Apache-2.0
// Catch2's main function; its own object because version 2 takes 20 seconds to compile it.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
