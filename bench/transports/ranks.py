# SPDX-License-Identifier: Apache-2.0
"""Groups of ranks that live through a run of benches: starts them, tells them what to measure, ends them."""

import collections
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile

PATIENCE = 120  # seconds until a group that does not answer is an error


class Group:
    """Processes that measure together; each is connected to this one by a socket of its own."""

    def __init__(self, name, size, commands, environment=None):
        self.name, self.size, self.commands, self.environment = name, size, commands, environment or {}
        self.launchers, self.ranks, self.made = [], {}, None

    def tell(self, line):
        """All ranks' answers to one command."""
        for connection, _ in self.ranks.values():
            connection.sendall((line + "\n").encode())
        answers = []
        for rank, (_, lines) in sorted(self.ranks.items()):
            try:
                answer = lines.readline()
            except TimeoutError:
                answer = ""
            if not answer:
                raise RuntimeError(f"{self.name}: rank {rank} did not answer to '{line}' within {PATIENCE} s or ended")
            answers.append(json.loads(answer))
        return answers

    def measure(self, case, size, calls):
        """Seconds a call, of the slowest rank; raises if the data is wrong."""
        before = sum(a["held"] for a in self.tell(f"fill {case} {size}"))
        self.made = (case, size)
        answers = self.tell(f"go {calls}")
        if not all(a["right"] for a in answers):
            raise RuntimeError(f"{self.name}: {case} of {size} bytes gave wrong data")
        if before:
            after = sum(a["held"] for a in self.tell("held"))
            if abs(after - before) > 1e-5 * abs(before):
                raise RuntimeError(f"{self.name}: {case} of {size} bytes lost {before - after} of {before}")
        return max(a["seconds"] for a in answers)

    def release(self):
        if self.made:
            self.tell("release")
            self.made = None

    def end(self):
        for connection, lines in self.ranks.values():
            lines.close()
            connection.close()
        for process in self.launchers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.launchers, self.ranks = [], {}


class Ranks:
    """Where the ranks of all groups connect to."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = str(pathlib.Path(self.folder.name) / "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(2048)
        self.listener.settimeout(PATIENCE)
        self.groups = []

    def start(self, *groups):
        waiting = {}
        for group in groups:
            if group.launchers:
                continue
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **group.environment, "ELASTIC_BENCH_SOCKET": self.path}
            group.launchers = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                                start_new_session=True) for command in group.commands]
            self.groups.append(group)
            waiting[group.name] = group
        while any(len(g.ranks) < g.size for g in waiting.values()):
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                missing = [f"{g.name} ({len(g.ranks)} of {g.size})" for g in waiting.values() if len(g.ranks) < g.size]
                raise RuntimeError(f"these groups did not start within {PATIENCE} s: {', '.join(missing)}") from None
            connection.settimeout(PATIENCE)
            lines = connection.makefile("r")
            hello = json.loads(lines.readline())
            waiting[hello["group"]].ranks[hello["rank"]] = (connection, lines)

    def end(self):
        for group in self.groups:
            group.end()
        self.groups = []


def take_turns(contenders, size, rounds, budget):
    """Times of {name: (group, case)}, one measurement of each a round, about `budget` seconds long: {name: [seconds]}."""
    calls = {}
    for name, (group, case) in contenders.items():
        once = group.measure(case, size, 1)
        if once < budget:
            once = min(once, group.measure(case, size, max(1, min(20, int(budget / 4 / max(once, 1e-7))))))
        calls[name] = max(1, min(100_000, int(budget / max(once, 1e-7))))
    times = collections.defaultdict(list)
    for _ in range(rounds):
        for name, (group, case) in contenders.items():
            times[name].append(group.measure(case, size, calls[name]))
    for group, _ in contenders.values():
        group.release()
    return dict(times)


def ratio(theirs, ours):
    """Median over the rounds of their time over ours: above 1 we are faster."""
    return statistics.median(t / o for t, o in zip(theirs, ours))
