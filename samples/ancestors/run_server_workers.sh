#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Theano-MPI's run_server_workers.sh: a server and any number of EASGD workers on the devices named.
set -euo pipefail
usage='usage: run_server_workers.sh SERVER_DEVICE WORKER_DEVICE... [-- --data DIR OPTION of imagenet...]
  a device is gpu0, cpu, or on another host node1:gpu0; the server keeps the center in host memory
example: run_server_workers.sh gpu4 gpu5 gpu6 -- --data /data/imagenet'
[ $# -ge 2 ] && [[ $1 != -* ]] || { echo "$usage" >&2 && exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
server=$1
shift
workers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do workers+=("$1") && shift; done
[ ${#workers[@]} -gt 0 ] || { echo "$usage" >&2 && exit 2; }
[ $# -eq 0 ] || shift
exec "$here/start" --server "$server" --devices "$(IFS=, && echo "${workers[*]}")" -- \
  --rule async_easgd --order post_step --alpha 0.5 --period 8 --validate-every 0 --testers 1 \
  --transport "${TRANSPORT:-tcp}" "$@"
