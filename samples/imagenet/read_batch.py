# SPDX-License-Identifier: Apache-2.0
# Reads a batch file (docs/batch-format.md) with nothing but numpy, and prints what is in it.
import struct
import sys

import numpy


def read_batch(path):
    data = numpy.memmap(path, numpy.uint8, "r")
    head = struct.unpack_from("<8s4I4Q2I5Q16x2I", data)
    magic, version, channels, height, width, count = head[:6]
    name_bytes, labels_at, checksums_at, sums_at, images_at, file_bytes = head[10:16]
    if magic != b"elasticB" or version != 1 or file_bytes != data.size:
        raise ValueError(f"{path}: not a whole batch file of version 1")
    names = bytes(data[128 : 128 + name_bytes]).decode().splitlines()
    labels = data[labels_at:checksums_at].view("<u4")
    sums = data[sums_at : sums_at + 4 * channels * height * width].view("<u4")
    images = data[images_at:].reshape(count, channels, height, width)
    return images, labels, names, (sums / count).reshape(channels, height, width)


for path in sys.argv[1:]:
    images, labels, names, mean = read_batch(path)
    print(path, *images.shape, "labels", *labels[:4], "names", len(names), f"mean {mean.mean():.3f}")
