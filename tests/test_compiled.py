"""Thread limits are given back; CSR structure is sorted without touching the matrix."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.compiled import structure, threads


def test_threads_hold_inside_and_are_given_back() -> None:
    before = numba.get_num_threads()
    with threads(1):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with pytest.raises(RuntimeError), threads(10_000):  # more than there are: all
        raise RuntimeError
    assert numba.get_num_threads() == before


def test_structure_is_sorted_and_leaves_the_matrix_alone() -> None:
    matrix = csr_array(
        (np.ones(3), np.array([2, 0, 1]), np.array([0, 2, 3])),
        shape=(2, 3),
    )
    start, index = structure(matrix)
    assert index.tolist() == [0, 2, 1]
    assert (start.dtype, index.dtype) == (np.int64, np.int32)
    assert matrix.indices.tolist() == [2, 0, 1]
