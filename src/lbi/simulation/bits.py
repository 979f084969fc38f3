"""Compiled search for nonzero elements: the neurons that spike in a step."""

# numba types this code; mypy reports its casts and intrinsics as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, return-value, unreachable, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lbi.simulation.vectors import with_vectors, write_set_bits
from lbi.system.numba_cache import inlined


@intrinsic
def mask64(context: Any, array: Any, at: Any) -> Any:
    """The mask of 64 elements of an array, counted over all axes, for compiled code.

    Args:
        context: numba's typing context.
        array: C-contiguous, of integers or floats.
        at: the first element.

    Returns:
        Signature and builder of a uint64: bit i is set if element ``at`` + i is not zero.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        element = context.get_data_type(signature.args[0].dtype)
        vector = ir.VectorType(element, 64)
        pointer = builder.bitcast(builder.gep(source.data, [arguments[1]]), vector.as_pointer())
        loaded = builder.load(pointer, align=1)
        compare = builder.icmp_unsigned if isinstance(element, ir.IntType) else builder.fcmp_unordered
        return builder.bitcast(compare("!=", loaded, vector(None)), ir.IntType(64))

    return types.uint64(array, types.int64), build


@intrinsic
def lowest_bit(context: Any, mask: Any) -> Any:
    """The position of the lowest set bit of a nonzero uint64.

    Args:
        context: numba's typing context.
        mask: a uint64 that is not 0.

    Returns:
        Signature and builder of a uint64.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), build


@inlined
def nonzeros(flags: Any, n: int, found: Any) -> int:
    """Write the indices of nonzero values to an array.

    Args:
        flags: uint8.
        n: number of flags, from the first, to look at.
        found: receives the indices, rising; has 16 places more than there are indices.

    Returns:
        The number of indices.
    """
    count = 0
    whole = n - n % 64
    rest = np.uint64(n - whole)
    for begin in range(0, n, 64):
        if begin < whole:
            mask = mask64(flags, begin)
        elif flags.size - begin >= 64:
            mask = mask64(flags, begin) & ((np.uint64(1) << rest) - np.uint64(1))
        elif n >= 64:
            mask = mask64(flags, n - 64) >> (np.uint64(64) - rest)
        else:
            mask = np.uint64(0)
            for i in range(begin, n):
                mask |= np.uint64(flags[i] != 0) << np.uint64(i - begin)
        if with_vectors():
            count = write_set_bits(mask, begin, found, count)
        else:
            while mask != 0:
                found[count] = np.uint64(begin) + lowest_bit(mask)
                count += 1
                mask &= mask - np.uint64(1)
    return count
