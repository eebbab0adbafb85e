"""Compiled top-k kernels: the nearest rows of sparse matrices, and means over the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import prange
from scipy.sparse import csr_array, vstack

from m6rec.arrays import Array, Floats
from m6rec.compiled import compiled, plain
from m6rec.models.kernels import CHUNKS, Parts, parts, transposed
from m6rec.pool import Pool, cut


@dataclass(frozen=True)
class Side:
    """One side of a similarity s_ij = scale_i scale_j (x_i · x_j − product_i product_j
    − offset_i − offset_j + constant): each (n,) float32."""

    scale: Array
    product: Array
    offset: Array

    @classmethod
    def of(
        cls,
        scale: Array,
        product: Array | None = None,
        offset: Array | None = None,
    ) -> Side:
        zeros = np.zeros(len(scale), np.float32)
        return cls(
            np.asarray(scale, np.float32),
            zeros if product is None else np.asarray(product, np.float32),
            zeros if offset is None else np.asarray(offset, np.float32),
        )

    def parts(self) -> Parts:
        """Return the arrays in the types that the kernels are compiled for."""
        return (
            plain(self.scale, np.float32),
            plain(self.product, np.float32),
            plain(self.offset, np.float32),
        )

    def rows(self, first: int, last: int) -> Side:
        return Side(self.scale[first:last], self.product[first:last], self.offset[first:last])


def nearest_rows(
    left: csr_array,
    columns: csr_array,
    k: int,
    a: Side,
    b: Side,
    *,
    constant: float = 0.0,
    shrink: float = 0.0,
    itself: bool = True,
    first: int = 0,
) -> csr_array:
    """Return (B, n) float32: for each row of left (B, m) the k nearest columns of (m, n).

    The similarity of ``Side``, times n_ij / (n_ij + shrink), over pairs that share n_ij > 0
    coordinates, if it is above 0. Entries may have any sign. Without ``itself`` the diagonal
    is left out, the first row being the column ``first``. Never holds more than one dense row a
    thread.
    """
    size, value, index = _tables(left.shape[0], min(k, columns.shape[1]))
    unit = bool((left.data == 1).all() and (columns.data == 1).all())
    _nearest_rows(
        *parts(left),
        *parts(columns),
        *a.parts(),
        *b.parts(),
        np.float32(constant),
        np.float32(shrink),
        unit,
        itself,
        first,
        value,
        index,
        size,
    )
    return from_table(value, index, size, columns.shape[1])


def nearest_others(
    rows: csr_array, k: int, a: Side, b: Side, pool: Pool, *, constant: float = 0.0,
    shrink: float = 0.0,
) -> csr_array:  # fmt: skip
    """Return (n, n): for each row (n, m) the k nearest other rows, as of ``nearest_rows``; on a
    cluster, runs of rows of about equal cost are pieces of work."""
    columns = transposed(rows)
    cost = np.add.reduceat(np.r_[np.diff(columns.indptr)[rows.indices], 0], rows.indptr[:-1])
    shared = pool.share(columns), pool.share(b)
    pieces = (
        (rows[first:last], *shared, a.rows(first, last), k, constant, shrink, first)
        for first, last in pairwise(cut(cost * (np.diff(rows.indptr) > 0), pool.size).tolist())
    )
    found = list(pool.map(_nearest_others, pieces))
    return found[0] if len(found) == 1 else csr_array(vstack(found, format="csr"))


def _nearest_others(
    rows: csr_array, columns: csr_array, b: Side, a: Side, k: int, constant: float, shrink: float,
    first: int,
) -> csr_array:  # fmt: skip
    return nearest_rows(
        rows, columns, k, a, b, constant=constant, shrink=shrink, itself=False, first=first
    )


def nearest_rated(
    left: csr_array, columns: csr_array, k: int, *, shrink: float, itself: bool = True
) -> csr_array:
    """Return (B, n) float32: for each row of left (B, m) the k most correlated columns of (m, n).

    s_ij = Σ x y / √(Σ x² Σ y²) · n_ij / (n_ij + shrink), all sums over the n_ij coordinates that
    both have (entries of 0 count as present), if it is above 0.
    """
    size, value, index = _tables(left.shape[0], min(k, columns.shape[1]))
    _nearest_rated(*parts(left), *parts(columns), np.float32(shrink), itself, value, index, size)
    return from_table(value, index, size, columns.shape[1])


def _tables(n: int, k: int) -> tuple[Array, Array, Array]:
    return np.zeros(n, np.int64), np.zeros((n, k), np.float32), np.zeros((n, k), np.int32)


def weighted_means(
    left: csr_array, right: csr_array, k: int, *, value_left: bool
) -> tuple[Floats, Floats]:
    """Return Σ s x and Σ s, dense (B, n), over the k greatest s towards each column.

    For row b and column i the terms are the pairs (left_bj, right_ji): the value x is the left
    entry and the similarity s > 0 the right one, or the other way round.
    """
    shape = (left.shape[0], right.shape[1])
    total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    _weighted_means(*parts(left), *parts(right), k, value_left, total, weight)
    return total, weight


def from_table(value: Array, index: Array, size: Array, n_columns: int) -> csr_array:
    """Return the CSR matrix of rows given as (n, k) tables, of which ``size`` (n,) are filled."""
    filled = np.arange(value.shape[1]) < size[:, None]
    indptr = np.r_[0, np.cumsum(size)]
    matrix = csr_array((value[filled], index[filled], indptr), shape=(len(size), n_columns))
    matrix.sort_indices()
    return matrix


@compiled()
def push(value: Floats, index: Array, size: int, v: float, j: int) -> int:
    """Keep (v, j) if it is among the greatest len(value) so far; a min-heap; return its size."""
    k = len(value)
    if size < k:
        at = size
        while at > 0:
            parent = (at - 1) >> 1
            if value[parent] <= v:
                break
            value[at] = value[parent]
            index[at] = index[parent]
            at = parent
        value[at] = v
        index[at] = j
        return size + 1
    if v <= value[0]:
        return size
    at = 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and value[child + 1] < value[child]:
            child += 1
        if value[child] >= v:
            break
        value[at] = value[child]
        index[at] = index[child]
        at = child
    value[at] = v
    index[at] = j
    return size


@compiled()
def greatest(values: Floats, k: int) -> Array:
    """Return which entries ``push`` keeps of float32 values (m,), in no order."""
    value = np.zeros(k, np.float32)
    index = np.zeros(k, np.int32)
    size = 0
    for j in range(len(values)):
        size = push(value, index, size, values[j], j)
    return index[:size]


@compiled(parallel=True, fastmath=True)
def _nearest_rows(  # type: ignore[no-untyped-def]
    l_ptr, l_idx, l_val, c_ptr, c_idx, c_val,
    l_scale, l_product, l_offset, r_scale, r_product, r_offset,
    constant, shrink, unit, itself, first, value, index, size,
):  # fmt: skip
    n_left, n = len(l_ptr) - 1, len(r_scale)
    for chunk in prange(min(CHUNKS, n_left)):
        dot = np.zeros(n, np.float32)
        shared = np.zeros(1 if unit else n, np.float32)
        touched = np.empty(n, np.int32)
        for i in range(chunk, n_left, CHUNKS):
            n_touched = 0
            for p in range(l_ptr[i], l_ptr[i + 1]):
                u, w = l_idx[p], l_val[p]
                for q in range(c_ptr[u], c_ptr[u + 1]):
                    j = c_idx[q]
                    if (dot[j] if unit else shared[j]) == 0:
                        touched[n_touched] = j
                        n_touched += 1
                    dot[j] += w * c_val[q]
                    if not unit:
                        shared[j] += 1
            filled = 0
            for t in range(n_touched):
                j = touched[t]
                common = dot[j] if unit else shared[j]
                s = dot[j] - l_product[i] * r_product[j] - l_offset[i] - r_offset[j] + constant
                s *= l_scale[i] * r_scale[j] * (common / (common + shrink))
                dot[j] = 0
                if not unit:
                    shared[j] = 0
                if s > 0 and (itself or j != i + first):
                    filled = push(value[i], index[i], filled, s, j)
            size[i] = filled


@compiled(parallel=True)
def _nearest_rated(  # type: ignore[no-untyped-def]
    l_ptr, l_idx, l_val, c_ptr, c_idx, c_val, shrink, itself, value, index, size
):
    n_left, n = len(l_ptr) - 1, 0
    for p in range(len(c_idx)):
        n = max(n, c_idx[p] + 1)
    for chunk in prange(min(CHUNKS, n_left)):
        sums = np.zeros((n, 4), np.float32)  # Σ xy, Σ x², Σ y², n
        touched = np.empty(n, np.int32)
        for i in range(chunk, n_left, CHUNKS):
            n_touched = 0
            for p in range(l_ptr[i], l_ptr[i + 1]):
                u, x = l_idx[p], l_val[p]
                for q in range(c_ptr[u], c_ptr[u + 1]):
                    j, y = c_idx[q], c_val[q]
                    if sums[j, 3] == 0:
                        touched[n_touched] = j
                        n_touched += 1
                    sums[j, 0] += x * y
                    sums[j, 1] += x * x
                    sums[j, 2] += y * y
                    sums[j, 3] += 1
            filled = 0
            for t in range(n_touched):
                j = touched[t]
                xy, xx, yy, common = sums[j, 0], sums[j, 1], sums[j, 2], sums[j, 3]
                sums[j] = 0
                if xy > 0 and (itself or j != i):
                    s = xy / np.sqrt(xx * yy) * (common / (common + shrink))
                    filled = push(value[i], index[i], filled, s, j)
            size[i] = filled


@compiled(parallel=True)
def _weighted_means(  # type: ignore[no-untyped-def]
    l_ptr, l_idx, l_val, r_ptr, r_idx, r_val, k, value_left, total, weight
):
    n_left, n = total.shape
    for chunk in prange(min(CHUNKS, n_left)):
        near = np.zeros((n, k), np.float32)
        place = np.zeros((n, k), np.int32)  # which entry holds the value
        size = np.zeros(n, np.int32)
        for b in range(chunk, n_left, CHUNKS):
            size[:] = 0
            for p in range(l_ptr[b], l_ptr[b + 1]):
                j = l_idx[p]
                for q in range(r_ptr[j], r_ptr[j + 1]):
                    i = r_idx[q]
                    s = r_val[q] if value_left else l_val[p]
                    size[i] = push(near[i], place[i], size[i], s, p if value_left else q)
            for i in range(n):
                for t in range(size[i]):
                    x = l_val[place[i, t]] if value_left else r_val[place[i, t]]
                    total[b, i] += near[i, t] * x
                    weight[b, i] += near[i, t]
