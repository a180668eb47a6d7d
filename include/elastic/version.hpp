// SPDX-License-Identifier: Apache-2.0
// The version, in one place: the build, the package files and peers that compare versions read it here.
#pragma once

#define ELASTIC_VERSION_MAJOR 0
#define ELASTIC_VERSION_MINOR 1
#define ELASTIC_VERSION_PATCH 0

namespace elastic {

/// The release this header belongs to; while `major` is 0, a new `minor` may break what used the last one.
struct Version {
  int major = ELASTIC_VERSION_MAJOR;
  int minor = ELASTIC_VERSION_MINOR;
  int patch = ELASTIC_VERSION_PATCH;
};

inline constexpr Version library_version{};

}  // namespace elastic
