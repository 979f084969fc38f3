"""Time of one layer alone, all steps, forward and backward: ``lbi.train.layers.scan.scan`` on random input.

    python benchmarks/scans.py --device cuda
    python benchmarks/scans.py --device cpu --samples 16 --steps 100

The least of some passes, with the GPU waited for around each. On a GPU the kernels are compared with plain PyTorch first, as
``lbi-train`` does. Input is normal, so that a few percent of the neurons fire; the table says how many.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lbi.train.layers.scan import scan
from lbi.train.neurons import COMPILED
from lbi.train.session.gpu_check import enable

KEPT = {"atrlif": (0.4, 0.98, 0.997, 0.4), "cuba_lif": (0.5, 0.9), "integrator": (0.5, 0.95)}
"""Neuron model → factors kept per step."""

LAYERS = (
    ("cuba_lif", 256, "none"),
    ("integrator", 10, "none"),
    ("atrlif", 256, "next step"),
    ("cuba_lif", 256, "next step"),
    ("atrlif", 256, "15 to 62"),
    ("atrlif", 512, "15 to 62"),
)
"""Neuron model, neurons, and when spikes arrive at the same layer."""


def layer(
    name: str, n: int, recurrence: str, shape: tuple[int, int], device: torch.device
) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that runs all steps and returns spikes and voltages."""
    model, generator = COMPILED[name], torch.Generator(device).manual_seed(1)
    a = (torch.randn(*shape, n, device=device, generator=generator) * 0.3).requires_grad_()
    weights = None
    if recurrence != "none":
        weights = (torch.randn(n, n, device=device, generator=generator) * 0.05).requires_grad_()
    delays = 15 + torch.arange(n, device=device) % 48 if recurrence == "15 to 62" else None
    levels = [1.5 if level == "threshold" else 0.3 for level in model.levels]
    neuron = [torch.full((n,), float(value), device=device) for value in (*KEPT[name], *levels, 0.0)]
    return lambda: scan(model, a, weights, neuron, "fast_sigmoid", 16.0, delays=delays)


def measure(
    run: Callable[[], tuple[Tensor, Tensor]], spikes: bool, rounds: int
) -> tuple[float, float, float]:
    """Least times forward and backward in ms, and the share of neurons that fire per step."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times, rate = [], 0.0
    for _ in range(rounds + 1):  # the first compiles
        wait()
        started = time.perf_counter()
        result = run()
        wait()
        between = time.perf_counter()
        result[0 if spikes else 1].sum().backward()
        wait()
        times.append((between - started, time.perf_counter() - between))
        rate = float(result[0].detach().mean())
    forward, backward = (1000 * min(column) for column in zip(*times[1:], strict=True))
    return forward, backward, rate


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--steps", type=int, default=784)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    device, shape = torch.device(options.device), (options.samples, options.steps)
    if device.type == "cuda":
        enable(device)
    print("| neuron | samples × steps × neurons | spikes arrive | firing | forward: ms | backward: ms |")
    print("|---|---|---|---|---|---|")
    for name, n, recurrence in LAYERS:
        run = layer(name, n, recurrence, shape, device)
        forward, backward, rate = measure(run, name != "integrator", options.rounds)
        size = f"{shape[0]} × {shape[1]} × {n}"
        print(f"| {name} | {size} | {recurrence} | {rate:.1%} | {forward:.1f} | {backward:.1f} |", flush=True)


if __name__ == "__main__":
    main()
