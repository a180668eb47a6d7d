// SPDX-License-Identifier: Apache-2.0
// Where a worker stands between two steps: beside its vectors, all that a run needs to go on from there.
#pragma once

#include "elastic/optimizer/schedule.hpp"

namespace elastic {

/// How far a worker has come.
struct Bookmark {
  long steps = 0;         ///< completed, those of earlier runs included
  double epoch_loss = 0;  ///< plateau schedule: sum of the losses of the epoch so far
  optimizer::PlateauCounter plateaus{};
};

}  // namespace elastic
