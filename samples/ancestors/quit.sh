#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Theano-MPI's quit.sh: stops the jobs that the scripts beside it have started, in order.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
found=false
for file in "$here"/../../runs/pids/*; do
  [ -e "$file" ] || continue
  pid=$(cat "$file")
  if [ -e "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q 'samples/launch '; then
    kill -TERM "$pid" && echo "stopping the job of process $pid"
    found=true
  else
    rm -f "$file" # its job has been killed
  fi
done
$found || echo "no job is running"
