"""The weights that Lava computes with when it runs a netx layer, which are not always those in the file.

netx shifts a dense layer's matrix left as far as 8 bits go and undoes that with the exponent; Lava then
decides the sign mode itself, clips, and cuts low bits. Convolutions pass unchanged.
Source: lava-dl 0.6.0 ``netx/utils.py::optimize_weight_bits``, ``netx/blocks/process.py``; lava-nc 0.10.0
``utils/weightutils.py``, ``proc/dense/models.py``, ``proc/conv/{models,utils}.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.fixed import SignMode
from lbi.sparse import CsrMatrix

Integers = NDArray[np.int64]


class Shifted(NamedTuple):
    """A dense layer's matrix as netx hands it to Lava."""

    weights: Integers
    weight_exp: int
    num_weight_bits: int


def shift_left(weights: Integers) -> Shifted | None:
    """``optimize_weight_bits``; None where it fails (all zero) or leaves nothing (one sign, beyond 8 bits)."""
    largest, smallest = int(weights.max()), int(weights.min())
    if (largest > 254 and smallest < 0) or (smallest < -256 and largest > 0):
        weights = np.clip(weights, -256, 254)
        largest, smallest = int(weights.max()), int(weights.min())
    signed = 0
    if largest == smallest == 0:
        return None
    if largest < 0:
        scale = -256 / smallest
    elif smallest >= 0:
        scale = 255 / largest
    else:
        signed = 1
        scale = min(127 / largest if largest else np.inf, -128 / smallest)
    shift = int(np.floor(np.log2(scale))) + signed
    if shift < 0:
        return None
    spare = next((n for n in range(8, 0, -1) if not np.any(weights % (1 << n))), 0) - signed
    return Shifted(weights << shift, -shift, 8 - shift - spare)


def lava_reads(weights: Integers, num_weight_bits: int) -> tuple[Integers, SignMode]:
    """What a Lava synapse without a stated sign mode makes of a matrix, and the mode it decides on."""
    if weights.min() >= 0:
        mode = SignMode.EXCITATORY
    elif weights.max() <= 0:
        mode = SignMode.INHIBITORY
    else:
        mode = SignMode.MIXED
    sign = -1 if mode is SignMode.INHIBITORY else 1
    clipped = np.clip(sign * weights, -256 if mode is SignMode.MIXED else 0, 255)
    cut = 8 - num_weight_bits + (1 if mode is SignMode.MIXED else 0)
    if cut < 0:  # numpy's shift left by a negative count leaves nothing
        return np.zeros_like(weights), mode
    return sign * ((clipped >> cut) << cut), mode


class Convolution(NamedTuple):
    """A 2-D convolution in the order of the file: channels, height, width; pairs are (height, width)."""

    kernel: Integers  # (n_out, n_in / groups, height, width)
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(channels, height, width) of the output for an input of that shape."""
        size = [
            (shape[1 + k] + 2 * self.padding[k] - self.dilation[k] * (self.kernel.shape[2 + k] - 1) - 1)
            // self.stride[k]
            + 1
            for k in range(2)
        ]
        return self.kernel.shape[0], size[0], size[1]


def expand(convolution: Convolution, shape: tuple[int, ...]) -> CsrMatrix:
    """The convolution of an input (channels, height, width) as a matrix, zeros of the kernel left out.

    ``out[k, y, x] = Σ kernel[k, c, i, j] · in[c, y · stride + i · dilation − padding, …]``
    """
    from scipy.sparse import coo_matrix

    kernel = convolution.kernel
    n_out, height, width = convolution.output_shape(shape)
    taps, outs, ins = _geometry(convolution, shape, (height, width))
    per_group_out, per_group_in = n_out // convolution.groups, kernel.shape[1]
    values, rows, columns = [], [], []
    for k in range(n_out):
        begin = k // per_group_out * per_group_in
        weights = kernel[k].reshape(per_group_in, -1)[:, taps]  # (channels, taps at places)
        channel, place = np.nonzero(weights)
        values.append(weights[channel, place])
        rows.append(k * height * width + outs[place])
        columns.append((begin + channel) * shape[1] * shape[2] + ins[place])
    matrix = coo_matrix(
        (np.concatenate(values).astype(np.int16), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n_out * height * width, int(np.prod(shape))),
    )
    return CsrMatrix.from_scipy(matrix)


def _geometry(
    convolution: Convolution, shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Every (kernel tap, output place, input place) of one channel that lies inside the input."""
    axes = []
    for k in range(2):
        tap, out = np.meshgrid(np.arange(convolution.kernel.shape[2 + k]), np.arange(size[k]), indexing="ij")
        source = out * convolution.stride[k] + tap * convolution.dilation[k] - convolution.padding[k]
        inside = (source >= 0) & (source < shape[1 + k])
        axes.append((tap[inside], out[inside], source[inside]))
    (tap_y, out_y, in_y), (tap_x, out_x, in_x) = axes
    taps = tap_y[:, None] * convolution.kernel.shape[3] + tap_x
    outs = out_y[:, None] * size[1] + out_x
    ins = in_y[:, None] * shape[2] + in_x
    return (taps.ravel().astype(np.int32), outs.ravel().astype(np.int32), ins.ravel().astype(np.int32))
