// SPDX-License-Identifier: Apache-2.0
// Where the tree under test is, for tests that read its pages.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace support {

/// CTest says it; a test started by hand goes by where it was compiled.
inline std::filesystem::path source_tree() {
  if (char const* const root = std::getenv("TEST_SOURCE_TREE")) return root;
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
}

}  // namespace support
