"""Comparison of the Triton kernels with plain PyTorch on a GPU: once per machine, driver, version and kernel source.

The comparison runs in a process of its own, so that a kernel that hangs or breaks the driver's context costs the training
nothing but the kernels. Inputs, decays and weights are small multiples of powers of 2: float32 holds every sum of the scan
exactly, in any order, so spikes and voltages must be equal bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lbi.errors import InputError, LbiWarning
from lbi.system.atomic import atomic_write
from lbi.system.cache import cache_folder
from lbi.train import gpu
from lbi.train.layers.surrogate import SURROGATES
from lbi.train.neurons import COMPILED
from lbi.train.optim.optimizers import AdaBreg, LinBreg
from lbi.train.optim.regularizers import L1

TIMEOUT_S = 300.0
"""Time limit of the comparison; compiling takes most of it."""

GRADIENT_TOLERANCE = 1e-4
"""Largest difference of gradients, relative to the largest: sums of some hundred float32 terms, and a division."""

TF32_TOLERANCE = 1e-3
"""The same where spikes take several steps to arrive: sums of products of TensorFloat-32 numbers, which have 11 bits."""

SHAPE = (19, 12, 300)
"""Samples, steps, neurons of the scans: more samples and neurons than a program computes at a time."""

LONG = 40
"""Steps where the shortest delay does not leave fewer to compare."""

WIRINGS = {
    "feedforward": None,
    "recurrent": None,
    "delays from 0": 0,
    "delays from 3": 3,
    "delays from 15": 15,
}
"""What scans are compared with → the shortest recurrent delay."""

STEP_TOLERANCE = 1e-5
"""The same of weights after five optimizer steps, whose roots and divisions may be rounded otherwise."""


class GpuWarning(LbiWarning):
    """Warning that the GPU's own kernels are not used."""


def enable(device: torch.device) -> bool:
    """Allow the Triton kernels if they equal plain PyTorch on this GPU; otherwise warn in one line.

    Args:
        device: the GPU.

    Returns:
        True if the kernels may be used.
    """
    gpu.allow(False)
    found = "triton is not installed" if find_spec("triton") is None else _remembered(device)
    if found:
        warnings.warn(
            f"training with plain PyTorch on the GPU, without Triton kernels: {found}",
            GpuWarning,
            stacklevel=2,
        )
    gpu.allow(not found)
    return not found


def _remembered(device: torch.device) -> str:
    """The result of ``compare`` for this machine, from the cache or a new process; empty if all are equal."""
    key = key_of(device)
    path = cache_folder() / f"gpu-kernels-{key[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] == key and isinstance(content["difference"], str):
            return content["difference"]
    found, final = _in_a_process(device)
    if final:
        with suppress(OSError, InputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                new.write_text(json.dumps({"key": key, "difference": found}), encoding="utf-8")
    return found


def _in_a_process(device: torch.device) -> tuple[str, bool]:
    """The difference found by another process, and whether the next run need not look again."""
    command = [sys.executable, "-m", "lbi.train.session.gpu_check", str(device)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"their check did not end ({type(error).__name__})", False
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["without a message"])[-1]
        return f"their check failed ({last[:200]})", False
    return done.stdout.strip(), True


def key_of(device: torch.device) -> str:
    """A digest of all that a comparison depends on: machine, GPU, driver, versions, and the source of the kernels.

    Args:
        device: the GPU.

    Returns:
        The SHA-256 as 64 hexadecimal digits.
    """
    parts: list[str] = [platform.node(), torch.__version__, str(torch.version.cuda)]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        parts += [
            properties.name,
            f"{properties.major}.{properties.minor}",
            str(getattr(torch._C, "_cuda_getDriverVersion", int)()),
        ]
    if find_spec("triton") is not None:
        parts.append(str(import_module("triton").__version__))
    folder = Path(gpu.__file__).parent
    sources = [*sorted(folder.glob("*/*_cuda.py")), folder / "layers" / "scan.py", Path(__file__)]
    digest = hashlib.sha256("\n".join(parts).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def compare(device: torch.device) -> str:
    """The first difference between Triton kernels and plain PyTorch.

    Args:
        device: where both run.

    Returns:
        What differs; empty if nothing does.
    """
    for name, model in COMPILED.items():
        if model.kernels is not None and model.kernels.cuda:
            wirings = WIRINGS if model.spikes else ("feedforward",)
            for surrogate, wiring in product(SURROGATES, wirings):
                if found := _scan_difference(name, surrogate, wiring, device):
                    return f"{name}, {surrogate}, {wiring}: {found}"
    for make in (AdaBreg, LinBreg):
        if found := _step_difference(make, device):
            return f"{make.__name__}: {found}"
    return ""


def _scan_difference(name: str, surrogate: str, wiring: str, device: torch.device) -> str:
    n_samples, n_steps, n = SHAPE
    first = WIRINGS[wiring]
    if first is not None and first >= n_steps:
        n_steps = LONG
    generator = torch.Generator().manual_seed(7)

    def grid(*shape: int, most: int) -> Tensor:
        return (torch.randint(-most, most + 1, shape, generator=generator) / 64.0).to(device).requires_grad_()

    model = COMPILED[name]
    a = grid(n_samples, n_steps, n, most=160)
    w = None if wiring == "feedforward" else grid(n, n, most=6)
    delays = None if first is None else first + torch.arange(n, device=device) % (n_steps + 2 - first)
    share = 1.0 if n_steps == LONG else 0.5  # halved in every step, numbers become too long for float32
    kept = [torch.full((n,), share, device=device, requires_grad=True) for _ in model.decays]
    levels = [
        torch.full((n,), 1.0 if level == "threshold" else 0.25, device=device) for level in model.levels
    ]
    neuron = [*kept, *levels, grid(n, most=16)]
    upstream = grid(2, n_samples, n_steps, n, most=64).detach()
    wanted = [a, *kept, neuron[-1], *([] if w is None else [w])]
    kernel = import_module("lbi.train.layers.scan_cuda").CudaScan.apply
    results = []
    for run in (
        kernel(model, surrogate, 4.0, delays, a, w, *neuron),
        model.reference(a, w, neuron, surrogate, 4.0, delays),
    ):
        loss = sum((weight * part).sum() for weight, part in zip(upstream, run, strict=True))
        results.append((run, torch.autograd.grad(loss, wanted)))
    (fused, fused_grads), (plain, plain_grads) = results
    for what, ours, theirs in zip(("spikes", "voltages"), fused, plain, strict=True):
        if not torch.equal(ours, theirs):
            return f"{int((ours != theirs).sum())} of {ours.numel()} {what} differ"
    tolerance = TF32_TOLERANCE if first else GRADIENT_TOLERANCE
    for ours, theirs in zip(fused_grads, plain_grads, strict=True):
        if not _close(ours, theirs, tolerance):
            return "gradients differ"
    return ""


def _step_difference(make: Any, device: torch.device) -> str:
    results = []
    for fused in (True, False):
        generator = torch.Generator().manual_seed(3)
        weights = [
            torch.randn(shape, generator=generator).to(device).requires_grad_()
            for shape in ((70, 41), (9, 3, 3, 3), (5,))
        ]
        optimizer = make([{"params": weights, "reg": L1(0.5)}], lr=0.01, fused=fused)
        for _ in range(5):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator).to(device)
            optimizer.step()
        results.append(weights)
    for ours, theirs in zip(*results, strict=True):
        if not _close(ours.detach(), theirs.detach(), STEP_TOLERANCE):
            return "weights differ after five steps"
    return ""


def _close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """True if no entry differs by more than ``tolerance`` times the largest; NaN is a difference."""
    largest = float(theirs.abs().max())
    return bool(((ours - theirs).abs() <= tolerance * largest).all())


if __name__ == "__main__":
    sys.stdout.write(compare(torch.device(sys.argv[1])))
