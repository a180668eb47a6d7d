#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Images per second of PyTorch's DistributedDataParallel over Gloo: p processes that train together, and the same p that train alone, taking turns in one run.

Prints one object of JSON: for "ddp" and "independent" the images/s of all processes together (median, and every round's),
and "ratio", ddp / independent by rounds: what is left of the speed when gradients are averaged. A round's time is the
slowest process's, from a barrier on. Checks that processes that trained together have the same parameters, and those that
trained alone have not. One thread a process. Exits with 77 where torch is missing.

Debian's torch multiplies with whatever libblas.so.3 is; "blas" in the output is the reference one, which is slower by an
order of magnitude and no peer to anybody: install libopenblas0-pthread.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

try:
    import torch
    import torch.distributed as dist
    from torch import nn
except ImportError:
    print("peer_ddp: this Python has no torch (Debian: python3-torch)", file=sys.stderr)
    sys.exit(77)

from peer_torch import NETS, blas


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Trained:
    """A net with its data, its optimizer and its steps."""

    def __init__(self, options, together):
        torch.manual_seed(1)
        net, shape = NETS[options.net]()
        self.net = nn.parallel.DistributedDataParallel(net) if together else net
        self.step_maker = torch.optim.SGD(self.net.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()
        torch.manual_seed(2 + options.rank)
        self.x = torch.randn(options.batch, *shape)
        self.y = torch.randint(0, 10, (options.batch,))

    def run(self, steps):
        """Seconds of so many steps, of the slowest process."""
        dist.barrier()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step_maker.zero_grad(set_to_none=False)
            self.loss(self.net(self.x), self.y).backward()
            self.step_maker.step()
        seconds = torch.tensor(time.perf_counter() - begin, dtype=torch.float64)
        dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
        return float(seconds)

    def spread(self):
        """The largest distance of a parameter from that of the first process."""
        mine = torch.cat([p.detach().flatten() for p in self.net.parameters()])
        first = mine.clone()
        dist.broadcast(first, 0)
        far = (mine - first).abs().max()
        dist.all_reduce(far, op=dist.ReduceOp.MAX)
        return float(far)


def worker(options):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{options.port}", rank=options.rank,
                            world_size=options.processes)
    ways = {"ddp": Trained(options, True), "independent": Trained(options, False)}
    steps = {}
    for name, way in ways.items():
        way.run(3)
        steps[name] = options.steps or max(5, round(options.seconds / (way.run(5) / 5)))  # the same number on all
    rounds = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            seconds = way.run(steps[name])
            rounds[name].append(options.processes * options.batch * steps[name] / seconds)
    spread = {name: way.spread() for name, way in ways.items()}
    if spread["ddp"] != 0 or (options.processes > 1 and spread["independent"] == 0):
        sys.exit(f"peer_ddp: parameters differ by {spread['ddp']} (expected 0) where processes train together, by "
                 f"{spread['independent']} (expected more) where each trains alone")
    ratios = [a / b for a, b in zip(rounds["ddp"], rounds["independent"])]
    if options.rank == 0:
        print(json.dumps({
            "net": options.net, "batch": options.batch, "processes": options.processes,
            "parameters": sum(p.numel() for p in ways["independent"].net.parameters()), "torch": torch.__version__,
            "blas": blas(),
            **{name: {"images_per_second": statistics.median(r), "rounds": r} for name, r in rounds.items()},
            "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", default="perceptron", choices=NETS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="about how long each measurement takes")
    parser.add_argument("--steps", type=int, default=0, help="so many a measurement, instead of --seconds")
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processes < 1 or options.rounds < 1 or options.batch < 1:
        parser.error("--processes, --rounds and --batch must be at least 1")
    if options.rank >= 0:
        return worker(options)

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    port = str(free_port())
    ranks = [subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--rank", str(r), "--port", port], env=environment)
             for r in range(options.processes)]
    failed = False
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() not in (None, 0) for rank in ranks):  # the others would wait for it
            failed = True
            for rank in ranks:
                if rank.poll() is None:
                    rank.kill()
        time.sleep(0.05)
    sys.exit(1 if failed or any(rank.returncode != 0 for rank in ranks) else 0)


if __name__ == "__main__":
    main()
