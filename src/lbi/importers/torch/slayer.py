"""SLAYER (lava-dl) CUBA blocks as an integer network: their forward pass already is the chip's arithmetic.

Weights are what the block's ``pre_hook_fx`` makes of them (even integers, steps of 2/64 in float), decays its
12-bit values, the threshold its truncated mantissa. The one-step shift that each block adds to its output is
the chip's own latency, which an aligned run does not show. Blocks are only read: lava-dl's own export loses
masks under weight norm and changes the model. Source: lava-dl 0.6.0 ``slayer/block/base.py``, ``neuron/cuba.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lbi.errors import InputError, Problem, Problems
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, num_weight_bits
from lbi.network.graph import INPUT, Readout
from lbi.network.neurons import FixedCubaLif
from lbi.quantization.to_integers import sign_mode_of

KNOWN = "cuba.Input, cuba.Dense, cuba.Recurrent, cuba.Flatten"


def from_blocks(layers: Sequence[tuple[str, Any]], input_shape: Sequence[int]) -> FixedNetwork:
    """The network of a chain of (path, block). Raises InputError naming every block that cannot be taken over."""
    problems = Problems()
    populations: list[FixedPopulation] = []
    projections: list[FixedProjection] = []
    source, n_source, late = INPUT, prod(int(size) for size in input_shape), np.zeros(1, dtype=np.int64)
    for path, block in layers:
        where, kind = f"block {path!r}", type(block).__name__
        if kind == "Flatten":
            continue
        if kind not in ("Dense", "Recurrent") or not type(block).__module__.endswith("block.cuba"):
            problems.add(
                "unknown-module",
                where,
                f"{type(block).__module__}.{kind} cannot be taken over",
                KNOWN,
                "replace it, or export it with lava-dl and read the .net",
            )
            continue
        try:
            forward, recurrent = _matrices(block, where)
            neuron = _neuron(block.neuron, forward.shape[0], where)
        except InputError as error:
            problems.take(error)
            continue
        name = f"block{path}" if path[:1].isdigit() else path
        if not problems.check(
            forward.shape[1] == n_source, "shape-mismatch", where, f"{forward.shape[1]} inputs", f"{n_source}"
        ):
            continue
        delay = np.broadcast_to(late, (n_source,))[forward.indices]
        projections.append(_projection(f"{source}_to_{name}", source, name, forward, delay))
        if recurrent is not None:
            projections.append(_projection(f"{name}_to_{name}", name, name, recurrent, np.zeros(1, np.int64)))
        populations.append(
            FixedPopulation(
                name, (forward.shape[0],), neuron, float(block.neuron.w_scale), len(populations) + 1
            )
        )
        source, n_source, late = name, forward.shape[0], _delay(block)
    problems.check(
        not np.any(late),
        "output-delay",
        "the last block",
        f"delays its output by up to {late.max()} steps",
        "none: nothing follows that could be late",
        "build it with delay=False",
    )
    problems.raise_as(InputError)
    if not populations:
        raise InputError(Problem("no-neurons", "model", "no block with neurons", KNOWN))
    return FixedNetwork(
        tuple(int(size) for size in input_shape),
        tuple(populations),
        tuple(projections),
        Readout.of(populations[-1]),
        "loihi2",
        {"source": "slayer"},
    )


def _matrices(block: Any, where: str) -> tuple[CsrMatrix, CsrMatrix | None]:
    if hasattr(block, "recurrent_synapse"):
        return _matrix(block.input_synapse, None, where), _matrix(block.recurrent_synapse, None, where)
    return _matrix(block.synapse, getattr(block, "mask", None), where), None


def _matrix(synapse: Any, mask: Any, where: str) -> CsrMatrix:
    """A synapse's weights as the block computes with them, in integers."""
    if getattr(synapse, "complex", False):
        raise InputError(Problem("complex", where, "complex weights", "real ones", "use a CUBA block"))
    weight: Any = None
    for hook in synapse._forward_pre_hooks.values():
        if hasattr(hook, "compute_weight"):
            weight = hook.compute_weight(synapse)
    with torch.no_grad():
        weight = synapse.weight if weight is None else weight
        if mask is not None:
            weight = weight * mask
        quantized = weight * 64 if synapse.pre_hook_fx is None else synapse.pre_hook_fx(weight, descale=True)
    values = quantized.detach().cpu().numpy().reshape(weight.shape[:2])
    integers = np.rint(values)
    if not np.all(np.isfinite(values)) or np.any(np.abs(values - integers) > 1e-3):
        raise InputError(
            Problem(
                "weights-float",
                where,
                "weights between the chip's integers",
                "pre_hook_fx=neuron.quantize_8bit",
                "train the block with its default pre_hook_fx",
            )
        )
    return CsrMatrix.from_dense(integers.astype(np.int16))


def _neuron(neuron: Any, n: int, where: str) -> FixedCubaLif:
    problems = Problems()
    problems.check(
        neuron.norm is None,
        "norm",
        where,
        f"normalizes its current ({type(neuron.norm).__name__})",
        "none",
        "train without norm",
    )
    problems.check(
        not neuron.graded_spike, "graded-spikes", where, "graded spikes", "binary ones", "train with them"
    )
    du, dv = neuron.cx_current_decay, neuron.cx_voltage_decay
    shared = np.size(du) == 1 and np.size(dv) == 1
    problems.check(
        shared, "mixed-decays", where, "a decay per neuron", "one per block", "train with shared_param=True"
    )
    problems.raise_as(InputError)
    threshold = int(neuron.device_params["vThMant"])
    return FixedCubaLif(int(du) - 1, int(dv), threshold, np.zeros(n, dtype=np.int32))


def _delay(block: Any) -> NDArray[np.int64]:
    """Steps by which each neuron's spikes leave later (axonal delay), besides the chip's own."""
    if block.delay is None:
        return np.zeros(1, dtype=np.int64)
    steps: NDArray[np.int64] = np.floor(block.delay.delay.detach().cpu().numpy()).astype(np.int64).reshape(-1)
    return steps


def _projection(
    name: str, source: str, target: str, weights: CsrMatrix, delay: NDArray[np.int64]
) -> FixedProjection:
    mode = sign_mode_of(weights.data.astype(np.float64))
    late: Any = delay.astype(np.uint8) if np.any(delay) else 0
    return FixedProjection(
        name, source, target, weights, mode, num_weight_bits=num_weight_bits(weights.data, mode), delay=late
    )
