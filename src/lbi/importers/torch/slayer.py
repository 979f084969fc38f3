"""Import of SLAYER (lava-dl) CUBA blocks as integer networks: their forward pass is the chip's arithmetic.

Weights are the results of the block's ``pre_hook_fx`` (even integers, steps of 2/64 in float), decays are its
12-bit values, and the threshold is its truncated mantissa. The one-step shift that each block adds to its output is
the chip's own latency, which an aligned run does not show. Blocks are only read: lava-dl's own export loses
masks under weight norm and changes the model. Source: lava-dl 0.6.0 ``slayer/block/base.py``, ``neuron/cuba.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import identity
from torch import nn

from lbi.errors import InputError, Problems, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import numbers, proof, recording
from lbi.importers.torch.attempt import traced
from lbi.importers.torch.copying import copy_to_run
from lbi.importers.torch.group import NotThisWay
from lbi.importers.torch.layer import Layer, Neurons, Outputs
from lbi.importers.torch.output import READOUT, read_at
from lbi.importers.torch.reading import signal_of
from lbi.importers.torch.running import sites
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.ways import WAYS, random_input
from lbi.importers.torch.weighted import Sums
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, num_weight_bits
from lbi.network.graph import INPUT, Readout
from lbi.network.neurons import FixedCubaLif
from lbi.quantization.to_integers import sign_mode_of
from lbi.simulation import oracle

COMPLEX = Rule("complex", "real ones", "use a CUBA block")
OFF_GRID = Rule(
    "weights-float", "pre_hook_fx=neuron.quantize_8bit", "train the block with its default pre_hook_fx"
)
NORM = Rule("norm", "none", "train without norm")
GRADED = Rule("graded-spikes", "binary spikes", "train with graded_spike=False")
DECAY_PER_NEURON = Rule("mixed-decays", "one per block", "train with shared_param=True")

CUBA = "lava.lib.dl.slayer.block.cuba"
BLOCKS = ("Dense", "Recurrent")
"""Supported classes of ``CUBA``; Flatten only changes the shape."""

KNOWN = "cuba.Dense, cuba.Recurrent, cuba.Flatten"

UNKNOWN = Rule("unknown-module", KNOWN, "replace it, or export it with lava-dl and read the .net")
SHAPE = Rule("shape-mismatch", "{expected}", "check the input's shape and the blocks' sizes")
OUTPUT_DELAY = Rule("output-delay", "none: nothing follows that could be late", "build it with delay=False")
NO_NEURONS = Rule("no-neurons", KNOWN, "add one")
NOT_A_CHAIN = Rule(
    "not-a-chain",
    "the spikes of the block before, all of them in their order",
    "build the model as a chain of blocks",
)
NOT_AS_IT_RUNS = Rule(
    "not-as-it-runs",
    "what the network read from it does",
    "use lava-dl's blocks as they are, with binary spikes",
)


def _unread(_module: Any, _signal: Signal, _layer: Layer) -> None:
    raise AssertionError("blocks are read as a chain")


NEURONS = Neurons(
    _unread,
    split=lambda module, result: Outputs(result[0] if isinstance(result, tuple) else result, {}),
    time_axis=lambda module: 2,
    reset=lambda module: None,
)


def block_of(module: Any) -> Neurons | None:
    """The kind of a SLAYER block with neurons, including unsupported ones; None for other modules.

    Args:
        module: a torch module.

    Returns:
        The kind.
    """
    found = type(module).__module__.startswith("lava.lib.dl.slayer.block.")
    return (
        NEURONS
        if found and type(module).__name__ not in ("Flatten",) and "forward" not in vars(module)
        else None
    )


def from_slayer(model: nn.Module, input_shape: tuple[int, ...]) -> FixedNetwork:
    """The integer network of a model of SLAYER blocks, traced and proven.

    Args:
        model: the model, which is not changed.
        input_shape: shape of one sample at one step, without batch and time.

    Returns:
        The network, for ``loihi2``, with the blocks' own integers.

    Raises:
        InputError: as ``from_torch``: naming everything that cannot be imported exactly, or a neuron and step at which the
            network and the model differ.
    """
    way = next(way for way in WAYS if way.name == "all steps, time last")
    copy = copy_to_run(model, widen=False)  # SLAYER's dynamics are exact in float32
    places = sites(copy, block_of)
    unknown = Problems()
    for site in places:
        UNKNOWN.check(
            unknown,
            _is_known(site.module),
            f"block {site.path!r}",
            f"{type(site.module).__module__}.{type(site.module).__name__} cannot be taken over",
        )
    try:
        tracing, outputs, *_ = traced(copy, places, input_shape, way, widen=False)
    except NotThisWay as refusal:
        raise InputError(*unknown, refusal.problem) from refusal
    problems = Problems([*unknown, *tracing.problems])
    numbers.note_used(
        (tracing, outputs),
        lambda others: traced(copy, places, input_shape, way, widen=False, substitutes=others)[:2],
        problems,
    )
    _check_chain(tracing, problems)
    read = read_at(tracing, outputs, problems)
    if isinstance(read, Sums):
        READOUT.check(problems, False, read.where, "holds weighted sums of spikes")
    elif read is not None and read.group is not tracing.groups[-1]:
        found = f"is that of {read.group.where}, which is not the last"
        READOUT.check(problems, False, "the model's output", found)
    try:
        network = from_blocks([(group.site.path, group.site.module) for group in tracing.groups], input_shape)
    except InputError as error:
        known = {str(problem) for problem in problems}
        Problems([*problems, *(problem for problem in error.problems if str(problem) not in known)]).raise_as(
            InputError
        )
    problems.raise_as(InputError)
    try:
        _prove(copy, tracing, network)
    except (
        NotThisWay
    ) as refusal:  # the trace was complete: the model fails on several samples or on more steps
        raise InputError(refusal.problem) from refusal
    return network


def _is_known(module: Any) -> bool:
    cuba = sys.modules.get(CUBA)
    return any(type(module) is getattr(cuba, name, None) for name in BLOCKS)


def _check_chain(tracing: Tracing, problems: Problems) -> None:
    """Note all blocks whose input is not exactly the spikes of the block before."""
    source = INPUT
    for group in tracing.groups:
        terms = signal_of(group, problems).terms
        n = prod(group.in_shape)
        alone = len(terms) == 1 and terms[0].source == source and terms[0].delay == 0
        alone = alone and terms[0].matrix.shape == (n, n) and (terms[0].matrix != identity(n)).nnz == 0
        NOT_A_CHAIN.check(problems, alone or group.lost, group.where, "takes in something else")
        source = group.name


def _prove(model: nn.Module, tracing: Tracing, network: FixedNetwork) -> None:
    """Every block's spikes in the model and in the network, one step later per block that shifts them."""
    way = next(way for way in WAYS if way.name == "all steps, time last")
    n_samples, n_steps = proof.FEWEST_SAMPLES + 1, proof.N_STEPS
    spikes = random_input(
        network.input_shape, torch.tensor(proof.RATES[:n_samples]), n_steps, 1, static=False
    )
    places = sites(model, block_of)
    found = recording.record(model, places, tracing, way, spikes.float(), widen=False)
    proof.check_taken(tracing, found, n_steps)
    theirs = found.outputs
    flat = spikes.reshape(n_samples, n_steps, -1).numpy().astype(np.uint8)
    recorded = oracle.simulate(network, flat, record=("spikes",)).recorded
    shift = 0
    for group, population in zip(tracing.groups, network.populations, strict=True):
        block = group.site.module
        shift += int(bool(block.delay_shift))
        late = np.broadcast_to(_delay(block), (population.n,)) + shift
        for neuron in range(population.n):
            steps = n_steps - int(late[neuron])
            other = theirs[group.name][:, late[neuron] :, neuron]
            ours = recorded[population.name, "spikes"][:, :steps, neuron]
            if np.any(other != ours):
                sample, step = (int(index) for index in np.argwhere(other != ours)[0])
                text = f"neuron {neuron} differs at step {step} of sample {sample}"
                raise InputError(NOT_AS_IT_RUNS.broken(f"block {group.site.path!r}", text))


def from_blocks(blocks: Sequence[tuple[str, Any]], input_shape: Sequence[int]) -> FixedNetwork:
    """The network of a chain of blocks.

    A block's axonal delays become those of the synapses of the next one. Source: lava-dl 0.6.0, ``slayer/block/base.py``.

    Args:
        blocks: (path, block) pairs in order.
        input_shape: shape of one sample at one step, without batch and time.

    Returns:
        The network, for ``loihi2``: a population per block; spikes of the last one are counted.

    Raises:
        InputError: naming all blocks of another class, with complex weights, weights between the chip's integers, a normalized
            current, graded spikes or decays per neuron, or with more or fewer inputs than the block before has neurons; if the
            last block delays its output; if there is no block.
    """
    problems = Problems()
    populations: list[FixedPopulation] = []
    projections: list[FixedProjection] = []
    source, late = INPUT, np.zeros(1, dtype=np.int64)
    n_source: int | None = prod(int(size) for size in input_shape)
    for path, block in blocks:
        where = f"block {path!r}"
        if not _is_known(block):
            found = f"{type(block).__module__}.{type(block).__name__} cannot be taken over"
            UNKNOWN.check(problems, False, where, found)
            n_source = None
            continue
        try:
            forward, recurrent = _matrices(block, where)
            neuron = _neuron(block.neuron, forward.shape[0], where)
        except InputError as error:
            problems.take(error)
            n_source = None  # the next block's inputs are not known
            continue
        name = f"block{path}" if path[:1].isdigit() else path
        if n_source is None:
            n_source = forward.shape[0]
            continue
        if not SHAPE.check(
            problems, forward.shape[1] == n_source, where, f"{forward.shape[1]} inputs", expected=n_source
        ):
            continue
        delay = np.broadcast_to(late, (n_source,))[forward.indices]
        projections.append(_projection(f"{source}_to_{name}", source, name, forward, delay))
        if recurrent is not None:
            projections.append(_projection(f"{name}_to_{name}", name, name, recurrent, np.zeros(1, np.int64)))
        n = forward.shape[0]
        populations.append(
            FixedPopulation(name, (n,), neuron, float(block.neuron.w_scale), len(populations) + 1)
        )
        source, n_source, late = name, n, _delay(block)
    OUTPUT_DELAY.check(
        problems, not np.any(late), "the last block", f"delays its output by up to {late.max()} steps"
    )
    problems.raise_as(InputError)
    if not populations:
        raise InputError(NO_NEURONS.broken("model", "no block with neurons"))
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
    """The weights of a synapse in integers, as the block computes with them."""
    if getattr(synapse, "complex", False):
        raise InputError(COMPLEX.broken(where, "complex weights"))
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
        raise InputError(OFF_GRID.broken(where, "weights between the chip's integers"))
    return CsrMatrix.from_dense(integers.astype(np.int16))


def _neuron(neuron: Any, n: int, where: str) -> FixedCubaLif:
    problems = Problems()
    NORM.check(problems, neuron.norm is None, where, f"normalizes its current ({type(neuron.norm).__name__})")
    GRADED.check(problems, not neuron.graded_spike, where, "graded spikes")
    du, dv = neuron.cx_current_decay, neuron.cx_voltage_decay
    shared = np.size(du) == 1 and np.size(dv) == 1
    DECAY_PER_NEURON.check(problems, shared, where, "a decay per neuron")
    problems.raise_as(InputError)
    threshold = int(neuron.device_params["vThMant"])
    return FixedCubaLif(int(du) - 1, int(dv), threshold, np.zeros(n, dtype=np.int32))


def _delay(block: Any) -> NDArray[np.int64]:
    """Axonal delays in steps, in addition to the chip's own step."""
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
