"""Claims of compiled code: threads of one region take pieces of work from a shared counter."""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def _fetch_add(typing_context, counter):
    """``counter[0]``, increased by 1 in the same atomic operation; ``counter`` is an int64 array."""
    signature = types.int64(counter)

    def generate(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        first = cgutils.gep(builder, array.data, 0)
        return builder.atomic_rmw("add", first, ir.Constant(ir.IntType(64), 1), "monotonic")

    return signature, generate


@njit(inline="always")
def claim(turns):
    """The number of the next piece of work, counted from 0.

    Args:
        turns: (1,) int64, shared by all threads; 0 at the start.

    Returns:
        The number, which no other thread gets.
    """
    return _fetch_add(turns)
