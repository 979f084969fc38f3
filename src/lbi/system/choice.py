"""A choice between two values in compiled code, whose store is a plain one.

numba makes branches of ``a if c else b``. Where b is what memory holds already, LLVM makes masked stores of it; without
AVX-512 these take about ten times as long as plain ones on AMD processors.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def chosen(typing_context, condition, first, second):
    """``first`` if a boolean condition holds, otherwise ``second``, a number of the same type; both are evaluated.

    Args:
        typing_context: numba's.
        condition: a boolean.
        first: the number if the condition holds.
        second: the number if not.

    Returns:
        The signature and the function that writes the code; None for arguments of other types.
    """
    if not isinstance(first, types.Number) or first != second:
        return None

    def generate(context, builder, sig, args):
        return builder.select(*args)

    return first(types.boolean, first, first), generate


@intrinsic
def written(typing_context, flag, number, held):
    """``number`` where ``flag``, an unsigned integer, is 1, and ``held``, what memory holds, where it is 0.

    Mixed bit by bit: a select of what memory holds would become a masked store again.

    Args:
        typing_context: numba's.
        flag: 0 or 1.
        number: a float.
        held: a float of the same type.

    Returns:
        The signature and the function that writes the code; None for arguments of other types.
    """
    if not isinstance(number, types.Float) or number != held or flag not in types.unsigned_domain:
        return None

    def generate(context, builder, sig, args):
        bits = ir.IntType(number.bitwidth)
        fitted = builder.zext if flag.bitwidth < number.bitwidth else builder.trunc
        mask = builder.neg(args[0] if flag.bitwidth == number.bitwidth else fitted(args[0], bits))
        new, old = (builder.bitcast(value, bits) for value in args[1:])
        mixed = builder.xor(old, builder.and_(builder.xor(new, old), mask))
        return builder.bitcast(mixed, args[1].type)

    return number(flag, number, held), generate
