"""Vector code of the simulator: sums of rows of weights, and the numbers of set bits.

Three instructions of AVX-512 VBMI2 and BW, which LLVM does not find by itself, carry the sparse work where the processor has them:
``vpexpandb`` spreads packed weights over the lanes that a mask names, ``vpcompressb`` packs the numbers of set bits, and
``vpmaddubsw`` adds two rows of int8 into int16 lanes by a multiplication with ones. Elsewhere dense rows are added by LLVM's own operations
on vectors of 256 bits (``PlainTile``).
"""

# numba types this code; mypy reports its casts and intrinsics as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, return-value, unreachable, var-annotated"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config
from numba.extending import intrinsic

from lbi.simulation.records import WORD

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


def has_vectors() -> bool:
    """True if compiled code may use AVX-512 VBMI2 and BW (Intel since Ice Lake, AMD since Zen 4)."""
    chosen = getattr(config, "CPU_FEATURES", None)  # NUMBA_CPU_FEATURES
    features = codegen.get_host_cpu_features() if chosen is None else chosen
    return {"+avx512bw", "+avx512vbmi2"} <= set(features.split(","))


@intrinsic
def with_vectors(context: Any) -> Any:
    """``has_vectors()`` as a constant: machine code is made for one of two branches only.

    Args:
        context: numba's typing context.

    Returns:
        Signature and builder of a bool.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return I1(has_vectors())

    return types.boolean(), build


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A call of an LLVM intrinsic.

    Args:
        builder: LLVM's instruction builder.
        name: name of the intrinsic.
        result: type of the result.
        arguments: LLVM values.

    Returns:
        The result, an LLVM value.
    """
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def shuffled(builder: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    """The vector of the given lanes of two vectors.

    Args:
        builder: LLVM's instruction builder.
        first: a vector.
        second: another of the same type.
        lanes: numbers of lanes, those of ``second`` counted on from those of ``first``.

    Returns:
        A vector of as many lanes as are listed.
    """
    indices = ir.Constant(ir.VectorType(I32, len(lanes)), [I32(lane) for lane in lanes])
    return builder.shuffle_vector(first, second, indices)


def vector_at(builder: Any, array: Any, index: Any, kind: Any) -> Any:
    """A pointer to a vector that begins at an array's element.

    Args:
        builder: LLVM's instruction builder.
        array: a pointer to its first element.
        index: number of the element, an int64 value.
        kind: type of the vector.

    Returns:
        A pointer to ``kind``.
    """
    return builder.bitcast(builder.gep(array, [index]), kind.as_pointer())


@intrinsic
def write_set_bits(context: Any, mask: Any, begin: Any, found: Any, count: Any) -> Any:
    """Write numbers of set bits to an array.

    Up to 15 places behind the last are overwritten.

    Args:
        context: numba's typing context.
        mask: uint64.
        begin: number of the mask's lowest bit.
        found: int32, receives ``begin`` plus the position of each set bit, rising, from ``count`` on.
        count: numbers in ``found`` before.

    Returns:
        Signature and builder of the new count, an int64.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not has_vectors():
            return arguments[3]
        mask, begin, found, count = arguments
        array = context.make_array(signature.args[2])(context, builder, found).data
        bytes_of, ints = ir.VectorType(I8, WORD), ir.VectorType(I32, 16)
        bits = builder.bitcast(mask, ir.VectorType(I1, WORD))
        numbers = ir.Constant(bytes_of, [I8(i) for i in range(WORD)])
        packed = call(
            builder, "llvm.x86.avx512.mask.compress.v64i8", bytes_of, [numbers, bytes_of(None), bits]
        )
        undefined = ints(ir.Undefined)
        base = builder.insert_element(undefined, builder.trunc(begin, I32), I32(0))
        base = shuffled(builder, base, undefined, [0] * 16)
        n_set = builder.ctpop(mask)
        for part in range(4):
            with builder.if_then(builder.icmp_unsigned(">", n_set, I64(16 * part)), likely=part == 0):
                low = shuffled(builder, packed, packed, range(16 * part, 16 * part + 16))
                pointer = vector_at(builder, array, builder.add(count, I64(16 * part)), ints)
                builder.store(builder.add(builder.zext(low, ints), base), pointer, align=4)
        return builder.add(count, n_set)

    return types.int64(types.uint64, types.int64, found, types.int64), build


@intrinsic
def kept_apart(context: Any, value: Any) -> Any:
    """The same integer, hidden from the optimizer: a sum through it is not turned into slow vector gathers.

    Args:
        context: numba's typing context.
        value: a uint64.

    Returns:
        Signature and builder of a uint64.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.asm(ir.FunctionType(I64, [I64]), "", "=r,0", list(arguments), False)

    return types.uint64(types.uint64), build


class Tile:
    """Code for the sums of neighbouring targets over some rows, for weights of one width.

    int8 weights are summed in int16 lanes, int16 weights in int32 lanes.
    """

    def __init__(self, builder: Any, weight: Any, n_words: int) -> None:
        self.builder = builder
        self.weight = weight
        self.lanes = 512 // weight.width
        self.n_words = n_words
        self.per_word = WORD // self.lanes  # vectors per word
        self.parts = n_words * self.per_word
        self.narrow = ir.VectorType(weight, self.lanes)
        self.sum_type = ir.VectorType(ir.IntType(2 * weight.width), self.lanes // 2)
        self.sums = [cgutils.alloca_once(builder, self.sum_type) for _ in range(2 * self.parts)]
        for total in self.sums:
            builder.store(self.sum_type(None), total)

    def loaded(self, weights: Any, at: Any) -> list[Any]:
        """The vectors of a dense row's weights.

        Args:
            weights: pointer to the weights of all rows.
            at: place of the row's first weight in the tile.

        Returns:
            One vector for each part of the tile.
        """
        places = [self.builder.add(at, I64(part * self.lanes)) for part in range(self.parts)]
        return [
            self.builder.load(vector_at(self.builder, weights, place, self.narrow), align=1)
            for place in places
        ]

    def expanded(self, weights: Any, at: Any, words: list[Any]) -> tuple[list[Any], Any]:
        """The vectors of a masked row's weights in their lanes.

        Args:
            weights: pointer to the weights of all rows.
            at: place of the first word's first weight.
            words: masks of the tile's targets, 64 each.

        Returns:
            One vector for each part of the tile, and the place of the next word's first weight.
        """
        builder, vectors = self.builder, []
        name = f"llvm.x86.avx512.mask.expand.v{self.lanes}i{self.weight.width}"
        for part in range(self.parts):
            mask = builder.lshr(words[part // self.per_word], I64(part % self.per_word * self.lanes))
            mask = mask if self.lanes == WORD else builder.trunc(mask, ir.IntType(self.lanes))
            packed = builder.load(vector_at(builder, weights, at, self.narrow), align=1)
            # Through a register: an expansion that reads memory takes five times as long on Zen 4.
            packed = builder.asm(ir.FunctionType(self.narrow, [self.narrow]), "", "=v,0", [packed], False)
            bits = builder.bitcast(mask, ir.VectorType(I1, self.lanes))
            vectors.append(call(builder, name, self.narrow, [packed, self.narrow(None), bits]))
            n_set = builder.ctpop(mask)
            at = builder.add(at, n_set if mask.type == I64 else builder.zext(n_set, I64))
        return vectors, at

    def add_pair(self, first: list[Any], second: list[Any]) -> None:
        """Add two rows: their lanes side by side, times ones, neighbours summed.

        Args:
            first: vectors of a row.
            second: vectors of another row.
        """
        builder = self.builder
        each = 128 // self.weight.width  # lanes in 128 bits, within which the processor interleaves
        name = "llvm.x86.avx512.pmaddubs.w.512" if self.weight.width == 8 else "llvm.x86.avx512.pmaddw.d.512"
        ones = ir.Constant(self.narrow, [self.weight(1)] * self.lanes)
        for part in range(self.parts):
            for half in range(2):
                lanes = [
                    block + half * each // 2 + lane
                    for block in range(0, self.lanes, each)
                    for lane in range(each // 2)
                ]
                both = [number for lane in lanes for number in (lane, self.lanes + lane)]
                mixed = shuffled(builder, first[part], second[part], both)
                total = self.sums[2 * part + half]
                more = call(builder, name, self.sum_type, [ones, mixed])
                builder.store(builder.add(builder.load(total), more), total)

    def add_to(self, goal: Any, factor: Any) -> None:
        """Add the sums times a factor to int32 in the order of the targets.

        Args:
            goal: pointer to the sum of the tile's first target.
            factor: an int32 value, a power of two.
        """
        builder = self.builder
        each, half = 64 // self.weight.width, self.lanes // 2
        many = ir.VectorType(I32, half)
        undefined = many(ir.Undefined)
        shift = builder.insert_element(undefined, builder.cttz(factor, I1(1)), I32(0))
        shifts = shuffled(
            builder, shift, undefined, [0] * half
        )  # a power of two: a shift takes half the time
        place = [
            lane // (2 * each) * each + lane % each + (half if lane % (2 * each) >= each else 0)
            for lane in range(self.lanes)
        ]
        for part in range(self.parts):
            low, high = builder.load(self.sums[2 * part]), builder.load(self.sums[2 * part + 1])
            for k in range(2):
                values = shuffled(builder, low, high, place[k * half : k * half + half])
                if self.weight.width == 8:
                    values = builder.sext(values, many)
                pointer = vector_at(builder, goal, I64(part * self.lanes + k * half), many)
                added = builder.add(builder.load(pointer, align=4), builder.shl(values, shifts))
                builder.store(added, pointer, align=4)


class PlainTile:
    """``Tile`` without instructions of AVX-512: sums of dense rows in the order of the targets."""

    def __init__(self, builder: Any, weight: Any, n_words: int) -> None:
        self.builder = builder
        self.lanes = 128 // weight.width
        self.parts = n_words * WORD // self.lanes
        self.narrow = ir.VectorType(weight, self.lanes)
        self.sum_type = ir.VectorType(ir.IntType(2 * weight.width), self.lanes)
        self.sums = [cgutils.alloca_once(builder, self.sum_type) for _ in range(self.parts)]
        for total in self.sums:
            builder.store(self.sum_type(None), total)

    def loaded(self, weights: Any, at: Any) -> list[Any]:
        """The vectors of a dense row's weights, in wide lanes.

        Args:
            weights: pointer to the weights of all rows.
            at: place of the row's first weight in the tile.

        Returns:
            One vector for each part of the tile.
        """
        builder = self.builder
        places = [builder.add(at, I64(part * self.lanes)) for part in range(self.parts)]
        vectors = [vector_at(builder, weights, place, self.narrow) for place in places]
        return [builder.sext(builder.load(vector, align=1), self.sum_type) for vector in vectors]

    def add_pair(self, first: list[Any], second: list[Any]) -> None:
        """Add two rows.

        Args:
            first: vectors of a row.
            second: vectors of another row.
        """
        builder = self.builder
        for total, one, other in zip(self.sums, first, second, strict=True):
            builder.store(builder.add(builder.add(builder.load(total), one), other), total)

    def add_to(self, goal: Any, factor: Any) -> None:
        """Add the sums times a factor to int32 in the order of the targets.

        Args:
            goal: pointer to the sum of the tile's first target.
            factor: an int32 value.
        """
        builder, many = self.builder, ir.VectorType(I32, self.lanes)
        undefined = many(ir.Undefined)
        factors = shuffled(
            builder, builder.insert_element(undefined, factor, I32(0)), undefined, [0] * self.lanes
        )
        for part, total in enumerate(self.sums):
            values = builder.load(total)
            values = values if self.sum_type == many else builder.sext(values, many)
            pointer = vector_at(builder, goal, I64(part * self.lanes), many)
            added = builder.add(builder.load(pointer, align=4), builder.mul(values, factors))
            builder.store(added, pointer, align=4)
