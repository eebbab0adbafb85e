"""Compiled sparse kernels: histories times a matrix of items."""

from __future__ import annotations

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Scores
from m6rec.compiled import compiled, plain
from m6rec.models.lanes import soon

Parts = tuple[Array, Array, Array]  # indptr int64, indices int32, data float32
AHEAD, LINE = 8, 16  # rows between being asked for and read; numbers of a line of the cache
CHUNKS = 64  # rows are dealt out to this many chunks, so that heavy rows spread over threads


def parts(matrix: csr_array | Parts) -> Parts:
    """Return the arrays of a CSR matrix in the types that the kernels are compiled for; or what
    this returned before, for a matrix that is multiplied at every request."""
    if isinstance(matrix, tuple):
        return matrix
    return (
        plain(matrix.indptr, np.int64),
        plain(matrix.indices, np.int32),
        plain(matrix.data, np.float32),
    )


def row_of(matrix: csr_array) -> Ids:
    """Return the row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), matrix.indptr[1:] - matrix.indptr[:-1])


def compact(matrix: csr_array) -> csr_array:
    """Return the matrix with indices of 32 bits, which the kernels take without a copy."""
    if matrix.nnz < 2**31:
        matrix.indices = matrix.indices.astype(np.int32, copy=False)
        matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    return matrix


def transposed(matrix: csr_array) -> csr_array:
    """Return the transpose, again by rows and with sorted columns."""
    return csr_array(matrix.T.tocsr())


def times(left: csr_array, right: csr_array) -> Scores:
    """Return the dense product (B, m) of two sparse matrices (B, n) and (n, m)."""
    out = np.zeros((left.shape[0], right.shape[1]), np.float32)
    _times(*parts(left), *parts(right), out)
    return out


def times_gram(left: csr_array, rows: csr_array | Parts, columns: csr_array | Parts) -> Scores:
    """Return left · rowsᵀ · rows, dense (B, n), for rows (m, n); columns is rows transposed."""
    by_row, by_column = parts(rows), parts(columns)
    out = np.zeros((left.shape[0], len(by_column[0]) - 1), np.float32)
    _times_gram(*parts(left), *by_row, *by_column, out)
    return out


def times_gram_at(
    left: csr_array, rows: csr_array | Parts, columns: csr_array | Parts, at: Ids
) -> Scores:
    """Return these columns (C,) of ``times_gram``, by whichever way reads less."""
    out = np.zeros((left.shape[0], len(at)), np.float32)
    codes = np.ascontiguousarray(at, np.int32)
    _times_gram_at(*parts(left), *parts(rows), *parts(columns), codes, out)
    return out


def spread(left: csr_array, dense: Floats) -> Floats:
    """Return left (B, n) times a dense matrix (n, d): (B, d) float32."""
    out = np.zeros((left.shape[0], dense.shape[1]), np.float32)
    _spread(*parts(left), plain(dense, np.float32), out)
    return out


def fill_products(left: Floats, right: Floats, at: Ids, scores: Scores) -> None:
    """Write left (B, k) @ right (k, m) into columns ``at`` (m,), increasing, of scores (B, n)."""
    if len(at) and at[-1] - at[0] == len(at) - 1:  # side by side: nothing is copied
        np.matmul(left, right, out=scores[:, at[0] : at[-1] + 1])
    else:
        fill_columns(left @ right, at, scores)


@compiled(parallel=True)
def fill_columns(found, at, scores):  # type: ignore[no-untyped-def]
    """Write (B, m) scores into columns ``at`` (m,) of (B, n)."""
    for b in prange(len(found)):
        for c in range(len(at)):
            scores[b, at[c]] = found[b, c]


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
        count, n = np.empty(m + AHEAD, np.int32), 0  # the rows that count
        for u in range(m):
            count[n] = u
            n += weight[u] != 0
        count[n : n + AHEAD] = 0
        for c in range(n):
            next_ = r_ptr[count[c + AHEAD]]
            for q in (next_, next_ + LINE):
                soon(r_idx, q)
                soon(r_val, q)
            u = count[c]
            for q in range(r_ptr[u], r_ptr[u + 1]):
                row[r_idx[q]] += weight[u] * r_val[q]


@compiled(parallel=True)
def _times_gram_at(  # type: ignore[no-untyped-def]
    l_ptr, l_idx, l_val, r_ptr, r_idx, r_val, c_ptr, c_idx, c_val, at, out
):
    m, n = len(r_ptr) - 1, len(c_ptr) - 1
    pull = 0  # entries in the columns that are asked for
    for i in at:
        pull += c_ptr[i + 1] - c_ptr[i]
    for b in prange(out.shape[0]):
        weight = np.zeros(m, np.float32)
        for p in range(l_ptr[b], l_ptr[b + 1]):
            j, w = l_idx[p], l_val[p]
            for q in range(c_ptr[j], c_ptr[j + 1]):
                weight[c_idx[q]] += w * c_val[q]
        push = 0  # entries in the rows that count
        for u in range(m):
            if weight[u] != 0:
                push += r_ptr[u + 1] - r_ptr[u]
        if push < pull:
            row = np.zeros(n, np.float32)
            for u in range(m):
                w = weight[u]
                if w != 0:
                    for q in range(r_ptr[u], r_ptr[u + 1]):
                        row[r_idx[q]] += w * r_val[q]
            for c in range(len(at)):
                out[b, c] = row[at[c]]
        else:
            for c in range(len(at)):
                for q in range(c_ptr[at[c]], c_ptr[at[c] + 1]):
                    out[b, c] += weight[c_idx[q]] * c_val[q]


@compiled(parallel=True)
def _spread(l_ptr, l_idx, l_val, dense, out):  # type: ignore[no-untyped-def]
    for b in prange(out.shape[0]):
        row = out[b]
        for p in range(l_ptr[b], l_ptr[b + 1]):
            w, source = l_val[p], dense[l_idx[p]]
            for d in range(len(row)):
                row[d] += w * source[d]
