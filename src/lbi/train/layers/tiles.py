"""Register tiles of matrix products for compiled kernels: vector code in LLVM's own operations, for any CPU.

A vector holds 64 bytes, in a dense tile half a PANEL. Every sum runs in one fixed order, so the result is independent of how tiles are distributed
over threads; products and sums are fused where the CPU can. Positions and strides are in elements of C-contiguous arrays.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR = 64
"""Bytes of a vector."""

ROWS, PANEL, SIDE = (8, 128, 64) if get_host_cpu_features().get("avx512f") else (4, 64, 32)
"""Rows of a dense tile, the bytes of each (two vectors), and those of a row of a square block to transpose: they fit the registers."""

INT, WORD = ir.IntType(64), ir.IntType(32)


class Vectors:
    """Emits vector operations of one kernel call.

    Args:
        context: numba's target context.
        builder: the LLVM builder.
        dtype: numba's type of the elements.
        size: bytes of a vector.
    """

    def __init__(self, context: Any, builder: Any, dtype: Any, size: int = VECTOR) -> None:
        self.builder = builder
        self.number = context.get_value_type(dtype)
        self.bytes = dtype.bitwidth // 8
        self.lanes = size // self.bytes
        self.type = ir.VectorType(self.number, self.lanes)
        self._add = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.type, [self.type] * 3),
            f"llvm.fmuladd.v{self.lanes}f{dtype.bitwidth}",
        )

    def load(self, data: Any, at: Any) -> Any:
        """The vector of consecutive elements.

        Args:
            data: pointer to an array's first element.
            at: the first element.

        Returns:
            An LLVM vector.
        """
        place = self.builder.bitcast(self.builder.gep(data, [at]), self.type.as_pointer())
        return self.builder.load(place, align=self.bytes)

    def store(self, vector: Any, data: Any, at: Any) -> None:
        """Store a vector to consecutive elements.

        Args:
            vector: an LLVM vector.
            data: pointer to an array's first element.
            at: the first element.
        """
        place = self.builder.bitcast(self.builder.gep(data, [at]), self.type.as_pointer())
        self.builder.store(vector, place, align=self.bytes)

    def spread(self, data: Any, at: Any) -> Any:
        """A vector of one element in every lane.

        Args:
            data: pointer to an array's first element.
            at: the element.

        Returns:
            An LLVM vector.
        """
        value, nothing = self.builder.load(self.builder.gep(data, [at])), ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(nothing, value, WORD(0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(WORD, self.lanes), None))

    def plus_product(self, total: Any, x: Any, y: Any) -> Any:
        """The sum total + x·y.

        Args:
            total: a vector.
            x: a vector.
            y: a vector.

        Returns:
            The sum, rounded once where products and sums are fused.
        """
        return self.builder.call(self._add, [x, y, total])

    def zero(self) -> Any:
        """A vector of 0."""
        return ir.Constant(self.type, None)

    def sums(self, n: int) -> list[Any]:
        """Sums, 0 at the start, which the optimizer keeps in registers.

        Args:
            n: number of sums.

        Returns:
            A pointer to each.
        """
        places = [cgutils.alloca_once(self.builder, self.type) for _ in range(n)]
        for place in places:
            self.builder.store(self.zero(), place)
        return places

    def transposed(self, rows: list[Any]) -> list[Any]:
        """A square block transposed: log2(lanes) perfect shuffles.

        Args:
            rows: as many vectors as a vector has lanes.

        Returns:
            Its columns as vectors.
        """
        n = self.lanes
        for _ in range(n.bit_length() - 1):
            halves = zip(rows[: n // 2], rows[n // 2 :], strict=True)
            rows = [self._interleaved(low, high, start) for low, high in halves for start in (0, n // 2)]
        return rows

    def _interleaved(self, x: Any, y: Any, start: int) -> Any:
        n = self.lanes
        order = [start + i // 2 + n * (i % 2) for i in range(n)]
        mask = ir.Constant(ir.VectorType(WORD, n), order)
        return self.builder.shuffle_vector(x, y, mask)


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


@intrinsic
def dense_tile(typing_context, a, a_at, a_row, a_k, b, b_at, b_k, c, c_at, c_row, n_k, add):
    """c[r, :] = Σ_k a[r, k]·b[k, :] for ROWS rows r of PANEL bytes, added to c if ``add`` is not 0.

    Args:
        typing_context: numba's.
        a: array with element (r, k) of the left factor at ``a_at + r·a_row + k·a_k``.
        a_at: its element (0, 0).
        a_row: elements from row to row.
        a_k: elements from k to k + 1.
        b: array with row k of the right factor at ``b_at + k·b_k``.
        b_at: its row 0.
        b_k: elements from row to row.
        c: array with row r of the product at ``c_at + r·c_row``.
        c_at: its row 0.
        c_row: elements from row to row.
        n_k: terms of each sum.
        add: 0 to overwrite c.

    Returns:
        Signature and builder.
    """
    signature = types.void(a, *[types.int64] * 3, b, *[types.int64] * 2, c, *[types.int64] * 4)

    def generate(context, builder, sig, args):
        a_data, b_data, c_data = (_data(context, builder, sig.args[i], args[i]) for i in (0, 4, 7))
        (_, a_at, a_row, a_k, _, b_at, b_k, _, c_at, c_row, n_k, add) = args
        vectors = Vectors(context, builder, sig.args[0].dtype, PANEL // 2)
        lanes = INT(vectors.lanes)
        sums = vectors.sums(2 * ROWS)
        rows = [builder.add(a_at, builder.mul(a_row, INT(r))) for r in range(ROWS)]
        with cgutils.for_range(builder, n_k, intp=INT) as loop:
            at = builder.add(b_at, builder.mul(loop.index, b_k))
            columns = vectors.load(b_data, at), vectors.load(b_data, builder.add(at, lanes))
            step = builder.mul(loop.index, a_k)
            for r, row in enumerate(rows):
                x = vectors.spread(a_data, builder.add(row, step))
                for place, column in zip(sums[2 * r : 2 * r + 2], columns, strict=True):
                    builder.store(vectors.plus_product(builder.load(place), x, column), place)
        adds = builder.icmp_signed("!=", add, INT(0))
        for i, place in enumerate(sums):
            at = builder.add(
                c_at, builder.add(builder.mul(c_row, INT(i // 2)), builder.mul(lanes, INT(i % 2)))
            )
            with builder.if_then(adds):
                builder.store(builder.fadd(vectors.load(c_data, at), builder.load(place)), place)
            vectors.store(builder.load(place), c_data, at)
        return context.get_dummy_value()

    return signature, generate


def _living_tile(n_vectors: int, n_chains: int) -> Callable[..., Any]:
    """A sparse tile of ``n_vectors`` vectors, each in ``n_chains`` partial sums."""

    @intrinsic
    def tile(typing_context, values, indices, start, stop, x, x_row, out, out_at):
        signature = types.void(values, indices, types.int64, types.int64, x, types.int64, out, types.int64)

        def generate(context, builder, sig, args):
            w, columns, x_data, out_data = (
                _data(context, builder, sig.args[i], args[i]) for i in (0, 1, 4, 6)
            )
            _, _, start, stop, _, x_row, _, out_at = args
            vectors = Vectors(context, builder, sig.args[0].dtype)
            sums = vectors.sums(n_vectors * n_chains)

            def add(k, chain):
                weight = vectors.spread(w, k)
                column = builder.sext(builder.load(builder.gep(columns, [k])), INT)
                at = builder.mul(column, x_row)
                for v in range(n_vectors):
                    place = sums[chain * n_vectors + v]
                    x = vectors.load(x_data, builder.add(at, INT(v * vectors.lanes)))
                    builder.store(vectors.plus_product(builder.load(place), weight, x), place)

            whole = builder.sdiv(builder.sub(stop, start), INT(n_chains))
            with cgutils.for_range(builder, whole, intp=INT) as loop:
                k = builder.add(start, builder.mul(loop.index, INT(n_chains)))
                for chain in range(n_chains):
                    add(builder.add(k, INT(chain)), chain)
            done = builder.add(start, builder.mul(whole, INT(n_chains)))
            with cgutils.for_range(builder, builder.sub(stop, done), intp=INT) as loop:
                add(builder.add(done, loop.index), 0)
            for v in range(n_vectors):
                parts = [builder.load(sums[chain * n_vectors + v]) for chain in range(n_chains)]
                while len(parts) > 1:
                    parts = [builder.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
                vectors.store(parts[0], out_data, builder.add(out_at, INT(v * vectors.lanes)))
            return context.get_dummy_value()

        return signature, generate

    return tile


living_tile_1 = _living_tile(1, 4)
"""out[:] = Σ_k values[k]·x[indices[k], :] for start ≤ k < stop and rows of one vector; ``x_row`` apart."""

living_tile_2 = _living_tile(2, 1)
"""The same for rows of two vectors, in one sum each."""


def _sum_tile(n_vectors: int) -> Callable[..., Any]:
    """A sum of rows of ``n_vectors`` vectors."""

    @intrinsic
    def tile(typing_context, x, x_at, x_row, indices, start, stop, out, out_at, add):
        signature = types.void(
            x, types.int64, types.int64, indices, types.int64, types.int64, out, *[types.int64] * 2
        )

        def generate(context, builder, sig, args):
            x_data, rows, out_data = (_data(context, builder, sig.args[i], args[i]) for i in (0, 3, 6))
            _, x_at, x_row, _, start, stop, _, out_at, add = args
            vectors = Vectors(context, builder, sig.args[0].dtype)
            offsets = [INT(v * vectors.lanes) for v in range(n_vectors)]
            sums = vectors.sums(n_vectors)
            with builder.if_then(builder.icmp_signed("!=", add, INT(0))):
                for place, offset in zip(sums, offsets, strict=True):
                    builder.store(vectors.load(out_data, builder.add(out_at, offset)), place)
            with cgutils.for_range(builder, builder.sub(stop, start), intp=INT) as loop:
                k = builder.add(start, loop.index)
                row = builder.sext(builder.load(builder.gep(rows, [k])), INT)
                at = builder.add(x_at, builder.mul(row, x_row))
                for place, offset in zip(sums, offsets, strict=True):
                    term = vectors.load(x_data, builder.add(at, offset))
                    builder.store(builder.fadd(builder.load(place), term), place)
            for place, offset in zip(sums, offsets, strict=True):
                vectors.store(builder.load(place), out_data, builder.add(out_at, offset))
            return context.get_dummy_value()

        return signature, generate

    return tile


sum_tile_2 = _sum_tile(2)
"""out[:] = Σ_k x[indices[k], :] for start ≤ k < stop, in order, added to out if ``add`` is not 0; row i is at x_at + i·x_row."""

sum_tile_4 = _sum_tile(4)
"""The same for rows of four vectors."""


@intrinsic
def transpose_tile(typing_context, x, x_at, x_row, out, out_at, out_row):
    """out[j, i] = x[i, j] for a square block with rows of SIDE bytes.

    Args:
        typing_context: numba's.
        x: array with the block.
        x_at: the block's first element.
        x_row: elements from row to row.
        out: array that receives the transpose.
        out_at: its first element.
        out_row: elements from row to row.

    Returns:
        Signature and builder.
    """
    signature = types.void(x, types.int64, types.int64, out, types.int64, types.int64)

    def generate(context, builder, sig, args):
        x_data, out_data = (_data(context, builder, sig.args[i], args[i]) for i in (0, 3))
        _, x_at, x_row, _, out_at, out_row = args
        vectors = Vectors(context, builder, sig.args[0].dtype, SIDE)

        def place(first, row, i):
            return builder.add(first, builder.mul(row, INT(i)))

        rows = [vectors.load(x_data, place(x_at, x_row, i)) for i in range(vectors.lanes)]
        for j, column in enumerate(vectors.transposed(rows)):
            vectors.store(column, out_data, place(out_at, out_row, j))
        return context.get_dummy_value()

    return signature, generate


def _copy(n_vectors: int) -> Callable[..., Any]:
    """A copy of rows of ``n_vectors`` vectors, or for 0 of ROWS elements."""

    @intrinsic
    def copy(typing_context, x, x_at, x_row, out, out_at, out_row, n):
        signature = types.void(x, types.int64, types.int64, out, *[types.int64] * 3)

        def generate(context, builder, sig, args):
            x_data, out_data = (_data(context, builder, sig.args[i], args[i]) for i in (0, 3))
            _, x_at, x_row, _, out_at, out_row, n = args
            vectors = Vectors(context, builder, sig.args[0].dtype)
            if n_vectors == 0:
                vectors.type = ir.VectorType(vectors.number, ROWS)
            with cgutils.for_range(builder, n, intp=INT) as loop:
                source = builder.add(x_at, builder.mul(loop.index, x_row))
                target = builder.add(out_at, builder.mul(loop.index, out_row))
                for v in range(max(1, n_vectors)):
                    offset = INT(v * vectors.lanes)
                    vectors.store(
                        vectors.load(x_data, builder.add(source, offset)),
                        out_data,
                        builder.add(target, offset),
                    )
            return context.get_dummy_value()

        return signature, generate

    return copy


copy_vectors = _copy(2)
"""out[i, :] = x[i, :] for n rows i of two vectors."""

copy_panel = _copy(PANEL // VECTOR)
"""out[i, :] = x[i, :] for n rows i of PANEL bytes."""

copy_rows = _copy(0)
"""out[i, :] = x[i, :] for n rows i of ROWS elements."""


def _four(builder: Any, indices: Any, k: Any) -> list[Any]:
    """The four uint16 indices from element ``k`` on, in one load."""
    place = builder.bitcast(builder.gep(indices, [k]), INT.as_pointer())
    word = builder.load(place, align=2)
    return [builder.and_(builder.lshr(word, INT(16 * i)), INT(0xFFFF)) for i in range(4)]


def _one(builder: Any, indices: Any, k: Any) -> Any:
    return builder.zext(builder.load(builder.gep(indices, [k])), INT)


@intrinsic
def gather_sum(typing_context, x, x_at, indices, start, stop):
    """Σ_k x[x_at + indices[k]] for start ≤ k < stop, in 8 partial sums.

    Args:
        typing_context: numba's.
        x: floats.
        x_at: element that index 0 names.
        indices: uint16.
        start: the first k.
        stop: the k behind the last.

    Returns:
        Signature and builder of the sum.
    """
    signature = x.dtype(x, types.int64, indices, types.int64, types.int64)

    def generate(context, builder, sig, args):
        data, rows = (_data(context, builder, sig.args[i], args[i]) for i in (0, 2))
        _, x_at, _, start, stop = args
        number, base = context.get_value_type(sig.args[0].dtype), builder.gep(data, [x_at])
        sums = [cgutils.alloca_once_value(builder, ir.Constant(number, 0.0)) for _ in range(8)]

        def add(i, place):
            builder.store(builder.fadd(builder.load(place), builder.load(builder.gep(base, [i]))), place)

        whole = builder.sdiv(builder.sub(stop, start), INT(len(sums)))
        with cgutils.for_range(builder, whole, intp=INT) as loop:
            k = builder.add(start, builder.mul(loop.index, INT(len(sums))))
            found = _four(builder, rows, k) + _four(builder, rows, builder.add(k, INT(4)))
            for i, place in zip(found, sums, strict=True):
                add(i, place)
        done = builder.add(start, builder.mul(whole, INT(len(sums))))
        with cgutils.for_range(builder, builder.sub(stop, done), intp=INT) as loop:
            add(_one(builder, rows, builder.add(done, loop.index)), sums[0])
        parts = [builder.load(place) for place in sums]
        while len(parts) > 1:
            parts = [builder.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]

    return signature, generate


@intrinsic
def scatter_add(typing_context, value, indices, start, stop, out, out_at):
    """out[out_at + indices[k]] += value for start ≤ k < stop.

    Args:
        typing_context: numba's.
        value: a float.
        indices: uint16, all different.
        start: the first k.
        stop: the k behind the last.
        out: floats.
        out_at: element that index 0 names.

    Returns:
        Signature and builder.
    """
    signature = types.void(value, indices, types.int64, types.int64, out, types.int64)

    def generate(context, builder, sig, args):
        rows, data = (_data(context, builder, sig.args[i], args[i]) for i in (1, 4))
        value, _, start, stop, _, out_at = args
        base = builder.gep(data, [out_at])

        def add(indices):
            places = [builder.gep(base, [i]) for i in indices]
            for total, place in [(builder.fadd(builder.load(x), value), x) for x in places]:
                builder.store(total, place)

        whole = builder.sdiv(builder.sub(stop, start), INT(4))
        with cgutils.for_range(builder, whole, intp=INT) as loop:
            add(_four(builder, rows, builder.add(start, builder.mul(loop.index, INT(4)))))
        done = builder.add(start, builder.mul(whole, INT(4)))
        with cgutils.for_range(builder, builder.sub(stop, done), intp=INT) as loop:
            add([_one(builder, rows, builder.add(done, loop.index))])
        return context.get_dummy_value()

    return signature, generate
