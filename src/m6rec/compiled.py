"""numba's decorator, cached and typed, and the threads of a run for numba and BLAS alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from m6rec.arrays import Array

Function = Callable[..., Any]
WORTH = 2_000_000  # multiplications from which a second thread is worth it

# Threads that wait for each other at the end of a loop sleep; else they spin, for milliseconds
# where other processes want the cores. OpenMP reads this when the first loop begins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Return numba's njit decorator, cached on disk and typed."""
    decorator: Callable[[Function], Function] = numba.njit(cache=True, **options)
    return decorator


@contextmanager
def threads(n: int, work: float = np.inf) -> Iterator[None]:
    """Let numba and BLAS use n threads inside the block, as far as the machine has them; one,
    where a pass over the data is so little work (multiplications) that they would mostly wait for
    each other, for milliseconds where other processes want the cores."""
    n = n if work >= WORTH else 1
    before = numba.get_num_threads()
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(n, most)))
    try:
        with threadpool_limits(n):
            yield
    finally:
        numba.set_num_threads(before)


def plain(array: Array, dtype: Any) -> Array:
    """Return the array as kernels are compiled for: of that type, in C order, and writable; what
    comes from the memory of a cluster is not, and would be compiled for anew."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "W"])


def structure(matrix: csr_array) -> tuple[Array, Array]:
    """Return (indptr int64, indices int32 increasing in each row) of a CSR matrix."""
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    return (
        plain(matrix.indptr, np.int64),
        plain(matrix.indices, np.int32),
    )
