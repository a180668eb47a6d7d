// SPDX-License-Identifier: Apache-2.0
// Test cases whose names are made at run time, so that a type list can register one for each of its cells.
#pragma once

#include <string>

#include "support/catch.hpp"

namespace support {

/// Registers `body` under `name`, which must be new; call it while static objects are initialized.
inline bool add_case(void (*body)(), std::string const& name, std::string const& tags) {
  REGISTER_TEST_CASE(body, name, tags);
  return true;
}

}  // namespace support
