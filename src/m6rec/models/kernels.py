"""Compiled sparse kernels: top-k similar rows, and histories times a sparse item matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Scores
from m6rec.tracking import Run

Function = Callable[..., Any]
Parts = tuple[Array, Array, Array]  # indptr int64, indices int32, data float32
CHUNKS = 64  # rows are dealt out to this many chunks, so that heavy rows spread over threads


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Return numba's njit decorator, cached on disk and typed."""
    decorator: Callable[[Function], Function] = numba.njit(cache=True, **options)
    return decorator


def use_threads(run: Run) -> None:
    """Let the kernels use the threads of this run, as far as the machine has them."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(run.threads, most)))


def parts(matrix: csr_array) -> Parts:
    """Return the arrays of a CSR matrix in the types that the kernels are compiled for."""
    return (
        np.ascontiguousarray(matrix.indptr, np.int64),
        np.ascontiguousarray(matrix.indices, np.int32),
        np.ascontiguousarray(matrix.data, np.float32),
    )


def transposed(matrix: csr_array) -> csr_array:
    """Return the transpose, again by rows and with sorted columns."""
    return csr_array(matrix.T.tocsr())


def similar_rows(
    rows: csr_array,
    k: int,
    *,
    scale: Array,
    product: Array | None = None,
    offset: Array | None = None,
    constant: float = 0.0,
    shrink: float = 0.0,
    group: Array | None = None,
) -> csr_array:
    """Return (n, n) float32: for each row i the k rows j with the greatest positive similarity.

    s_ij = scale_i scale_j (rows_i · rows_j − product_i product_j − offset_i − offset_j
    + constant) · n_ij / (n_ij + shrink), over pairs that share n_ij > 0 columns; s_ii is left
    out. All values of ``rows`` (n, m) must be positive. With ``group`` (n,), only pairs of one
    group count. Never holds more than one row of similarities a thread.
    """
    n = rows.shape[0]
    zeros = np.zeros(n, np.float32)
    columns = transposed(rows)
    value = np.full((n, k), -1.0, np.float32)
    index = np.zeros((n, k), np.int32)
    size = np.zeros(n, np.int64)
    _similar_rows(
        *parts(rows),
        *parts(columns),
        np.asarray(scale, np.float32),
        zeros if product is None else np.asarray(product, np.float32),
        zeros if offset is None else np.asarray(offset, np.float32),
        np.float32(constant),
        np.float32(shrink),
        np.zeros(n, np.int32) if group is None else np.asarray(group, np.int32),
        bool((rows.data == 1).all()),
        value,
        index,
        size,
    )
    return from_table(value, index, size, n)


def from_table(value: Array, index: Array, size: Array, n_columns: int) -> csr_array:
    """Return the CSR matrix of rows given as (n, k) tables, of which ``size`` (n,) are filled."""
    filled = np.arange(value.shape[1]) < size[:, None]
    indptr = np.r_[0, np.cumsum(size)]
    matrix = csr_array((value[filled], index[filled], indptr), shape=(len(size), n_columns))
    matrix.sort_indices()
    return matrix


def times(left: csr_array, right: csr_array) -> Scores:
    """Return the dense product (B, m) of two sparse matrices (B, n) and (n, m)."""
    out = np.zeros((left.shape[0], right.shape[1]), np.float32)
    _times(*parts(left), *parts(right), out)
    return out


def times_gram(left: csr_array, rows: csr_array, columns: csr_array) -> Scores:
    """Return left · rowsᵀ · rows, dense (B, n), for rows (m, n); columns is rows transposed."""
    out = np.zeros((left.shape[0], rows.shape[1]), np.float32)
    _times_gram(*parts(left), *parts(rows), *parts(columns), out)
    return out


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


@compiled(parallel=True, fastmath=True)
def _similar_rows(  # type: ignore[no-untyped-def]
    r_ptr, r_idx, r_val, c_ptr, c_idx, c_val,
    scale, product, offset, constant, shrink, group, unit, value, index, size,
):  # fmt: skip
    n = len(r_ptr) - 1
    for chunk in prange(CHUNKS):
        dot = np.zeros(n, np.float32)
        shared = np.zeros(1 if unit else n, np.float32)
        touched = np.empty(n, np.int32)
        for i in range(chunk, n, CHUNKS):
            n_touched = 0
            for p in range(r_ptr[i], r_ptr[i + 1]):
                u, w = r_idx[p], r_val[p]
                for q in range(c_ptr[u], c_ptr[u + 1]):
                    j = c_idx[q]
                    if dot[j] == 0:
                        touched[n_touched] = j
                        n_touched += 1
                    dot[j] += w * c_val[q]
                    if not unit:
                        shared[j] += 1
            filled = 0
            for t in range(n_touched):
                j = touched[t]
                common = dot[j] if unit else shared[j]
                s = dot[j] - product[i] * product[j] - offset[i] - offset[j] + constant
                s *= scale[i] * scale[j] * (common / (common + shrink))
                dot[j] = 0
                if not unit:
                    shared[j] = 0
                if s > 0 and j != i and group[j] == group[i]:
                    filled = push(value[i], index[i], filled, s, j)
            size[i] = filled


@compiled(parallel=True)
def _times(l_ptr, l_idx, l_val, r_ptr, r_idx, r_val, out):  # type: ignore[no-untyped-def]
    for b in prange(out.shape[0]):
        row = out[b]
        for p in range(l_ptr[b], l_ptr[b + 1]):
            j, w = l_idx[p], l_val[p]
            for q in range(r_ptr[j], r_ptr[j + 1]):
                row[r_idx[q]] += w * r_val[q]


@compiled(parallel=True)
def _times_gram(  # type: ignore[no-untyped-def]
    l_ptr, l_idx, l_val, r_ptr, r_idx, r_val, c_ptr, c_idx, c_val, out
):
    m = len(r_ptr) - 1
    for b in prange(out.shape[0]):
        row = out[b]
        weight = np.zeros(m, np.float32)
        for p in range(l_ptr[b], l_ptr[b + 1]):
            j, w = l_idx[p], l_val[p]
            for q in range(c_ptr[j], c_ptr[j + 1]):
                weight[c_idx[q]] += w * c_val[q]
        for u in range(m):
            w = weight[u]
            if w != 0:
                for q in range(r_ptr[u], r_ptr[u + 1]):
                    row[r_idx[q]] += w * r_val[q]
