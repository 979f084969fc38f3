"""Time of one optimizer step: AdaBreg against torch's Adam and the package bregman-learning.

The model is 13 layers of 439 × 439 weights with biases: 26 tensors, 2,505,373 weights and 5,707 biases in all,
float32. All optimizers take turns in one process, in blocks of a few steps, so that other load affects them
equally. The minimum over all blocks counts; the median is shown beside it.

    python benchmarks/optimizers.py [--threads 2] [--seconds 20] [--device cpu|cuda]

Exit code 1 if AdaBreg takes more than 1.5 times as long as ``torch.optim.Adam(fused=True)``, or more
than a quarter of what bregman-learning takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from lbi.train import L1, AdaBreg, LinBreg

SIZE, LAYERS, BLOCK = 439, 13, 6


def parameters(device: str) -> list[nn.Parameter]:
    """The model's tensors, with gradients."""
    torch.manual_seed(0)
    tensors = [t for _ in range(LAYERS) for t in (0.05 * torch.randn(SIZE, SIZE), torch.randn(SIZE))]
    params = [nn.Parameter(t.to(device)) for t in tensors]
    for p in params:
        p.grad = 0.01 * torch.randn_like(p)
    return params


def groups(params: list[nn.Parameter], reg: object) -> list[dict[str, object]]:
    """Weights under the regularizer, biases under the optimizer's default."""
    return [
        {"params": [p for p in params if p.ndim > 1], "reg": reg},
        {"params": [p for p in params if p.ndim == 1]},
    ]


def contenders(device: str) -> dict[str, torch.optim.Optimizer]:
    """The optimizers under test, each with its own parameters."""
    found: dict[str, torch.optim.Optimizer] = {
        "torch Adam, fused": torch.optim.Adam(parameters(device), fused=True),
        "torch Adam, foreach": torch.optim.Adam(parameters(device), foreach=True),
        "lbi AdaBreg": AdaBreg(groups(parameters(device), L1(0.05))),
        "lbi AdaBreg, foreach": AdaBreg(groups(parameters(device), L1(0.05)), fused=False),
        "lbi AdaBreg, no regularizer": AdaBreg(parameters(device)),
        "lbi LinBreg, momentum 0.9": LinBreg(groups(parameters(device), L1(0.05)), momentum=0.9),
    }
    try:
        import bregman
    except ImportError:
        print("bregman-learning is not installed and is left out", file=sys.stderr)
    else:
        found["bregman-learning AdaBreg"] = bregman.AdaBreg(groups(parameters(device), bregman.L1(0.05)))
    return found


def time_block(step: Callable[[], object], device: str) -> list[float]:
    """Seconds of each of several consecutive steps, after one warm-up step."""
    times = []
    for _ in range(BLOCK + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> int:
    """Measure and print; returns 1 if a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    optimizers = contenders(options.device)
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for optimizer in optimizers.values():
        optimizer.step()
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        for name, optimizer in optimizers.items():
            times[name] += time_block(optimizer.step, options.device)
    count = sum(p.numel() for p in parameters("cpu"))
    print(f"{count:,} parameters in {2 * LAYERS} tensors, {options.device}, {options.threads} threads")
    least = {name: min(steps) for name, steps in times.items()}
    adam = least["torch Adam, fused"]
    for name, best in least.items():
        print(
            f"{name:28s} {1e3 * best:8.3f} ms   median {1e3 * statistics.median(times[name]):8.3f} ms"
            f"   {best / adam:6.2f} × Adam"
        )
    ours = least["lbi AdaBreg"]
    holds = ours <= 1.5 * adam and ours <= least.get("bregman-learning AdaBreg", float("inf")) / 4
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
