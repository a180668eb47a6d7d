// SPDX-License-Identifier: Apache-2.0
// `imagenet prepare`: the verb that writes batch files.
#pragma once

namespace sample {

/// Reads the options behind the word `prepare`, which is argv[0], writes batch files and returns the exit code: 0;
/// 75 if a signal stopped it, 2 for options that cannot work, 1 for whatever else it prints.
int prepare(int argc, char** argv);

}  // namespace sample
