"""Time of one optimizer step: AdaBreg against torch's Adam and the package bregman-learning.

The model is 13 layers of SIZE × SIZE weights with biases, float32. Every optimizer runs in processes of its own, as in a
training: beside another one it would find neither its tensors in the caches nor, for a while, a free core, since threads of
OpenMP spin after their work. The processes of all optimizers take turns.

    python benchmarks/optimizers.py [--threads 2] [--size 439 ...] [--rounds 5] [--device cpu|cuda]

Exit code 1 if AdaBreg takes more than 1.5 times as long as ``torch.optim.Adam(fused=True)``, or more
than a quarter of what bregman-learning takes, at any size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from lbi.train import L1, AdaBreg, LinBreg

LAYERS, WARM_UP, LASTING = 13, 20, 0.6
"""Layers of the model, steps that are not counted, and seconds of steps per process."""

ADAM, OURS, PEER = "torch Adam, fused", "lbi AdaBreg", "bregman-learning AdaBreg"
NAMES = (
    ADAM,
    "torch Adam, foreach",
    OURS,
    "lbi AdaBreg, foreach",
    "lbi AdaBreg, no regularizer",
    "lbi LinBreg, momentum 0.9",
    PEER,
)


def parameters(device: str, size: int = 439) -> list[nn.Parameter]:
    """The model's tensors, with gradients."""
    torch.manual_seed(0)
    tensors = [t for _ in range(LAYERS) for t in (0.05 * torch.randn(size, size), torch.randn(size))]
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


def made(name: str, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of that name."""
    if name == ADAM:
        return torch.optim.Adam(params, fused=True)
    if name == "torch Adam, foreach":
        return torch.optim.Adam(params, foreach=True)
    if name == OURS:
        return AdaBreg(groups(params, L1(0.05)))
    if name == "lbi AdaBreg, foreach":
        return AdaBreg(groups(params, L1(0.05)), fused=False)
    if name == "lbi AdaBreg, no regularizer":
        return AdaBreg(params)
    if name == "lbi LinBreg, momentum 0.9":
        return LinBreg(groups(params, L1(0.05)), momentum=0.9)
    import bregman

    return bregman.AdaBreg(groups(params, bregman.L1(0.05)))


def measured(name: str, size: int, device: str, threads: int) -> list[float]:
    """Seconds of each step, in this process."""
    torch.set_num_threads(threads)
    optimizer, times, end = made(name, parameters(device, size)), [], 0.0
    while len(times) <= WARM_UP or time.perf_counter() < end:
        if len(times) == WARM_UP:
            end = time.perf_counter() + LASTING
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


def compared(size: int, options: argparse.Namespace) -> bool:
    """Measure and print all optimizers at one size; True if AdaBreg keeps its limits."""
    names = [name for name in NAMES if name != PEER or importlib.util.find_spec("bregman")]
    if PEER not in names:
        print("bregman-learning is not installed and is left out", file=sys.stderr)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            own = ["--child", name, "--size", str(size), "--device", options.device]
            command = [sys.executable, __file__, *own, "--threads", str(options.threads)]
            times[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    count = LAYERS * (size * size + size)
    print(f"{count:,} parameters in {2 * LAYERS} tensors, {options.device}, {options.threads} threads")
    least = {name: [min(steps) for steps in processes] for name, processes in times.items()}
    usual = {name: [statistics.median(steps) for steps in processes] for name, processes in times.items()}
    for name in names:
        best, median = min(least[name]), statistics.median(usual[name])
        print(
            f"{name:28s} shortest {1e3 * best:7.3f} ms, {best / min(least[ADAM]):5.2f} × Adam"
            f"   median {1e3 * median:7.3f} ms, {median / statistics.median(usual[ADAM]):5.2f} ×"
            f"   shortest of each process {' '.join(f'{1e3 * x:.3f}' for x in least[name])}"
        )
    ours = min(least[OURS])
    return ours <= 1.5 * min(least[ADAM]) and ours <= min(least.get(PEER, [float("inf")])) / 4


def main() -> int:
    """Measure and print; returns 1 if a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--size", type=int, nargs="+", default=[128, 256, 439, 1024], help="rows of a layer's weights"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes of each optimizer")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child, options.size[0], options.device, options.threads)))
        return 0
    kept = [compared(size, options) for size in options.size]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
