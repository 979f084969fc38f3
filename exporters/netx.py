"""``--target netx``: a Lava-DL ``.net`` (HDF5) that unmodified lava-dl 0.6.0 loads and runs spike for spike.

netx re-derives sign mode, exponent and bits of every layer from the integers in the file, and Lava derives
the sign mode once more; for some matrices the two disagree and values come out wrong. So the derivation is
repeated here, layer by layer, and a network that would not come out exactly is refused.
Source: lava-dl 0.6.0 ``netx/hdf5.py`` and ``netx/utils.py``, lava-nc 0.10.0 ``utils/weightutils.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problem, Problems
from lbi.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network import INPUT
from lbi.netx_weights import lava_reads, shift_left
from lbi.sparse import CsrMatrix

if TYPE_CHECKING:
    from lbi.job import ExportJob

TITLE = "Lava-DL netx file: a chain of dense and dense_rec layers"
SUFFIX = ".net"
TAKES = "fixed"

MODELS = ("cuba_lif", "integrator")
"""Neuron models that netx's CUBA neuron can be."""

NEVER = 1 << 17
"""Threshold of an integrator: shifted by 6, one more than a voltage can be."""

BIAS_EXPONENT = 6
"""netx gives every neuron this bias exponent; the file holds the mantissa alone."""

LONGEST_DELAY = 62
"""netx cuts longer ones."""

BLOCK_ELEMENTS = 1 << 23
"""Weights that are made dense at a time while writing."""


class Layer(NamedTuple):
    """One netx layer: a population, what feeds it, and its recurrence if it has one.

    delay, recurrent_delay: in netx's latencies, where every layer is one step behind the layer before
    """

    population: FixedPopulation
    forward: FixedProjection
    recurrent: FixedProjection | None
    delay: NDArray[np.int64]
    recurrent_delay: NDArray[np.int64]


def check(job: ExportJob) -> list[Problem]:
    """Every reason why netx cannot hold the network; empty if it can."""
    return check_network(job.fixed)


def export(job: ExportJob, path: Path) -> None:
    """Write the ``.net`` file. Raises InputError with every reason why it cannot be."""
    write(job.fixed, path)


def check_network(network: FixedNetwork) -> list[Problem]:
    """Every reason why netx cannot hold ``network``; empty if it can."""
    problems = Problems()
    for layer in _chain(network, problems):
        _check_neuron(layer.population, problems)
        _check_delays(layer, problems)
        _check_weights(layer, problems)
    return list(problems)


def write(network: FixedNetwork, path: Path) -> None:
    """Write ``network`` as ``.net``. Raises InputError with every reason why it cannot be."""
    import h5py

    Problems(check_network(network)).raise_as(InputError)
    layers = _chain(network, Problems())
    with h5py.File(path, "w", libver=("earliest", "v110"), track_order=True) as file:
        group = file.create_group("layer", track_order=True)
        _write_input(network, group.create_group("0", track_order=True))
        for index, layer in enumerate(layers, start=1):
            _write_layer(layer, group.create_group(str(index), track_order=True))


def current_decay(du: int) -> int:
    """``iDecay`` of the file for Lava's ``du``: netx subtracts one, Lava's neuron adds one again."""
    return du + 1


def _chain(network: FixedNetwork, problems: Problems) -> list[Layer]:
    """The layers in order; notes everything that is not a chain."""
    order = [INPUT, *(population.name for population in network.populations)]
    place = {name: index for index, name in enumerate(order)}
    forward: dict[str, FixedProjection] = {}
    recurrent: dict[str, FixedProjection] = {}
    allowed = "one projection from the layer before, and one from the layer to itself"
    remedy = "use --target lava or loihi, which take any graph"
    for projection in network.projections:
        step = place[projection.target] - place[projection.source]
        slot = {1: forward, 0: recurrent}.get(step)
        where = f"projection {projection.name!r}"
        if slot is None:
            problems.add("not-a-chain", where, f"leads from {projection.source!r} to {projection.target!r}",
                         allowed, remedy)  # fmt: skip
        elif projection.target in slot:
            problems.add("not-a-chain", where, f"a second one into {projection.target!r}", allowed, remedy)
        elif projection.weights.nnz == 0 and step == 1:
            problems.add("no-weights", where, "no weight is left; netx cannot load an all-zero layer",
                         "at least one weight", "train with less regularization, or use --target lava")  # fmt: skip
        elif projection.weights.nnz:
            slot[projection.target] = projection
    for name in order[1:]:
        if name not in forward and not any(name == projection.target for projection in network.projections):
            problems.add("not-a-chain", f"population {name!r}", "nothing leads into it", allowed, remedy)
    readout = network.readout.population
    problems.check(readout == order[-1], "readout-inside", f"readout {readout!r}", "is not the last layer",
                   repr(order[-1]), remedy)  # fmt: skip
    return [
        _layer(network, population, forward[population.name], recurrent.get(population.name))
        for population in network.populations
        if population.name in forward
    ]


def _layer(
    network: FixedNetwork,
    population: FixedPopulation,
    forward: FixedProjection,
    recurrent: FixedProjection | None,
) -> Layer:
    """What a spike's lag in the trained network's time is, as netx's delay (one step passes anyway)."""
    delay = np.asarray(network.lag(forward))
    back = np.zeros((), dtype=np.int64) if recurrent is None else np.asarray(network.lag(recurrent)) - 1
    return Layer(population, forward, recurrent, delay, back)


def _check_neuron(population: FixedPopulation, problems: Problems) -> None:
    where, neuron = f"population {population.name!r}", population.neuron
    if not problems.check(
        neuron.model in MODELS, "neuron-model", where, f"{neuron.model!r}", ", ".join(map(repr, MODELS)),
        "use --target lava",
    ):  # fmt: skip
        return
    n_off = int(np.count_nonzero(neuron.bias % (1 << BIAS_EXPONENT)))
    problems.check(
        n_off == 0, "bias-grid", where, f"{n_off} biases between netx's steps",
        f"multiples of {1 << BIAS_EXPONENT} state units: netx fixes the exponent at {BIAS_EXPONENT}",
        "use --target lava or loihi, which keep the bias as it is",
    )  # fmt: skip


def _check_delays(layer: Layer, problems: Problems) -> None:
    where = f"projection {layer.forward.name!r}"
    longest = int(np.max(layer.delay, initial=0))
    problems.check(
        longest <= LONGEST_DELAY, "delay-range", where, f"a delay of {longest} steps in netx",
        f"up to {LONGEST_DELAY}", "use --target lava or loihi",
    )  # fmt: skip
    if layer.recurrent is None:
        return
    for projection, delay in ((layer.forward, layer.delay), (layer.recurrent, layer.recurrent_delay)):
        problems.check(
            not np.any(delay), "delay-in-recurrent-layer", f"projection {projection.name!r}",
            f"a delay of up to {int(np.max(delay, initial=0))} in a recurrent layer",
            "none: netx uses one delay matrix for both weights", "use --target lava or loihi",
        )  # fmt: skip


def _check_weights(layer: Layer, problems: Problems) -> None:
    stored: dict[str, NDArray[np.int64]] = {}
    projections = [p for p in (layer.forward, layer.recurrent) if p is not None]
    for projection in projections:
        values = _file_values(projection)
        where = f"projection {projection.name!r}"
        if values is None:
            problems.add(
                "exponent", where, f"weight exponent {projection.weight_exp} takes weights off netx's integers",
                "integers from −254 to 254 once the exponent is applied", "quantize with exponents='zero'",
            )  # fmt: skip
        else:
            stored[projection.name] = values
    if len(stored) < len(projections):
        return
    # A recurrent layer's exponent and bits come from both matrices side by side.
    together = np.unique(np.concatenate(list(stored.values())))
    shifted = shift_left(together)
    if shifted is None:
        raise AssertionError("weights within −255 to 255, not all zero, can be shifted")
    shift = -shifted.weight_exp
    for projection in projections:
        values = stored[projection.name]
        run, _ = lava_reads(values << shift, shifted.num_weight_bits)
        n_wrong = int(np.count_nonzero(run != values << shift))
        if n_wrong:
            first = int(np.flatnonzero(run != values << shift)[0])
            problems.add(
                "netx-inexact", f"projection {projection.name!r}",
                f"netx and Lava would run weight {values[first]} as {run[first] / (1 << shift):g}"
                f" (and {n_wrong - 1} more values wrong)",
                "matrices whose sign both read alike: not all ≤ 0 with a 0 among them",
                "use --target lava or loihi, which state the sign mode",
            )  # fmt: skip


def _file_values(projection: FixedProjection) -> NDArray[np.int64] | None:
    """Distinct integers of the layer as the file would hold them (0 included), or None if there are none.

    The exponent has no place in the file: it is multiplied in, which is exact for a positive one, and for a
    negative one if no set bit is lost (then the shift of the sum equals the sum of the shifted).
    """
    values = np.unique(projection.weights.data.astype(np.int64))
    if projection.weights.nnz < projection.weights.size:
        values = np.union1d(values, [0])
    exponent = projection.weight_exp
    if exponent < 0 and np.any(values % (1 << -exponent)):
        return None
    scaled = values << exponent if exponent > 0 else values >> -exponent
    in_range = scaled.min() >= -255 and scaled.max() <= 255
    return scaled if in_range else None


def _write_input(network: FixedNetwork, group: Any) -> None:
    group.create_dataset("type", (1,), "S10", [b"input"], track_times=False)
    group.create_dataset("shape", data=np.array([network.n_in]), track_times=False)


def _write_layer(layer: Layer, group: Any) -> None:
    population, forward, recurrent = layer.population, layer.forward, layer.recurrent
    neuron: Any = population.neuron
    kind = b"dense" if recurrent is None else b"dense_rec"
    group.create_dataset("type", (1,), "S10", [kind], track_times=False)
    scalars = {
        "shape": np.array([population.n]),
        "inFeatures": forward.weights.shape[1],
        "outFeatures": population.n,
    }
    for name, value in scalars.items():
        group.create_dataset(name, data=value, track_times=False)
    _write_dense(group, "weight", forward, forward.weights)
    if recurrent is not None:
        _write_dense(group, "weight_rec", recurrent, recurrent.weights)
    if np.any(neuron.bias):
        group.create_dataset("bias", data=neuron.bias >> BIAS_EXPONENT, track_times=False)
    if np.any(layer.delay) and layer.delay.ndim:
        _write_rows(group, "delay", forward.weights, layer.delay.astype(np.uint8))
    elif np.any(layer.delay):
        group.create_dataset("delay", data=int(layer.delay), track_times=False)
    parameters: dict[str, Any] = {
        "type": np.array([b"CUBA"], dtype="S10"),
        "iDecay": current_decay(neuron.du),
        "vDecay": neuron.dv,
        "vThMant": getattr(neuron, "vth", NEVER),
        "refDelay": 1,
        "gradedSpike": False,
    }
    for name, value in parameters.items():
        group.create_dataset(f"neuron/{name}", data=value, track_times=False)


def _write_dense(group: Any, name: str, projection: FixedProjection, weights: CsrMatrix) -> None:
    """The matrix (out, in) with the exponent multiplied in, made dense some rows at a time."""
    exponent = projection.weight_exp
    data = weights.data.astype(np.int16)
    data = data << exponent if exponent > 0 else data >> -exponent
    _write_rows(group, name, weights, data.astype(np.int16))


def _write_rows(group: Any, name: str, pattern: CsrMatrix, values: NDArray[Any]) -> None:
    n_rows, n_cols = pattern.shape
    per_block = max(1, min(n_rows, BLOCK_ELEMENTS // n_cols))
    dataset = group.create_dataset(
        name, (n_rows, n_cols), values.dtype, compression="gzip", compression_opts=1, shuffle=True,
        chunks=(max(1, min(per_block, (1 << 20) // n_cols or 1)), n_cols), track_times=False,
    )  # fmt: skip
    for start in range(0, n_rows, per_block):
        stop = min(start + per_block, n_rows)
        first, last = pattern.indptr[start], pattern.indptr[stop]
        block = np.zeros((stop - start, n_cols), dtype=values.dtype)
        rows = np.repeat(np.arange(stop - start), np.diff(pattern.indptr[start : stop + 1]))
        block[rows, pattern.indices[first:last]] = values[first:last]
        dataset[start:stop] = block
