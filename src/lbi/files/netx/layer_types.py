"""Readers of netx layers, one function per layer type, which add neurons and synapses to a chain or note problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule
from lbi.files.netx.group import Group
from lbi.files.netx.neurons import Part, biases, parts
from lbi.files.netx.weights import LONGEST_DELAY, Shifted, lava_reads, shift_left
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.fixed import SignMode, num_weight_bits
from lbi.network.graph import INPUT
from lbi.network.pattern import ones, without

FIRST = Rule("netx-layer", "input as layer 0 only", "export the network as one chain")
PICTURE = Rule("input-bias", "integers {shape}", "give one mantissa for each neuron of the input layer")
MEMORYLESS = Rule(
    "netx-input", "4096, for spikes to act as the bias that netx drives", "give a picture as input_bias"
)
INPUT_WEIGHT = Rule("netx-input", "{allowed}", "give a picture as input_bias")
COMPLEX = Rule("netx-weights", "real weights", "train without complex neurons")
SHAPE = Rule("netx-shape", "{allowed}", "export it again with lava-dl, with the shapes of its own layers")
FLATTEN = Rule("netx-shape", "a flatten between them", "add a flatten layer before the dense one")
SPATIAL = Rule("netx-shape", "after (channels, height, width)", "give the input layer three sizes")
STEPS = Rule("netx-shape", "at least 1; padding at least 0", "export it again with lava-dl")
NOTHING = Rule(
    "netx-weights",
    "not all zero, and no more than 8 bits: netx fails or makes all of them 0",
    "train with less regularization, or quantize to 8 bits",
)
KERNEL = Rule("netx-weights", "−256 to 255", "quantize to 8 bits")
CONV_DELAY = Rule("netx-delay", "none: netx ignores them", "train without delays in conv layers")
RECURRENT_DELAY = Rule("netx-delay", "n_in = n_out", "train without delays in recurrent layers")
DELAY = Rule("netx-delay", "0 to 62", "write delays in whole steps from 0")
DELAY_SHAPE = Rule(
    "netx-delay", "one per row or column of {shape}", "write one for each output, or each synapse"
)


@dataclass
class Chain:
    """The layers read so far, and all problems found.

    Attributes:
        path: the file.
        input_bias: the image that drives the first layer, or None.
        problems: receives all problems.
        input_shape: shape of the network's input.
        shape: shape of the layer before, (n,) or (channels, height, width); None before the first.
        flat: True right after a flatten.
        layers: name, shape and neurons of each layer.
        projections: arguments of ``FixedProjection``.
        driven: True if the first layer is driven by its bias.
        adds_up: True if the last layer read has no neurons of its own.
    """

    path: str
    input_bias: NDArray[Any] | None
    problems: Problems = field(default_factory=Problems)
    input_shape: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    flat: bool = False
    layers: list[tuple[str, tuple[int, ...], list[Part]]] = field(default_factory=list)
    projections: list[dict[str, Any]] = field(default_factory=list)
    driven: bool = False
    adds_up: bool = False

    @property
    def source(self) -> str:
        """Name of the layer before, or the input."""
        return self.layers[-1][0] if self.layers else INPUT

    def project(
        self,
        ends: tuple[str, str, str],
        weights: Weights,
        mode: SignMode,
        exponent: int = 0,
        delay: Any = 0,
        pattern: Weights | None = None,
    ) -> None:
        """Add synapses; odd weights in a mixed-sign matrix, which Lava keeps here, become separate projections.

        They occur only with exponent 0, where the sum over the parts equals the total.

        Args:
            ends: name of the projection, of its source and of its target.
            weights: (n_target, n_source), as Lava computes with them; CSR or kernels.
            mode: their sign mode.
            exponent: their common exponent.
            delay: in steps, one for all or (nnz,).
            pattern: the layer's own pattern of weights, if it is not that of their form.
        """
        name, source, target = ends
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
                # Each weight occurs in one of the parts: the odd ones are left out of the first.
                own = ones(matrix) if suffix else without(pattern or weights.pattern(), odd_ones)
                self.project((name + suffix, source, target), matrix, sign, exponent, chosen, own)
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


def read_input(chain: Chain, index: int, layer: Group) -> None:
    """Read ``input``: the network's input shape and, if it has neurons, a separate layer.

    Args:
        chain: the layers before; receives the layer and its problems.
        index: number of the layer in the file, from 0.
        layer: the layer's group.

    Raises:
        InputError: naming a key that netx reads, if it is missing or holds other values than netx reads.
    """
    if not FIRST.check(chain.problems, index == 0, layer.where, "an input layer"):
        return
    shape = chain.shape = chain.input_shape = layer.shape()
    if "neuron" not in layer:
        return
    name, n = f"layer{index}", prod(shape)
    if chain.input_bias is not None:
        chain.driven = True
        mantissas = _picture(chain, shape, layer.where)
    else:
        mantissas = np.full(n, layer.integer("bias", 0))
        _spikes_as_picture(chain, layer, name, n)
    neurons = parts(layer, mantissas, chain.problems)
    if neurons is not None:
        chain.layers.append((name, shape, neurons))


def _picture(chain: Chain, shape: tuple[int, ...], where: str) -> NDArray[np.int64]:
    picture = np.asarray(chain.input_bias)
    fits = picture.size == prod(shape) and picture.dtype.kind in "iuf"
    found = f"{picture.shape} of {picture.dtype}"
    PICTURE.check(chain.problems, fits, f"{where}, input_bias", found, shape=shape)
    return picture.reshape(-1).astype(np.int64) if fits else np.zeros(prod(shape), dtype=np.int64)


def _spikes_as_picture(chain: Chain, layer: Group, name: str, n: int) -> None:
    """Synapses by which a spike adds ``weight`` like a bias; exact if the current has no memory."""
    weight, decay = layer.integer("weight", 64), layer.inner("neuron").integer("iDecay", 0)
    MEMORYLESS.check(chain.problems, decay == 4096, f"{layer.where}, neuron/iDecay", decay)
    one_sign = SignMode.EXCITATORY if weight > 0 else SignMode.INHIBITORY
    mode = SignMode.MIXED if weight % 2 == 0 else one_sign
    grid = mode.lava_format
    holds = bool(grid.holds(weight)) and weight != 0
    if INPUT_WEIGHT.check(chain.problems, holds, f"{layer.where}, weight", weight, allowed=grid):
        diagonal = CsrMatrix(np.full(n, weight, np.int16), np.arange(n), np.arange(n + 1), (n, n))
        chain.project((f"{name}_in", INPUT, name), diagonal, mode, pattern=ones(diagonal))


def read_flatten(chain: Chain, _index: int, _layer: Group) -> None:
    """Read ``flatten``: the next layer is dense.

    Args:
        chain: the layers before; its ``flat`` is set.
    """
    chain.flat = True


def read_dense(chain: Chain, index: int, layer: Group) -> None:
    """Read ``dense`` and ``dense_rec``: a matrix from the layer before, and with ``_rec`` one from the layer itself.

    Args:
        chain: the layers before; receives neurons, synapses and problems.
        index: number of the layer in the file, from 0.
        layer: the layer's group.

    Raises:
        InputError: naming a key that netx reads, if it is missing or holds other values than netx reads.
    """
    problems, where = chain.problems, layer.where
    recurrent = layer.text("type") == "dense_rec"
    name, n = f"layer{index}", prod(layer.shape())
    if "weight/imag" in layer:
        problems.note(COMPLEX.broken(where, "complex weights"))
        return
    weights = layer.integers("weight")
    weights = weights.reshape(n, -1) if weights.ndim == 1 and weights.size % n == 0 else weights
    before = _before(chain, weights.shape[-1] if weights.ndim else 0, where)
    chain.shape, chain.flat = (n,), False
    allowed = f"(n_out, n_in) = ({n}, {before})"
    good = SHAPE.check(
        problems, weights.shape == (n, before), f"{where}, weight", weights.shape, allowed=allowed
    )
    own = layer.integers("weight_rec") if recurrent else np.zeros((n, 0), dtype=np.int64)
    own = own.reshape(n, -1) if own.size % n == 0 else own
    fits = not recurrent or own.shape == (n, n)
    good &= SHAPE.check(problems, fits, f"{where}, weight_rec", own.shape, allowed=f"({n}, {n})")
    neurons = parts(layer, biases(layer, n, problems), problems)
    shifted = shift_left(np.hstack([weights, own])) if good else None
    if good and shifted is None:
        problems.note(NOTHING.broken(f"{where}, weight", f"{weights.min()} to {weights.max()}"))
    if neurons is not None and shifted is not None:
        delays = _delays(layer, (n, before), problems)
        source = chain.source
        chain.layers.append((name, (n,), neurons))
        chain.adds_up = "neuron" not in layer
        if delays is not None and recurrent:
            RECURRENT_DELAY.check(problems, n == before, f"{where}, delay", "delays in a recurrent layer")
        _connect(chain, source, shifted, before, delays)


def _connect(
    chain: Chain, source: str, shifted: Shifted, before: int, delays: NDArray[np.int64] | None
) -> None:
    """Add the synapses of a dense layer; the first ``before`` columns are those from the layer before."""
    name, exponent = chain.layers[-1][0], shifted.weight_exp
    matrices = [(f"{name}_in", source, shifted.weights[:, :before])]
    if shifted.weights.shape[1] > before:
        matrices.append((f"{name}_rec", name, shifted.weights[:, before:]))
        if delays is not None:  # netx drops the exponent, and has one delay matrix for both
            exponent = 0
    for label, origin, values in matrices:
        effective, mode = lava_reads(values, shifted.num_weight_bits)
        matrix = CsrMatrix.from_dense(effective.astype(np.int16))
        late: Any = 0
        if delays is not None and delays.shape == values.shape:
            late = delays[matrix.row_of(), matrix.indices]
        chain.project((label, origin, name), matrix, mode, exponent, late)


def _before(chain: Chain, n_in: int, where: str) -> int:
    """Number of neurons of the layer before; between conv and dense layers a flatten is required."""
    if chain.shape is None:
        chain.shape = chain.input_shape = (n_in,)
    holds = len(chain.shape) == 1 or chain.flat or not chain.layers
    FLATTEN.check(chain.problems, holds, where, f"dense after a layer of shape {chain.shape}")
    return prod(chain.shape)


def _delays(layer: Group, shape: tuple[int, int], problems: Problems) -> NDArray[np.int64] | None:
    """Delays (n_out, n_in): the file may hold one, one per output or input, or one per synapse."""
    if "delay" not in layer:
        return None
    where = f"{layer.where}, delay"
    delay = np.minimum(layer.integers("delay"), LONGEST_DELAY)
    least = delay.min(initial=0)
    DELAY.check(problems, least >= 0, where, least)
    if delay.shape == (shape[0],):
        delay = delay[:, None]
    if delay.shape not in ((), (shape[1],), (shape[0], 1), shape):
        problems.note(DELAY_SHAPE.broken(where, f"shape {delay.shape}", shape=shape))
        return np.zeros(shape, dtype=np.int64)
    return np.broadcast_to(delay, shape)


def read_conv(chain: Chain, index: int, layer: Group) -> None:
    """Read ``conv`` and ``pool``: a convolution of the layer before; a pool has one kernel for all channels.

    Args:
        chain: the layers before; receives neurons, synapses and problems.
        index: number of the layer in the file, from 0.
        layer: the layer's group.

    Raises:
        InputError: naming a key that netx reads, if it is missing or holds other values than netx reads.
    """
    problems, where = chain.problems, layer.where
    shape = layer.shape()
    before, chain.shape = chain.shape or (), shape
    found = f"after a layer of shape {before}{' and a flatten' if chain.flat else ''}"
    spatial = SPATIAL.check(problems, len(before) == 3 and not chain.flat, where, found)
    convolution = _convolution(layer, before if spatial else None)
    good = spatial and _fits(convolution, before, shape, layer, problems)
    late = "delay" in layer and bool(np.any(layer.integers("delay")))
    CONV_DELAY.check(problems, not late, f"{where}, delay", "delays in a conv layer")
    least, most = convolution.kernel.min(initial=0), convolution.kernel.max(initial=0)
    KERNEL.check(problems, least >= -256 and most <= 255, f"{where}, weight", f"{least} to {most}")
    neurons = parts(layer, biases(layer, shape, problems), problems)
    if not good or neurons is None:
        return
    name, source = f"layer{index}", chain.source
    chain.layers.append((name, shape, neurons))
    chain.adds_up = False
    kernel = convolution.kernel.astype(np.int16)
    weights = ConvolutionWeights(convolution._replace(kernel=kernel), (before[0], before[1], before[2]))
    mode = SignMode.MIXED if weights.data.min(initial=1) < 0 else SignMode.EXCITATORY  # Lava's Conv has none
    chain.project((f"{name}_in", source, name), weights, mode)


def _convolution(layer: Group, before: tuple[int, ...] | None) -> Convolution:
    """The convolution of a layer; a pool's kernel is repeated for the channels of ``before``."""
    kernel = layer.integers("weight")
    kernel = kernel.reshape(kernel.shape[:4])
    pool = layer.text("type") == "pool"
    groups = 1 if pool else layer.integer("groups")
    if pool and before is not None:
        kernel, groups = np.repeat(kernel.reshape(1, 1, *kernel.shape[-2:]), before[0], axis=0), before[0]
    return Convolution(kernel, layer.pair("stride"), layer.pair("padding"), layer.pair("dilation"), groups)


def _fits(
    convolution: Convolution,
    before: tuple[int, ...],
    shape: tuple[int, ...],
    layer: Group,
    problems: Problems,
) -> bool:
    """True if the convolution maps ``before`` to ``shape``; otherwise notes the reason."""
    kernel, groups = convolution.kernel, convolution.groups
    steps = min(*convolution.stride, *convolution.dilation, groups) >= 1 and min(convolution.padding) >= 0
    found = (
        f"stride {convolution.stride}, padding {convolution.padding}, dilation {convolution.dilation},"
        f" {groups} groups"
    )
    good = STEPS.check(problems, steps, layer.where, found)
    good = good and SHAPE.check(
        problems,
        kernel.ndim == 4 and kernel.shape[1] * groups == before[0] and kernel.shape[0] % groups == 0,
        f"{layer.where}, weight",
        f"{kernel.shape} in {groups} groups",
        allowed=f"for {before[0]} channels",
    )
    if not good:
        return False
    made = convolution.output_shape(before)
    allowed = f"{made}, the convolution's"
    return SHAPE.check(problems, made == shape, f"{layer.where}, shape", shape, allowed=allowed)


TYPES: dict[str, Callable[[Chain, int, Group], None]] = {
    "input": read_input,
    "flatten": read_flatten,
    "dense": read_dense,
    "dense_rec": read_dense,
    "conv": read_conv,
    "pool": read_conv,
}
"""Layer type in the file → function of (chain, index, layer)."""
