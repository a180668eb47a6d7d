#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Async-EASGD's script of this name: a server on the CPU, two clients and a tester over TCP, CIFAR-10.
set -euo pipefail
port=8080
case "${1-}" in
  --help | -h)
    echo 'usage: AsyncEASGD.sh [PORT] [--data DIR] [OPTION of cifar10...]     PORT is 8080 unless given
  DEVICES=gpu0,gpu1 AsyncEASGD.sh ... computes on GPUs' >&2
    exit
    ;;
  [0-9]*) port=$1 && shift ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SAMPLE=cifar10 exec "$here/start" --devices "${DEVICES:-cpu,cpu}" -- \
  --rule async_easgd --transport tcp --port "$port" --net async_easgd --batch 128 --epochs 128 --alpha 0.2 --period 10 \
  --learning-rate 0.01 --momentum 0 --weight-decay 0 --decay constant --flip=false \
  --sampler label_uniform "$@"
