#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training steps of the benches' nets in PyTorch on a GPU: the peer of bench/gpu.d/nets.cu.

Answers each line `<net> <precision> <seconds> <eager | compile>` on stdin with the seconds of one step (gradient and SGD,
batch 128, which is on the GPU already) or `error: <why>`. float32 forbids TF32; tf32 allows it in products and convolutions; bf16
is autocast with float32 parameters. cuDNN chooses its algorithms by trying (benchmark), and of the
memory formats, contiguous and channels_last, the faster one counts.
"""

import sys
import time

BATCH = 128


def main():
    try:
        import torch
        from torch import nn
    except ImportError:
        return answer_all("this Python has no torch")
    if not torch.cuda.is_available():
        return answer_all(f"torch {torch.__version__} sees no GPU")

    def easgd_cifar():
        return nn.Sequential(
            nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(128, 64, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)), (3, 28, 28), 10

    def async_easgd_cifar():
        layers, channels = [], 3
        for maps in (64, 128, 256, 512):
            layers += [nn.Conv2d(channels, maps, 5, padding=2), nn.BatchNorm2d(maps, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2)]
            channels = maps
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 2 * 2, 10)), (3, 32, 32), 10

    def alexnet():
        def norm():  # PyTorch divides alpha by the size
            return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        return nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2), norm(),
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), norm(),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 1000)), (3, 227, 227), 1000

    nets = {"easgd_cifar": easgd_cifar, "async_easgd_cifar": async_easgd_cifar, "alexnet": alexnet}
    torch.backends.cudnn.benchmark = True
    kept = {}

    def arithmetic(precision):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"

    def make(name, precision, way, form):
        torch.manual_seed(1)
        net, shape, classes = nets[name]()
        net = net.cuda().to(memory_format=form)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.001, foreach=True)
        loss = nn.CrossEntropyLoss()
        images = torch.randn(BATCH, *shape).cuda().to(memory_format=form)
        labels = torch.randint(0, classes, (BATCH,)).cuda()

        def forward(x, y):
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
                return loss(net(x), y)

        if way == "compile":
            torch._dynamo.reset()
            forward = torch.compile(forward, mode="reduce-overhead")

        def step():
            optimizer.zero_grad(set_to_none=True)
            value = forward(images, labels)
            value.backward()
            optimizer.step()
            return value

        for _ in range(10):
            step()
        torch.cuda.synchronize()
        return step

    def seconds_of_a_step(step, about):
        def run(steps):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                value = step()
            torch.cuda.synchronize()
            taken = (time.perf_counter() - start) / steps
            if not torch.isfinite(value):
                raise RuntimeError("the loss is not a number")
            return taken
        return run(max(5, int(about / run(3))))

    def measured(name, precision, about, way):
        if name not in nets or precision not in ("float32", "tf32", "bf16") or way not in ("eager", "compile"):
            raise RuntimeError(f"no {way} of {name} in {precision}")
        arithmetic(precision)
        key = name, precision, way
        if key not in kept:
            made = [make(name, precision, way, form) for form in (torch.contiguous_format, torch.channels_last)]
            kept[key] = min(made, key=lambda step: seconds_of_a_step(step, min(about, 0.3)))
        return seconds_of_a_step(kept[key], about)

    for line in sys.stdin:
        name, precision, about, way = line.split()
        try:
            print(measured(name, precision, float(about), way), flush=True)
        except Exception as failure:  # what PyTorch raises has no common base; bench/gpu shows it
            print("error:", str(failure).replace("\n", " ")[:300], flush=True)


def answer_all(why):
    for _ in sys.stdin:
        print("error:", why, flush=True)


if __name__ == "__main__":
    main()
