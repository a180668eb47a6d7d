#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One rank of PyTorch's Gloo as bench/transports/run measures it; the same commands as rank.hpp, all-reduce only."""

import argparse
import json
import os
import socket
import statistics
import time

import torch
import torch.distributed as dist


def value(rank, n):
    i = torch.arange(n, dtype=torch.int32)
    return (1 + ((i ^ (i >> 4) ^ (rank * 5)) & 15)).to(torch.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{options.port}", rank=options.rank,
                            world_size=options.ranks)
    controller = socket.socket(socket.AF_UNIX)
    controller.connect(os.environ["ELASTIC_BENCH_SOCKET"])
    lines = controller.makefile("r")

    def say(what):
        controller.sendall((json.dumps(what) + "\n").encode())

    say({"group": options.group, "rank": options.rank, "size": options.ranks, "pid": os.getpid(),
         "version": torch.__version__})
    most = 110 // max(1, (options.ranks - 1).bit_length())
    x = start = total = made = None
    for line in lines:
        words = line.split()
        answer = {}
        if words[0] == "fill":
            if made != line:
                n = int(words[2]) // 4
                start = value(options.rank, n)
                total = sum(value(r, n) for r in range(options.ranks))
                x = torch.empty(n)
                made = line
            x.copy_(start)
            answer["held"] = 0
        elif words[0] == "go":
            calls, done, seconds, right = int(words[1]), 0, [], True
            while done < calls:
                n = min(calls - done, most - 1)
                if done > 0:
                    x.copy_(start)
                dist.all_reduce(x)
                begin = time.perf_counter()
                for _ in range(n):
                    dist.all_reduce(x)
                seconds.append((time.perf_counter() - begin) / n)
                right = right and bool(torch.equal(x, total * float(options.ranks) ** n))
                done += n
            answer = {"seconds": statistics.median(seconds[len(seconds) // 3:]), "right": right}
        elif words[0] == "release":
            x = start = total = made = None
        say(answer)


if __name__ == "__main__":
    main()
