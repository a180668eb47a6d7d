#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Images per second of the benches' nets in PyTorch, on one thread or more: the peer that bench/training_speed compares with.

Prints one line: net, memory format, images/s, images a second of CPU time (medians over the steps) and the BLAS that
torch found, since Debian's torch multiplies with whatever libblas.so.3 is: "blas" is the slow reference one. Exits with 77 where torch is missing.
"""

import argparse
import pathlib
import statistics
import sys
import time

try:
    import torch
    from torch import nn
except ImportError:
    print("peer_torch: this Python has no torch (Debian: python3-torch)", file=sys.stderr)
    sys.exit(77)


def easgd_cifar():
    return nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)), (3, 28, 28)


def async_easgd_cifar():
    layers, channels = [], 3
    for maps in (64, 128, 256, 512):
        layers += [nn.Conv2d(channels, maps, 5, padding=2), nn.BatchNorm2d(maps, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2)]
        channels = maps
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 2 * 2, 10)), (3, 32, 32)


def perceptron():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)), (1, 28, 28)


def alexnet():
    # PyTorch divides LRN's alpha by its size; the ancestors do not.
    def lrn():
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2), lrn(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), lrn(),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 1000)), (3, 227, 227)


class Branches(nn.ModuleList):
    def forward(self, x):
        return torch.cat([branch(x) for branch in self], 1)


class Auxiliary(nn.Sequential):
    """Passes its input on; its logits wait for the loss."""

    def forward(self, x):
        self.logits = super().forward(x)
        return x


def googlenet():
    def conv(inputs, outputs, kernel, stride=1):
        return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU()]

    def inception(inputs, one, reduce_three, three, reduce_five, five, pooled):
        return Branches([
            nn.Sequential(*conv(inputs, one, 1)),
            nn.Sequential(*conv(inputs, reduce_three, 1), *conv(reduce_three, three, 3)),
            nn.Sequential(*conv(inputs, reduce_five, 1), *conv(reduce_five, five, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv(inputs, pooled, 1))])

    def tower(inputs):
        return Auxiliary(nn.AvgPool2d(5, 3), *conv(inputs, 128, 1), nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(),
                         nn.Dropout(0.7), nn.Linear(1024, 1000))

    def halve():
        return nn.MaxPool2d(3, 2, 1)

    def lrn():
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    return nn.Sequential(
        *conv(3, 64, 7, 2), halve(), lrn(), *conv(64, 64, 1), *conv(64, 192, 3), halve(), lrn(),
        inception(192, 64, 96, 128, 16, 32, 32), inception(256, 128, 128, 192, 32, 96, 64), halve(),
        inception(480, 192, 96, 208, 16, 48, 64), tower(512), inception(512, 160, 112, 224, 24, 64, 64),
        inception(512, 128, 128, 256, 24, 64, 64), inception(512, 112, 144, 288, 32, 64, 64), tower(528),
        inception(528, 256, 160, 320, 32, 128, 128), lrn(), halve(),
        inception(832, 256, 160, 320, 32, 128, 128), inception(832, 384, 192, 384, 48, 128, 128),
        nn.AvgPool2d(7), nn.Flatten(), nn.Dropout(0.4), nn.Linear(1024, 1000)), (3, 224, 224)


NETS = {"easgd_cifar": easgd_cifar, "async_easgd_cifar": async_easgd_cifar, "perceptron": perceptron,
        "alexnet": alexnet, "googlenet": googlenet}


def blas():
    """The folder of the libblas.so.3 in use, which names it: blas, openblas-pthread, blis; Linux only."""
    try:
        mapped = pathlib.Path("/proc/self/maps").read_text().split()
    except OSError:
        return "unknown"
    return next((pathlib.Path(word).parent.name for word in mapped if "/libblas" in word), "its_own")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--steps", type=int, default=20, help="timed steps, after three that are not")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    net, shape = NETS[options.net]()
    images, labels = torch.randn(options.batch, *shape), torch.randint(0, 10, (options.batch,))
    if options.channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loss = nn.CrossEntropyLoss()
    towers = [layer for layer in net if isinstance(layer, Auxiliary)]

    times, cpu_times = [], []
    for _ in range(3 + options.steps):
        start, cpu_start = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        total = loss(net(images), labels)
        for tower in towers:
            total = total + 0.3 * loss(tower.logits, labels)
        total.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    form = "channels_last" if options.channels_last else "contiguous"
    speeds = [options.batch / statistics.median(seconds[3:]) for seconds in (times, cpu_times)]
    print(options.net, form, f"{speeds[0]:.1f} {speeds[1]:.1f}", blas())


if __name__ == "__main__":
    main()
