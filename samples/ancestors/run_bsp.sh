#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Theano-MPI's run_bsp.sh: N workers that average their parameters, on GPUs 0 ... N-1, or on the CPU.
set -euo pipefail
usage='usage: run_bsp.sh N [--data DIR] [OPTION of imagenet...]     DEVICE=cpu run_bsp.sh ... computes on the CPU'
case "${1-}" in
  [1-9] | [1-9][0-9]) ;;
  *) echo "$usage" >&2 && exit 2 ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
devices=()
for ((i = 0; i < $1; ++i)); do devices+=("${DEVICE:-gpu$i}"); done
exec "$here/start" --devices "$(IFS=, && echo "${devices[*]}")" -- \
  --rule bsp --combine parameters --scale-by-workers --transport "${TRANSPORT:-shared_memory}" "${@:2}"
