# SPDX-License-Identifier: Apache-2.0
"""Links with a rate and a delay between network namespaces of this machine: `with Star(...) as star`, then processes in
star.networks reach each other at star.addresses. Needs root and /dev/net/tun."""

import os
import socket
import statistics
import subprocess
import sys
import time


class Star:
    """`hosts` namespaces around a switch; each host's link carries `mbits` per second either way, and a packet takes
    `delay` seconds from any host to any other."""

    def __init__(self, program, hosts, mbits, delay):
        self.program, self.mbits, self.delay = str(program), mbits, delay
        self.networks = [f"elastic-bench-{os.getpid()}-{k}" for k in range(hosts)]
        self.addresses = [f"10.97.0.{k + 1}" for k in range(hosts)]
        self.wires = None

    def __enter__(self):
        try:
            for network in self.networks:
                run("ip", "netns", "add", network)
            self.wires = subprocess.Popen([self.program, str(self.mbits), str(round(self.delay * 1e6)), *self.networks],
                                          stdout=subprocess.PIPE, text=True)
            if self.wires.stdout.readline().strip() != "ready":
                raise RuntimeError("bench_link did not start; it says why above")
            window = str(max(4 << 20, round(self.mbits * 125_000 * (2 * self.delay + 0.02) * 2)))
            for network, address in zip(self.networks, self.addresses):
                inside = ["ip", "netns", "exec", network]
                run(*inside, "ip", "address", "add", f"{address}/24", "dev", "wire")
                run(*inside, "ip", "link", "set", "wire", "up", "txqueuelen", "1000")
                run(*inside, "ip", "link", "set", "lo", "up")
                # windows that fill the link
                run(*inside, "sysctl", "-qw", f"net.ipv4.tcp_rmem=4096 131072 {window}", f"net.ipv4.tcp_wmem=4096 131072 {window}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.wires:
            self.wires.kill()
            self.wires.wait()
            self.wires.stdout.close()
        for network in self.networks:
            subprocess.run(["ip", "netns", "delete", network], capture_output=True)

    def measure(self, seconds=1.0):
        """Megabits per second and round-trip seconds between the first two hosts, as a TCP connection sees them."""
        inside = [["ip", "netns", "exec", network, sys.executable, __file__] for network in self.networks[:2]]
        with subprocess.Popen([*inside[1], "answer", self.addresses[1]], stdout=subprocess.PIPE, text=True) as other:
            other.stdout.readline()
            done = subprocess.run([*inside[0], "ask", self.addresses[1], str(seconds)], capture_output=True, text=True,
                                  timeout=60 + 4 * seconds)
            other.wait(60)
        if done.returncode != 0:
            raise RuntimeError(f"the link could not be measured:\n{done.stderr}")
        rate, trip = map(float, done.stdout.split())
        return rate, trip


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


PORT = 9001


def answer(address):
    """Echoes bytes, then counts what comes and says how many came in the second half of the time."""
    with socket.create_server((address, PORT)) as server:
        print("listening", flush=True)
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20):
            connection.sendall(connection.recv(1))
        seconds = float(connection.recv(16).split(b"\n")[0])
        connection.sendall(b"g")
        buffer, begin, counted, counting, last = bytearray(1 << 20), time.monotonic(), 0, 0, 0
        while count := connection.recv_into(buffer):
            last = time.monotonic()
            if last - begin > seconds / 2:
                counting = counting or last
                counted += count
        connection.close()
        with socket.create_server((address, PORT + 1)) as again:
            connection, _ = again.accept()
            connection.sendall(str(counted * 8 / 1e6 / max(last - counting, 1e-9)).encode())
            connection.close()


def ask(address, seconds):
    connection = socket.create_connection((address, PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    trips = []
    for _ in range(20):
        begin = time.monotonic()
        connection.sendall(b"?")
        connection.recv(1)
        trips.append(time.monotonic() - begin)
    seconds = max(seconds, 40 * statistics.median(trips))  # until the window is open
    connection.sendall(f"{seconds}\n".encode())
    connection.recv(1)
    block, begin = bytes(1 << 20), time.monotonic()
    while time.monotonic() - begin < seconds:
        connection.sendall(block)
    connection.close()
    for _ in range(100):
        try:
            connection = socket.create_connection((address, PORT + 1))
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    print(connection.recv(64).decode(), statistics.median(trips))


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2])
    else:
        ask(sys.argv[2], float(sys.argv[3]))
