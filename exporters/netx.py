"""``--target netx``: a Lava-DL ``.net`` (HDF5) that unmodified lava-dl 0.6.0 loads and runs spike for spike.

netx derives sign mode, exponent and bits of every layer from the integers in the file, and Lava derives
the sign mode again; for some matrices the two disagree and values are wrong. So the derivation is
repeated here for every layer, and a network that would not run exactly is refused.
Source: lava-dl 0.6.0 ``netx/hdf5.py`` and ``netx/utils.py``, lava-nc 0.10.0 ``utils/weightutils.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problem, Problems, Rule
from lbi.files.netx.layers import Layer, Synapses, chain
from lbi.files.netx.reader import READOUT_KEY
from lbi.files.netx.weights import BIAS_EXPONENT, LONGEST_DELAY, NEVER, lava_reads, shift_left
from lbi.network.convolution import image
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation
from lbi.network.neurons import MODELS
from lbi.system.atomic import new_hdf5

if TYPE_CHECKING:
    from lbi.exporters import Job

NEURON_MODEL = Rule("neuron-model", "{allowed}", "use --target loihi")
BIAS_GRID = Rule(
    "bias-grid",
    f"multiples of {1 << BIAS_EXPONENT} state units: netx fixes the exponent at {BIAS_EXPONENT}",
    "use --target lava or loihi, which keep the bias as it is",
)
DELAY = Rule("delay-range", f"up to {LONGEST_DELAY}", "use --target lava or loihi")
RECURRENT_DELAY = Rule(
    "delay-in-recurrent-layer",
    "none: netx uses one delay matrix for both weights",
    "use --target lava or loihi",
)
INEXACT = Rule(
    "netx-inexact",
    "matrices whose sign both read alike: not all ≤ 0 with a 0 among them; even integers beyond ±127",
    "use --target lava or loihi, which state the sign mode",
)

TITLE = "Lava-DL netx file: a chain of dense, dense_rec and conv layers"
SUFFIX = ".net"
TAKES = "fixed"

BLOCK_ELEMENTS = 1 << 23
"""Number of weights that are made dense at a time while writing."""


def check(job: Job) -> list[Problem]:
    """All reasons why netx cannot hold the network; empty if it can.

    Args:
        job: the network, its chip and options.

    Returns:
        One problem per reason.
    """
    return check_network(job.fixed)


def export(job: Job, path: Path) -> None:
    """Write the ``.net`` file.

    Args:
        job: the network, its chip and options.
        path: the file to write.

    Raises:
        InputError: with all reasons why netx cannot hold the network.
    """
    write(job.fixed, path)


def check_network(network: FixedNetwork) -> list[Problem]:
    """All reasons why netx cannot hold ``network``; empty if it can.

    Args:
        network: the network.

    Returns:
        One problem per reason.
    """
    problems = Problems()
    for layer in chain(network, problems):
        _check_delays(layer, problems)
        _check_weights(layer, problems)
    for population in network.populations:
        _check_neuron(population, problems)
    return list(problems)


def write(network: FixedNetwork, path: Path) -> None:
    """Write ``network`` as ``.net``.

    Args:
        network: the network.
        path: the file to write.

    Raises:
        InputError: with all reasons why netx cannot hold the network.
    """
    Problems(check_network(network)).raise_as(InputError)
    with new_hdf5(path) as file:
        if network.readout.of_membrane:
            file.attrs[READOUT_KEY] = network.readout.kind
        groups = file.create_group("layer", track_order=True)

        def add(kind: bytes) -> Any:
            group = groups.create_group(str(len(groups)), track_order=True)
            group.create_dataset("type", (1,), "S10", [kind], track_times=False)
            return group

        layers = chain(network, Problems())
        shape = network.input_shape if layers[0].convolution is None else image(network.input_shape)
        _write(add(b"input"), {"shape": np.array(shape)})
        spatial = False
        for layer in layers:
            if layer.convolution is not None:
                _write_conv(layer, add(b"conv"))
            else:
                if spatial:
                    _write(add(b"flatten"), {"shape": np.array([layer.forward.weights.shape[1]])})
                _write_dense(layer, add(b"dense" if layer.recurrent is None else b"dense_rec"))
            spatial = layer.convolution is not None


def current_decay(du: int) -> int:
    """The file's ``iDecay`` for Lava's ``du``: netx subtracts one, and Lava's neuron adds one.

    Args:
        du: Lava's ``du``, 4096ths less one.

    Returns:
        4096ths of the current that are lost per step.
    """
    return du + 1


def netx_type(model: str) -> str:
    """Netx's type of neuron for a neuron model; empty if there is none.

    Args:
        model: the model's name.

    Returns:
        The entry of the registry of neuron models.
    """
    return MODELS[model].netx if model in MODELS else ""


def _known() -> str:
    return ", ".join(repr(name) for name, model in MODELS.items() if model.netx)


def _check_neuron(population: FixedPopulation, problems: Problems) -> None:
    where, neuron = f"population {population.name!r}", population.neuron
    if not NEURON_MODEL.check(
        problems, bool(netx_type(neuron.model)), where, f"{neuron.model!r}", allowed=_known()
    ):
        return
    n_off = int(np.count_nonzero(neuron.bias % (1 << BIAS_EXPONENT)))
    BIAS_GRID.check(problems, n_off == 0, where, f"{n_off} biases between netx's steps")


def _check_delays(layer: Layer, problems: Problems) -> None:
    longest = int(np.max(layer.forward.delay, initial=0))
    DELAY.check(
        problems, longest <= LONGEST_DELAY, layer.forward.where, f"a delay of {longest} steps in netx"
    )
    if layer.recurrent is None:
        return
    for synapses in (layer.forward, layer.recurrent):
        RECURRENT_DELAY.check(
            problems,
            not np.any(synapses.delay),
            synapses.where,
            f"a delay of up to {int(np.max(synapses.delay, initial=0))} in a recurrent layer",
        )


def _check_weights(layer: Layer, problems: Problems) -> None:
    """Note weights that netx and Lava would change; those of convolutions are kept."""
    if layer.convolution is not None:
        return
    matrices = [synapses for synapses in (layer.forward, layer.recurrent) if synapses is not None]
    stored = [_values(synapses) for synapses in matrices]
    # Exponent and bits of a recurrent layer are derived from both matrices together.
    shifted = shift_left(np.unique(np.concatenate(stored)))
    if shifted is None:
        raise AssertionError("weights within −255 to 255, not all zero, can be shifted")
    shift = -shifted.weight_exp
    for synapses, values in zip(matrices, stored, strict=True):
        run, _ = lava_reads(values << shift, shifted.num_weight_bits)
        n_wrong = int(np.count_nonzero(run != values << shift))
        if n_wrong:
            first = int(np.flatnonzero(run != values << shift)[0])
            problems.note(
                INEXACT.broken(
                    synapses.where,
                    f"netx and Lava would run weight {values[first]} as {run[first] / (1 << shift):g}"
                    f" (and {n_wrong - 1} more values wrong)",
                )
            )


def _values(synapses: Synapses) -> NDArray[np.int64]:
    """Distinct integers of the matrix, 0 included where a synapse is absent."""
    weights = synapses.weights
    values = np.unique(weights.data).astype(np.int64)
    return values if weights.nnz == weights.size else np.union1d(values, [0])


def _write(group: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        group.create_dataset(name, data=value, track_times=False)


def _write_dense(layer: Layer, group: Any) -> None:
    weights, delay = layer.forward.weights.to_csr(), layer.forward.delay
    _write(
        group, {"shape": np.array([layer.n]), "inFeatures": weights.shape[1], "outFeatures": weights.shape[0]}
    )
    _write_rows(group, "weight", weights, weights.data)
    if layer.recurrent is not None:
        own = layer.recurrent.weights.to_csr()
        _write_rows(group, "weight_rec", own, own.data)
    bias = np.concatenate([population.neuron.bias for population in layer.populations])
    if np.any(bias):
        _write(group, {"bias": bias >> BIAS_EXPONENT})
    if np.any(delay) and delay.ndim:
        _write_rows(group, "delay", weights, delay.astype(np.uint8))
    elif np.any(delay):
        _write(group, {"delay": int(delay)})
    _write_neuron(layer, group)


def _write_conv(layer: Layer, group: Any) -> None:
    """The kernel as in torch, (out, in, height, width, 1); biases in Lava's order, width first."""
    (population,), convolution = layer.populations, layer.convolution
    assert convolution is not None
    kernel = convolution.kernel
    _write(
        group,
        {
            "shape": np.array(population.shape),
            "inChannels": kernel.shape[1] * convolution.groups,
            "outChannels": kernel.shape[0],
            "kernelSize": np.array(kernel.shape[2:]),
            "stride": np.array(convolution.stride),
            "padding": np.array(convolution.padding),
            "dilation": np.array(convolution.dilation),
            "groups": convolution.groups,
            "weight": kernel[..., None],
        },
    )
    bias = population.neuron.bias
    if np.any(bias):
        _write(group, {"bias": (bias >> BIAS_EXPONENT).reshape(population.shape).T})
    _write_neuron(layer, group)


def _write_neuron(layer: Layer, group: Any) -> None:
    neurons: list[Any] = [population.neuron for population in layer.populations]
    sizes = [population.n for population in layer.populations]

    def shared(values: list[int]) -> Any:
        """One number if all neurons share it, otherwise one per neuron."""
        return values[0] if len(set(values)) == 1 else np.repeat(values, sizes)

    parameters: dict[str, Any] = {
        "type": np.array([netx_type(neurons[0].model)], dtype="S10"),
        "iDecay": shared([current_decay(neuron.du) for neuron in neurons]),
        "vDecay": shared([neuron.dv for neuron in neurons]),
        "vThMant": shared([getattr(neuron, "vth", NEVER) for neuron in neurons]),
        "refDelay": 1,
        "gradedSpike": False,
    }
    _write(group, {f"neuron/{name}": value for name, value in parameters.items()})


def _write_rows(group: Any, name: str, pattern: CsrMatrix, values: NDArray[Any]) -> None:
    n_rows, n_cols = pattern.shape
    per_block = max(1, min(n_rows, BLOCK_ELEMENTS // n_cols))
    dataset = group.create_dataset(
        name,
        (n_rows, n_cols),
        values.dtype,
        compression="gzip",
        compression_opts=1,
        shuffle=True,
        chunks=(max(1, min(per_block, (1 << 20) // n_cols or 1)), n_cols),
        track_times=False,
    )
    for start in range(0, n_rows, per_block):
        stop = min(start + per_block, n_rows)
        first, last = pattern.indptr[start], pattern.indptr[stop]
        block = np.zeros((stop - start, n_cols), dtype=values.dtype)
        rows = np.repeat(np.arange(stop - start), np.diff(pattern.indptr[start : stop + 1]))
        block[rows, pattern.indices[first:last]] = values[first:last]
        dataset[start:stop] = block
