"""Signals between neurons: sums of delayed spikes through sparse matrices, plus a constant.

Other frameworks have any number of linear modules between two neuron layers. A ``Signal`` composes them
symbolically into one sparse matrix per source and delay; exact zeros never become synapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, diags, identity

from lbi.errors import InputError, Problems, Rule
from lbi.importers.terms import Term, marked, merged
from lbi.limits import FREE_ELEMENTS
from lbi.network.convolution import Convolution, expand
from lbi.network.convolution_weights import MOST_SYNAPSES, ConvolutionWeights
from lbi.system import memory

DELAYED_BIAS = Rule("delayed-bias", "spikes only", "put the delay before the layer with the bias")
BYTES_PER_SYNAPSE = 150
"""Memory that the import of a large convolution takes for each synapse; 139 were measured for one of 72 million."""

UNROLLED = Rule(
    "unrolled-size",
    "up to {most:,} with the memory that is free, since an import composes layers as matrices",
    "use fewer channels or smaller kernels, or pool or stride before it",
)
SHAPE = Rule("shape-mismatch", "{allowed}", "check the model's shapes, and the input's")


def most_unrolled() -> int:
    """Synapses that a convolution may have: those whose import the free memory holds, and a network's limit at most."""
    free = memory.available()
    return MOST_SYNAPSES if free is None else min(MOST_SYNAPSES, free // BYTES_PER_SYNAPSE)


@dataclass(frozen=True)
class Signal:
    """``Σ matrix · spikes(source, t − delay) + constant``, in C order of its shape.

    Attributes:
        shape: shape of the value.
        terms: at most one per source and delay.
        constant: (n,).
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    constant: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @classmethod
    def spikes(cls, source: str, shape: Sequence[int]) -> Signal:
        """The spikes of a population or of ``"input"``.

        Args:
            source: name of a population.
            shape: its shape.

        Returns:
            The signal.
        """
        shape = tuple(int(size) for size in shape)
        n = prod(shape)
        own = identity(n, format="csr")
        return cls(shape, (Term(source, own, 0, marked(own)),), np.zeros(n))

    @classmethod
    def nothing(cls, shape: Sequence[int]) -> Signal:
        """The zero signal of a shape.

        Args:
            shape: the shape.

        Returns:
            The signal.
        """
        return cls(tuple(shape), (), np.zeros(prod(shape)))

    def __add__(self, other: Signal) -> Signal:
        if self.n != other.n:
            raise _mismatch("a sum", self.shape, other.shape)
        return Signal(self.shape, merged((*self.terms, *other.terms)), self.constant + other.constant)

    def linear(
        self,
        weights: Any,
        bias: ArrayLike | None = None,
        shape: Sequence[int] | None = None,
        pattern: csr_matrix | None = None,
    ) -> Signal:
        """``weights @ self + bias``, with weights (n_out, n) as array or scipy sparse matrix.

        Args:
            weights: (n_out, n) array or scipy sparse matrix.
            bias: n_out numbers in any shape, or None.
            shape: shape of the result, with n_out values; None for (n_out,).
            pattern: (n_out, n), ones where the layer has weights; None for everywhere.

        Returns:
            The signal behind the layer.

        Raises:
            InputError: unless ``weights`` is a matrix with a column per value of the signal, and ``bias`` has n_out numbers.
        """
        if np.ndim(weights) != 2:
            raise _mismatch("weights", ("n_out", self.n), np.shape(weights))
        matrix = csr_matrix(weights, dtype=np.float64)
        pattern = marked(pattern)
        if matrix.shape[1] != self.n:
            raise _mismatch("a linear layer", (matrix.shape[1],), self.shape)
        terms = merged(tuple(term.through(matrix, pattern) for term in self.terms))
        constant = matrix @ self.constant
        if bias is not None:
            added = np.asarray(bias, dtype=np.float64).reshape(-1)
            if added.shape != constant.shape:
                raise _mismatch("a bias", constant.shape, added.shape)
            constant = constant + added
        return Signal(tuple(shape or (matrix.shape[0],)), terms, constant)

    def scaled(self, factors: ArrayLike) -> Signal:
        """The element-wise product with a number or a broadcastable array.

        Args:
            factors: a number, or an array that broadcasts to the signal's shape.

        Returns:
            The product, in the signal's shape.

        Raises:
            InputError: if ``factors`` does not broadcast to the signal's shape.
        """
        each = wide(factors, self.shape)
        if np.all(each == 1):
            return self
        return Signal(self.shape, tuple(term.scaled(each) for term in self.terms), each * self.constant)

    def plus(self, constant: ArrayLike) -> Signal:
        """The element-wise sum with a number or a broadcastable array.

        Args:
            constant: a number, or an array that broadcasts to the signal's shape.

        Returns:
            The sum, in the signal's shape.

        Raises:
            InputError: if ``constant`` does not broadcast to the signal's shape.
        """
        return Signal(self.shape, self.terms, self.constant + wide(constant, self.shape))

    def rows(self, chosen: NDArray[np.intp]) -> Signal:
        """The values at the given indices (C order) as one dimension; the signal itself if these are all.

        Args:
            chosen: indices.

        Returns:
            The signal.
        """
        if chosen.size == self.n:
            return self
        terms = tuple(term.picked(rows=chosen) for term in self.terms)
        return Signal((chosen.size,), terms, self.constant[chosen])

    def reshaped(self, shape: Sequence[int]) -> Signal:
        """The same values in another shape.

        Args:
            shape: as many values.

        Returns:
            The signal.
        """
        return Signal(tuple(int(size) for size in shape), self.terms, self.constant)

    def flattened(self, start: int = 0, end: int = -1) -> Signal:
        """The signal with dimensions ``start`` to ``end`` (inclusive) merged.

        Args:
            start: first dimension.
            end: last dimension.

        Returns:
            The signal.
        """
        start, end = start % len(self.shape), end % len(self.shape)
        middle = prod(self.shape[start : end + 1])
        return self.reshaped((*self.shape[:start], middle, *self.shape[end + 1 :]))

    def delayed(self, steps: ArrayLike) -> Signal:
        """The signal delayed by whole steps, a number or a broadcastable array.

        Args:
            steps: whole steps.

        Returns:
            The signal.

        Raises:
            InputError: if the signal has a constant, which has no beginning, or ``steps`` does not broadcast to its shape.
        """
        late = wide(steps, self.shape).astype(np.int64)
        if np.any(self.constant):
            raise InputError(DELAYED_BIAS.broken("delay", "follows a bias, which has no beginning"))
        terms = []
        for delay in np.unique(late):
            rows = csr_matrix(diags((late == delay).astype(np.float64)))
            rows.eliminate_zeros()
            terms += [t.through(rows, rows)._replace(delay=t.delay + int(delay)) for t in self.terms]
        return Signal(self.shape, merged(tuple(terms)), self.constant)

    def conv2d(
        self,
        kernel: NDArray[Any],
        bias: ArrayLike | None = None,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Signal:
        """The convolution of (channels, height, width) as in torch, with kernel (n_out, channels / groups, h, w).

        Args:
            kernel: (n_out, channels / groups, h, w).
            bias: (n_out,), or None.
            stride: (height, width), or one number for both.
            padding: (height, width) of the zeros on either side, or one number for both.
            dilation: (height, width), or one number for both.
            groups: number of groups of channels.

        Returns:
            The signal of shape (n_out, height, width).

        Raises:
            InputError: unless signal, kernel and bias have these shapes and the output 1 to ``MOST_NEURONS`` values; for a stride,
                padding, dilation or number of groups out of range; for more synapses than ``most_unrolled()``.
        """
        fits = len(self.shape) == 3 and kernel.ndim == 4 and self.shape[0] == kernel.shape[1] * groups
        if not fits or groups < 1 or kernel.shape[0] % groups:
            raise _mismatch("a convolution", ("channels", "height", "width"), self.shape)
        convolution = Convolution(
            np.asarray(kernel, dtype=np.float64), pair(stride), pair(padding), pair(dilation), groups
        )
        convolution.check(self.shape)
        _check_unrolled(convolution, self.shape)
        shape = convolution.output_shape(self.shape)
        matrix, pattern = _unrolled(convolution, self.shape)
        return self.linear(matrix, _per_channel(bias, shape), shape, pattern)

    def conv2d_transposed(
        self,
        kernel: NDArray[Any],
        shape: Sequence[int],
        bias: ArrayLike | None = None,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Signal:
        """The transposed convolution of (channels, height, width) as in torch, with kernel (channels, n_out / groups, h, w).

        Its matrix is that of the convolution that goes from its output to its input, transposed.

        Args:
            kernel: (channels, n_out / groups, h, w).
            shape: (n_out, height, width) of the result, which torch's ``output_padding`` decides.
            bias: (n_out,), or None.
            stride: (height, width), or one number for both.
            padding: (height, width) of the zeros on either side, or one number for both.
            dilation: (height, width), or one number for both.
            groups: number of groups of channels.

        Returns:
            The signal of shape ``shape``.

        Raises:
            InputError: for a signal or bias of another size, a stride, padding or dilation out of range, or too many synapses.
        """
        shape = tuple(int(size) for size in shape)
        back = Convolution(
            np.asarray(kernel, dtype=np.float64), pair(stride), pair(padding), pair(dilation), groups
        )
        back.check(shape)
        _check_unrolled(back, shape)
        reached = back.output_shape(
            shape
        )  # larger than the input where output_padding is not below the stride
        inputs = np.arange(prod(reached)).reshape(reached)[:, : self.shape[1], : self.shape[2]].reshape(-1)
        matrix, pattern = (csr_matrix(found[inputs].T) for found in _unrolled(back, shape))
        return self.linear(matrix, _per_channel(bias, shape), shape, pattern)

    def pool2d(self, kernel: Any, stride: Any, padding: Any = 0, *, mean: bool = False) -> Signal:
        """The sum or mean over windows of each channel.

        Args:
            kernel: (height, width) of the window, or one number for both.
            stride: (height, width), or one number for both.
            padding: (height, width) of the zeros on either side, or one number for both.
            mean: divide by the size of the window, padding included.

        Returns:
            The signal of shape (channels, height, width).

        Raises:
            InputError: unless the signal has three dimensions and the window 1 to ``FREE_ELEMENTS`` positions; and as ``conv2d``.
        """
        height, width = pair(kernel)
        if len(self.shape) != 3 or min(height, width) < 1 or height * width > FREE_ELEMENTS:
            raise _mismatch(
                "a window of a shape", ("channels", "height", "width"), (*self.shape, height, width)
            )
        value = 1.0 / (height * width) if mean else 1.0
        ones = np.full((self.shape[0], 1, height, width), value)
        return self.conv2d(ones, stride=stride, padding=padding, groups=self.shape[0])


def _check_unrolled(convolution: Convolution, shape: tuple[int, ...]) -> None:
    """Raise InputError for a convolution whose synapses would not fit the free memory."""
    channels, height, width = shape
    n_synapses, problems = ConvolutionWeights(convolution, (channels, height, width)).nnz, Problems()
    most = most_unrolled()
    UNROLLED.check(
        problems,
        n_synapses <= most,
        "a convolution",
        f"{n_synapses:,} synapses at its positions",
        most=most,
    )
    problems.raise_as(InputError)


def _unrolled(convolution: Convolution, shape: tuple[int, ...]) -> tuple[csr_matrix, csr_matrix]:
    """The matrix of a convolution, and the places where it has weights, zeros among them."""
    matrix = expand(convolution, shape).to_scipy()
    if np.all(convolution.kernel):
        return matrix, matrix
    whole = convolution._replace(kernel=np.ones(convolution.kernel.shape, dtype=np.int8))
    return matrix, expand(whole, shape).to_scipy()


def _per_channel(bias: ArrayLike | None, shape: Sequence[int]) -> NDArray[np.float64] | None:
    """A bias for each value of (channels, height, width)."""
    return None if bias is None else np.repeat(np.asarray(bias, dtype=np.float64), shape[1] * shape[2])


def wide(values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """One number per value of a shape (C order), from a number or a broadcastable array.

    Args:
        values: a number or an array.
        shape: the shape.

    Returns:
        (n,) float64 in C order of the shape, which may be a read-only view.

    Raises:
        InputError: if ``values`` does not broadcast to the shape.
    """
    array = np.asarray(values, dtype=np.float64)
    try:
        return np.broadcast_to(array, shape).reshape(-1)
    except ValueError as error:
        raise _mismatch("a parameter", shape, array.shape) from error


def pair(value: Any) -> tuple[int, int]:
    """One or two numbers as a pair.

    Args:
        value: one or two numbers.

    Returns:
        The two numbers as ints; a single one twice.

    Raises:
        InputError: for any other number of values.
    """
    values = np.asarray(value).reshape(-1)
    if values.size not in (1, 2):
        raise _mismatch("a convolution's or window's sizes", (2,), values.shape)
    return int(values[0]), int(values[-1])


def _mismatch(where: str, expected: Sequence[Any], found: Sequence[Any]) -> InputError:
    return InputError(SHAPE.broken(where, f"shape {tuple(found)}", allowed=tuple(expected)))
