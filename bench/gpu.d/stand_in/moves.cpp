// SPDX-License-Identifier: Apache-2.0
// gpu.d/moves.cu on the CPU, with the device that stands in for a GPU: CI runs what no GPU has run yet.
// needs: thrust
#include "../moves.cu"
