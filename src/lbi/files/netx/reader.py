"""Reader of Lava-DL netx files (``.net``): the integer network that ``lava.lib.dl.netx.hdf5.Network`` runs.

Weights are those that Lava computes with (``lbi.files.netx.weights``). Neurons are numbered in C order of (channel,
height, width), as in the file and in torch; Lava's own order is (width, height, channel).
Source: lava-dl 0.6.0 ``netx/hdf5.py``, ``netx/utils.py``, ``netx/blocks/process.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problem, Problems
from lbi.files.netx.weights import BIAS_EXPONENT, LONGEST_DELAY, NEVER, lava_reads, shift_left
from lbi.files.untrusted_hdf5 import numbers, open_tree, subgroup, text
from lbi.limits import MOST_NEURONS
from lbi.network.convolution import Convolution, expand
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode, num_weight_bits
from lbi.network.graph import INPUT, Readout
from lbi.network.neurons import FixedCubaLif, FixedIntegrator
from lbi.network.pattern import ones, without

DEFAULT_NEURON = {"iDecay": 0, "vDecay": 4096, "vThMant": NEVER}
"""netx's neuron for a dense layer without neurons: a current without leak, and a voltage equal to it."""

MOST_PARTS = 16
"""Maximum number of populations into which a layer is split if its neurons differ."""

Neuron = FixedCubaLif | FixedIntegrator
Part = tuple[NDArray[np.intp], Neuron]
"""Equal neurons of a layer: their indices and their parameters."""

RUNS = "input, dense, dense_rec, conv, flatten; pool is read as a convolution"


def load(
    path: str | Path,
    *,
    n_layers: int | None = None,
    input_bias: ArrayLike | None = None,
    aligned: bool = True,
) -> FixedNetwork:
    """The network of a ``.net`` file.

    Args:
        path: the file.
        n_layers: number of layers to read, as netx's ``num_layers``; None for all.
        input_bias: if the input layer has neurons, bias mantissas (channels, height, width) that drive them with
            one sample's image, as Lava-DL sets ``in_layer.neuron.bias_mant``; the network then takes no spikes.
            Without it, input spikes are an image of zeros and ones: a spike adds the layer's ``weight`` to its
            ``bias``.
        aligned: True if each layer starts its samples one step after the layer before, as with netx's
            ``reset_interval`` and ``reset_offset=1``, so that outputs are aligned to the input; False for raw chip
            time without reset.

    Returns:
        The network.

    Raises:
        InputError: naming all reasons why netx could not run the file, or would not run it as it was trained.
    """
    path = Path(path)
    reader = _Reader(str(path), None if input_bias is None else np.asarray(input_bias))
    with open_tree(
        path, Problem("netx-file", str(path), "not a readable netx file", "a .net file of Lava-DL")
    ) as file:
        layers = subgroup(file, "layer")
        for index in range(len(layers) if n_layers is None else min(n_layers, len(layers))):
            reader.read(index, _Group(subgroup(layers, str(index))))
    return reader.network(aligned)


class _Group:
    """A layer's HDF5 group read as netx reads it: weights and biases truncated to integers."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def __contains__(self, key: str) -> bool:
        return key in self.group

    def integers(self, key: str) -> NDArray[np.int64]:
        values = numbers(self.group, key)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{key}: not finite numbers")
        return values.astype(np.int64)

    def integer(self, key: str, default: int | None = None) -> int:
        return default if default is not None and key not in self else int(self.integers(key).item())

    def pair(self, key: str) -> tuple[int, int]:
        values = self.integers(key).reshape(-1)
        return int(values[0]), int(values[-1])

    def shape(self) -> tuple[int, ...]:
        """The sizes of the layer; raises ValueError if they are impossible."""
        sizes = tuple(self.integers("shape").reshape(-1).tolist())
        if min(sizes, default=0) < 1 or prod(sizes) > MOST_NEURONS:
            raise ValueError(f"shape: {sizes} instead of 1 to {MOST_NEURONS} neurons")
        return sizes

    def text(self, key: str) -> str:
        value = np.asarray(self.group[key]).reshape(-1)
        if value.dtype.kind not in "OSU" or not value.size:
            raise ValueError(f"{key}: not a text")
        return text(value[0])


@dataclass
class _Reader:
    """Reader that collects layers into a network, and all problems."""

    path: str
    input_bias: NDArray[Any] | None
    problems: Problems = field(default_factory=Problems)
    input_shape: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None  # of the layer before: (n,) or (channels, height, width)
    flat: bool = False
    layers: list[tuple[str, tuple[int, ...], list[Part]]] = field(default_factory=list)
    projections: list[dict[str, Any]] = field(default_factory=list)
    driven: bool = False  # the first layer is driven by its bias

    def read(self, index: int, layer: _Group) -> None:
        """Add the layer, or note why not."""
        kind = layer.text("type")
        where = f"{self.path}, layer {index}"
        if kind == "input":
            self._input(index, layer, where)
        elif kind == "flatten":
            self.flat = True
        elif kind in ("dense", "dense_rec"):
            self._dense(index, layer, where, recurrent=kind == "dense_rec")
        elif kind in ("conv", "pool"):
            self._conv(index, layer, where, pool=kind == "pool")
        else:
            self.problems.add(
                "netx-layer", where, f"type {kind!r}", RUNS, "read only the layers before it (n_layers)"
            )

    def network(self, aligned: bool) -> FixedNetwork:
        """The network of all layers read."""
        if not self.problems:
            self.problems.check(bool(self.layers), "netx-empty", self.path, "no layer with neurons", RUNS)
        self.problems.raise_as(InputError)
        first = 0 if self.driven else 1
        populations, parts = [], {}
        for k, (layer, shape, alike) in enumerate(self.layers):
            names = [layer] if len(alike) == 1 else [f"{layer}_{number + 1}" for number in range(len(alike))]
            parts[layer] = {name: chosen for name, (chosen, _) in zip(names, alike, strict=True)}
            for name, (chosen, neuron) in zip(names, alike, strict=True):
                size = shape if len(alike) == 1 else (chosen.size,)
                populations.append(FixedPopulation(name, size, neuron, latency=first + k if aligned else 0))
        self.problems.check(
            len(self.layers[-1][2]) == 1,
            "netx-neuron",
            f"{self.path}, the last layer",
            "its neurons differ in decays or threshold",
            "one of each in the layer that is read, whose neurons keep their order",
        )
        split = [part for record in self.projections for part in self._split(record, parts)]
        self.problems.raise_as(InputError)
        return FixedNetwork(
            input_shape=self.input_shape or (),
            populations=tuple(populations),
            projections=tuple(FixedProjection(**record) for record in split),
            readout=Readout.of(populations[-1]),
            chip="loihi2",
            provenance={"format": "netx", "file": Path(self.path).name},
        )

    def _split(
        self, record: dict[str, Any], parts: dict[str, dict[str, NDArray[np.intp]]]
    ) -> list[dict[str, Any]]:
        """The projection between two layers as projections between their populations."""
        weights: CsrMatrix = record["weights"]
        sources = parts.get(record["source"], {record["source"]: np.arange(weights.shape[1])})
        targets = parts[record["target"]]
        if len(sources) == len(targets) == 1:
            return [record]
        lost = max(0, -record["weight_exp"])
        self.problems.check(
            len(sources) == 1 or not np.any(weights.data % (1 << lost)),
            "netx-weights",
            f"{self.path}, {record['source']}",
            "neurons that differ, and weights whose sum alone can be shifted",
            "neurons alike",
        )
        pattern = None if record["pattern"] is None else record["pattern"].to_scipy()
        numbers = weights.to_scipy()
        numbers.data = np.arange(1, weights.nnz + 1)
        found = []
        for target, rows in targets.items():
            for source, columns in sources.items():
                part = numbers[rows][:, columns]
                part.sort_indices()
                kept, delay = part.data - 1, record["delay"]
                matrix = CsrMatrix(weights.data[kept], part.indices, part.indptr, part.shape)
                name = f"{record['name']}_{source}_{target}"
                found.append(
                    {
                        **record,
                        "name": name,
                        "source": source,
                        "target": target,
                        "weights": matrix,
                        "pattern": None if pattern is None else ones(pattern[rows][:, columns]),
                        "delay": delay[kept] if isinstance(delay, np.ndarray) else delay,
                    }
                )
        return found

    def _input(self, index: int, layer: _Group, where: str) -> None:
        if not self.problems.check(
            index == 0, "netx-layer", where, "an input layer", "input as layer 0 only"
        ):
            return
        self.shape = self.input_shape = layer.shape()
        if "neuron" not in layer:
            return
        weight, bias = layer.integer("weight", 64), layer.integer("bias", 0)
        name, n = f"layer{index}", prod(self.shape)
        if self.input_bias is not None:
            self.driven = True
            mantissas = self._picture(self.shape, where)
        else:
            mantissas = np.full(n, bias)
            self._spikes_as_picture(layer, weight, name, n, where)
        neuron = self._neuron(layer, mantissas, where)
        if neuron is not None:
            self.layers.append((name, self.shape, neuron))

    def _picture(self, shape: tuple[int, ...], where: str) -> NDArray[np.int64]:
        picture = np.asarray(self.input_bias)
        fits = picture.size == prod(shape) and picture.dtype.kind in "iuf"
        self.problems.check(
            fits,
            "input-bias",
            f"{where}, input_bias",
            f"{picture.shape} of {picture.dtype}",
            f"integers {shape}",
        )
        return picture.reshape(-1).astype(np.int64) if fits else np.zeros(prod(shape), dtype=np.int64)

    def _spikes_as_picture(self, layer: _Group, weight: int, name: str, n: int, where: str) -> None:
        """Synapses by which a spike adds ``weight`` like a bias; exact if the current has no memory."""
        decay = _Group(subgroup(layer.group, "neuron")).integer("iDecay", 0)
        self.problems.check(
            decay == 4096,
            "netx-input",
            f"{where}, neuron/iDecay",
            f"{decay}",
            "4096, for spikes to act as the bias that netx drives",
            "give a picture as input_bias",
        )
        mode = (
            SignMode.MIXED if weight % 2 == 0 else SignMode.EXCITATORY if weight > 0 else SignMode.INHIBITORY
        )
        if self.problems.check(
            bool(mode.weight_format.holds(weight)) and weight != 0,
            "netx-input",
            f"{where}, weight",
            f"{weight}",
            str(mode.weight_format),
            "give a picture as input_bias",
        ):
            diagonal = CsrMatrix(np.full(n, weight, np.int16), np.arange(n), np.arange(n + 1), (n, n))
            self._project(f"{name}_in", INPUT, name, diagonal, mode, pattern=ones(diagonal))

    def _dense(self, index: int, layer: _Group, where: str, recurrent: bool) -> None:
        check = self.problems.check
        name, n = f"layer{index}", prod(layer.shape())
        if "weight/imag" in layer:
            self.problems.add("netx-weights", where, "complex weights", "real weights")
            return
        weights = layer.integers("weight")
        weights = weights.reshape(n, -1) if weights.ndim == 1 else weights
        before = self._before(weights.shape[1], where)
        self.shape, self.flat = (n,), False
        good = check(
            weights.shape == (n, before),
            "netx-shape",
            f"{where}, weight",
            f"{weights.shape}",
            f"(n_out, n_in) = ({n}, {before})",
        )
        own = layer.integers("weight_rec").reshape(n, -1) if recurrent else np.zeros((n, 0), dtype=np.int64)
        good &= check(
            not recurrent or own.shape == (n, n),
            "netx-shape",
            f"{where}, weight_rec",
            f"{own.shape}",
            f"({n}, {n})",
        )
        neuron = self._neuron(layer, self._bias(layer, n, where), where)
        shifted = shift_left(np.hstack([weights, own])) if good else None
        if good and shifted is None:
            self.problems.add(
                "netx-weights",
                f"{where}, weight",
                f"{weights.min()} to {weights.max()}",
                "not all zero, and no more than 8 bits: netx fails or makes all of them 0",
            )
        if neuron is None or shifted is None:
            return
        delays = self._delays(layer, weights.shape, where)
        exponent = shifted.weight_exp
        if delays is not None and recurrent:  # netx drops the exponent, and has one delay matrix for both
            exponent = 0
            check(n == before, "netx-delay", f"{where}, delay", "delays in a recurrent layer", "n_in = n_out")
        source = self.layers[-1][0] if self.layers else INPUT
        self.layers.append((name, (n,), neuron))
        parts = [(f"{name}_in", source, shifted.weights[:, :before])]
        parts += [(f"{name}_rec", name, shifted.weights[:, before:])] if recurrent else []
        for label, origin, values in parts:
            effective, mode = lava_reads(values, shifted.num_weight_bits)
            matrix = CsrMatrix.from_dense(effective.astype(np.int16))
            delay = (
                0
                if delays is None or delays.shape != values.shape
                else delays[matrix.row_of(), matrix.indices]
            )
            self._project(label, origin, name, matrix, mode, exponent, delay)

    def _conv(self, index: int, layer: _Group, where: str, pool: bool) -> None:
        check = self.problems.check
        name = f"layer{index}"
        shape = layer.shape()
        before, self.shape = self.shape or (), shape
        good = check(
            len(before) == 3 and not self.flat,
            "netx-shape",
            where,
            f"after a layer of shape {before}{' and a flatten' if self.flat else ''}",
            "after (channels, height, width)",
        )
        kernel = layer.integers("weight")
        kernel = kernel.reshape(kernel.shape[:4])
        groups = 1 if pool else layer.integer("groups")
        if pool and good:  # one kernel per channel
            kernel, groups = np.repeat(kernel.reshape(1, 1, *kernel.shape[-2:]), before[0], axis=0), before[0]
        convolution = Convolution(
            kernel, layer.pair("stride"), layer.pair("padding"), layer.pair("dilation"), groups
        )
        good = (
            check(
                min(*convolution.stride, *convolution.dilation, groups) >= 1
                and min(convolution.padding) >= 0,
                "netx-shape",
                where,
                f"stride {convolution.stride}, padding {convolution.padding}, dilation"
                f" {convolution.dilation}, {groups} groups",
                "at least 1; padding at least 0",
            )
            and good
        )
        good = good and check(
            kernel.shape[1] * groups == before[0] and kernel.shape[0] % groups == 0,
            "netx-shape",
            f"{where}, weight",
            f"{kernel.shape} in {groups} groups",
            f"for {before[0]} channels",
        )
        good = good and check(
            convolution.output_shape(before) == shape,
            "netx-shape",
            f"{where}, shape",
            f"{shape}",
            f"{convolution.output_shape(before)}, the convolution's",
        )
        check(
            "delay" not in layer or not np.any(layer.integers("delay")),
            "netx-delay",
            f"{where}, delay",
            "delays in a conv layer",
            "none: netx ignores them",
        )
        check(
            kernel.min() >= -256 and kernel.max() <= 255,
            "netx-weights",
            f"{where}, weight",
            f"{kernel.min()} to {kernel.max()}",
            "−256 to 255",
        )
        neuron = self._neuron(layer, self._bias(layer, shape, where), where)
        if not good or neuron is None:
            return
        source = self.layers[-1][0] if self.layers else INPUT
        self.layers.append((name, shape, neuron))
        matrix = expand(convolution._replace(kernel=kernel.astype(np.int16)), before)
        pattern = expand(convolution._replace(kernel=np.ones(kernel.shape, dtype=np.int8)), before)
        one_sign = matrix.nnz == 0 or matrix.data.min() > 0
        mode = SignMode.EXCITATORY if one_sign else SignMode.MIXED  # Lava's Conv has none
        self._project(f"{name}_in", source, name, matrix, mode, pattern=ones(pattern))

    def _project(
        self,
        name: str,
        source: str,
        target: str,
        weights: CsrMatrix,
        mode: SignMode,
        exponent: int = 0,
        delay: Any = 0,
        pattern: CsrMatrix | None = None,
    ) -> None:
        """Add synapses; odd weights in a mixed-sign matrix, which Lava keeps here, become separate projections.

        They occur only with exponent 0, where the sum over the parts equals the total.
        """
        odd = weights.data % 2 != 0
        if mode is SignMode.MIXED and np.any(odd):
            odd_ones = weights.with_data(np.where(odd, weights.data, 0))[0]
            for suffix, sign, chosen_ones in (
                ("", SignMode.MIXED, ~odd),
                ("_pos", SignMode.EXCITATORY, odd & (weights.data > 0)),
                ("_neg", SignMode.INHIBITORY, odd & (weights.data < 0)),
            ):
                matrix, kept = weights.with_data(np.where(chosen_ones, weights.data, 0))
                chosen = delay[kept] if isinstance(delay, np.ndarray) else delay
                # Together the parts have the layer's weights once: the odd ones are left out of the first.
                own = ones(matrix) if suffix else without(pattern, odd_ones)
                self._project(name + suffix, source, target, matrix, sign, exponent, chosen, own)
            return
        if isinstance(delay, np.ndarray):
            uniform = delay.size == 0 or delay.min() == delay.max()
            delay = int(delay.max(initial=0)) if uniform else delay.astype(np.uint8)
        self.projections.append(
            {
                "name": name,
                "source": source,
                "target": target,
                "weights": weights,
                "sign_mode": mode,
                "weight_exp": exponent,
                "num_weight_bits": num_weight_bits(weights.data, mode),
                "delay": delay,
                "pattern": pattern,
            }
        )

    def _before(self, n_in: int, where: str) -> int:
        """Number of neurons of the layer before; between conv and dense layers a flatten is required."""
        if self.shape is None:
            self.shape = self.input_shape = (n_in,)
        self.problems.check(
            len(self.shape) == 1 or self.flat or not self.layers,
            "netx-shape",
            where,
            f"dense after a layer of shape {self.shape}",
            "a flatten between them",
        )
        return prod(self.shape)

    def _bias(self, layer: _Group, shape: int | tuple[int, ...], where: str) -> NDArray[np.int64]:
        """One mantissa per neuron: the file may hold one, one per channel, or one per neuron."""
        n = shape if isinstance(shape, int) else prod(shape)
        if "bias" not in layer:
            return np.zeros(n, dtype=np.int64)
        bias = layer.integers("bias")
        if isinstance(shape, int) and bias.size in (1, n):
            return np.broadcast_to(bias.reshape(-1), (n,))
        if not isinstance(shape, int) and bias.shape == shape[::-1]:  # Lava's order
            return bias.transpose(2, 1, 0).reshape(-1)
        if not isinstance(shape, int) and bias.shape == (shape[0],):
            return np.repeat(bias, shape[1] * shape[2])
        self.problems.add("netx-bias", f"{where}, bias", f"shape {bias.shape}", "one per neuron or channel")
        return np.zeros(n, dtype=np.int64)

    def _delays(self, layer: _Group, shape: tuple[int, ...], where: str) -> NDArray[np.int64] | None:
        """Delays (n_out, n_in): the file may hold one, one per output or input, or one per synapse."""
        if "delay" not in layer:
            return None
        delay = np.minimum(layer.integers("delay"), LONGEST_DELAY)
        self.problems.check(delay.min() >= 0, "netx-delay", f"{where}, delay", f"{delay.min()}", "0 to 62")
        if delay.shape == (shape[0],):
            delay = delay[:, None]
        if delay.shape not in ((), (shape[1],), (shape[0], 1), shape):
            self.problems.add(
                "netx-delay", f"{where}, delay", f"shape {delay.shape}", f"one per row or column of {shape}"
            )
            return np.zeros(shape, dtype=np.int64)
        return np.broadcast_to(delay, shape)

    def _neuron(self, layer: _Group, mantissas: NDArray[np.int64], where: str) -> list[Part] | None:
        """The layer's neurons, grouped by equal parameters in order of occurrence."""
        values = self._neuron_values(layer, mantissas.size, where)
        if values is None or not self.problems.check(
            mantissas.min() >= -4096 and mantissas.max() <= 4095,
            "netx-bias",
            f"{where}, bias",
            f"{mantissas.min()} to {mantissas.max()}",
            "−4096 to 4095",
        ):
            return None
        kinds, first, kind = np.unique(values, axis=1, return_index=True, return_inverse=True)
        if not self.problems.check(
            first.size <= MOST_PARTS and (first.size == 1 or layer.text("type").startswith("dense")),
            "netx-neuron",
            where,
            f"{first.size} different neurons",
            f"one in a conv layer, up to {MOST_PARTS} in a dense one",
        ):
            return None
        parts: list[Part] = []
        for number in np.argsort(first):
            decay, dv, vth = kinds[:, number].tolist()
            chosen = np.flatnonzero(kind.reshape(-1) == number)
            common: dict[str, Any] = {
                "du": decay - 1,
                "dv": dv,
                "bias_mant": mantissas[chosen].astype(np.int32),
                "bias_exp": BIAS_EXPONENT,
            }
            neuron = FixedIntegrator(**common) if vth >= NEVER else FixedCubaLif(**common, vth=vth)
            parts.append((chosen, neuron))
        return parts

    def _neuron_values(self, layer: _Group, n: int, where: str) -> NDArray[np.int64] | None:
        """iDecay, vDecay and vThMant of every neuron, (3, n)."""
        check = self.problems.check
        if "neuron" not in layer:
            has_default = layer.text("type") in ("dense", "dense_rec")
            check(has_default, "netx-neuron", where, "no neuron", "one: only dense layers have a default")
            default = np.array(list(DEFAULT_NEURON.values()))
            return np.repeat(default[:, None], n, axis=1) if has_default else None
        neuron, where = _Group(subgroup(layer.group, "neuron")), f"{where}, neuron"
        kind = neuron.text("type")
        if not check(
            kind in ("LOIHI", "CUBA"),
            "netx-neuron",
            where,
            f"type {kind!r}",
            "LOIHI or CUBA: a CUBA-LIF neuron with binary spikes",
        ):
            return None
        good = True
        for key, usual in (("messageBits", 0), ("refDelay", 1)):
            value = neuron.integer(key, usual)
            good &= check(
                value == usual,
                "netx-neuron",
                f"{where}/{key}",
                f"{value}",
                f"{usual}: netx runs CUBA neurons without graded spikes or refractoriness",
            )
        rows = []
        for key, high in (("iDecay", 4096), ("vDecay", 4096), ("vThMant", 1 << 24)):
            values = neuron.integers(key).reshape(-1)
            good &= check(
                values.size in (1, n) and values.min() >= 0 and values.max() <= high,
                "netx-neuron",
                f"{where}/{key}",
                f"{values.size} from {values.min()} to {values.max()}" if values.size > 1 else f"{values[0]}",
                f"0 to {high}, one or one per neuron",
            )
            rows.append(values)
        return np.stack([np.broadcast_to(values, (n,)) for values in rows]) if good else None
