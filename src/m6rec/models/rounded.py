"""Vectors of many items in one byte a number: a quarter of the memory that each request reads."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Scores
from m6rec.compiled import compiled, plain
from m6rec.models.kernels import parts

MOST = 127  # of a number; the greatest of each row becomes this
BLOCK = 16  # rows that a core holds in its first cache
CHUNK = 1024  # rows that are dealt out to threads
WORD = 2**31 - 1  # sums are of 32 bits


class Rounded(NamedTuple):
    """The matrix (n, d) of codes_ij · scale_i. codes: (n, d) int8; scale: (n,) float32.

    Products with it are sums of integers, so they do not depend on the batch or the threads: the
    other factor is rounded too, to 15 bits where d is at most 516.
    """

    codes: Array
    scale: Floats

    @classmethod
    def of(cls, matrix: Floats) -> Self:
        """Round a matrix (n, d): by 1/254 of the greatest number of each row at most."""
        scale = np.abs(matrix).max(axis=1, initial=0) / MOST
        codes = np.rint(matrix / np.where(scale > 0, scale, 1)[:, None])
        return cls(codes.astype(np.int8), scale.astype(np.float32))

    def scaled(self, by: Floats) -> Self:
        """Return the matrix with its rows multiplied by ``by`` (n,)."""
        return self._replace(scale=self.scale * by)

    def take(self, at: Array) -> Self:
        """Return the rows at these places (m,)."""
        return type(self)(self.codes[at], self.scale[at])

    @property
    def matrix(self) -> Floats:
        """The numbers that this stands for, (n, d) float32."""
        found: Floats = self.codes * self.scale[:, None]
        return found

    def summed(self, left: csr_array) -> Floats:
        """Return left (B, n) times the matrix: (B, d) float32."""
        out = np.zeros((left.shape[0], self.codes.shape[1]), np.float32)
        _sum(*parts(left), self.codes, self.scale, out)
        return out

    def add_products(self, vectors: Floats, out: Scores) -> None:
        """Add to out (B, n) the products of vectors (B, d) with each row."""
        _add_products(*_whole(vectors), self.codes, self.scale, out)

    def add_by_group(
        self, vectors: Floats, offset: Floats, group: Ids, at: Ids, out: Scores
    ) -> None:
        """Add to out (B, m) the products of the rows ``at`` (m,), each with the vector (B, G, d)
        of its group (n,), and the offset (B, G) of that."""
        whole, scale = _whole(vectors.reshape(-1, vectors.shape[2]))
        whole, scale = whole.reshape(vectors.shape), scale.reshape(offset.shape)
        codes = plain(at, np.int64)
        _add_by_group(whole, scale, offset, self.codes, self.scale, group, codes, out)


def _whole(vectors: Floats) -> tuple[Array, Floats]:
    """Vectors (B, d) as whole numbers of 16 bits, and the scale (B,) of each."""
    most = min(2**15 - 1, WORD // (MOST * max(1, vectors.shape[1])))
    scale = np.abs(vectors).max(axis=1, initial=0) / np.float32(most)
    whole = np.rint(vectors / np.where(scale > 0, scale, 1)[:, None]).astype(np.int16)
    return whole, scale


@compiled(parallel=True)
def _sum(l_ptr, l_idx, l_val, codes, scale, out):  # type: ignore[no-untyped-def]
    for b in prange(out.shape[0]):
        row = out[b]
        for p in range(l_ptr[b], l_ptr[b + 1]):
            i = l_idx[p]
            w = l_val[p] * scale[i]
            for d in range(len(row)):
                row[d] += w * codes[i, d]


@compiled()
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = np.int32(0)
    for d in range(len(a)):  # one instruction multiplies and adds 16 pairs of this form
        total = np.int32(total + np.int32(np.int32(a[d]) * np.int32(b[d])))
    return total


@compiled(parallel=True)
def _add_products(vectors, vector_scale, codes, scale, out):  # type: ignore[no-untyped-def]
    n, dim = codes.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        wide = np.empty((BLOCK, dim), np.int16)  # of a block, once for all vectors
        end = min(n, chunk * CHUNK + CHUNK)
        if len(vectors) == 1:
            for i in range(chunk * CHUNK, end):
                out[0, i] += _dot(vectors[0], codes[i]) * (scale[i] * vector_scale[0])
            continue
        for first in range(chunk * CHUNK, end, BLOCK):
            size = min(BLOCK, n - first)
            for i in range(size):
                for d in range(dim):
                    wide[i, d] = codes[first + i, d]
            for b in range(len(vectors)):
                for i in range(size):
                    product = _dot(vectors[b], wide[i])
                    out[b, first + i] += product * (scale[first + i] * vector_scale[b])


@compiled(parallel=True)
def _add_by_group(vectors, vector_scale, offset, codes, scale, group, at, out):  # type: ignore[no-untyped-def]
    m = len(at)
    for chunk in prange((m + CHUNK - 1) // CHUNK):
        for c in range(chunk * CHUNK, min(m, chunk * CHUNK + CHUNK)):
            i = at[c]
            g = group[i]
            for b in range(len(vectors)):
                product = _dot(vectors[b, g], codes[i])
                out[b, c] += product * (scale[i] * vector_scale[b, g]) + offset[b, g]
