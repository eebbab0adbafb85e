"""Vectors in one byte a number: how near they are, and that products depend on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import random_array

from m6rec.models.rounded import Rounded

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((3000, 40), dtype=np.float32) * RNG.random((3000, 1), np.float32)
VECTORS = RNG.standard_normal((5, 40), dtype=np.float32)


def products(rounded: Rounded, vectors: np.ndarray) -> np.ndarray:
    out = np.zeros((len(vectors), len(rounded.codes)), np.float32)
    rounded.add_products(vectors, out)
    return out


def test_a_number_is_off_by_a_254th_of_the_greatest_of_its_row_at_most() -> None:
    rounded = Rounded.of(MATRIX)
    most = np.abs(MATRIX).max(axis=1, keepdims=True) / 254
    assert (np.abs(rounded.matrix - MATRIX) <= most * 1.001).all()
    assert rounded.codes.dtype == np.int8


def test_products_are_those_of_the_rounded_matrix() -> None:
    rounded = Rounded.of(MATRIX)
    expected = VECTORS @ rounded.matrix.T
    np.testing.assert_allclose(products(rounded, VECTORS), expected, atol=1e-4 * expected.max())
    out = np.ones((5, 3000), np.float32)
    rounded.add_products(VECTORS, out)
    np.testing.assert_allclose(out, expected + 1, atol=1e-4 * expected.max())


def test_a_batch_is_the_same_as_one_by_one_and_some_as_all() -> None:
    rounded = Rounded.of(MATRIX)
    together = products(rounded, VECTORS)
    alone = np.concatenate([products(rounded, VECTORS[b : b + 1]) for b in range(5)])
    np.testing.assert_array_equal(together, alone)
    some = RNG.permutation(3000)[:777]
    np.testing.assert_array_equal(products(rounded.take(some), VECTORS), together[:, some])


def test_sums_of_rows_and_scaled_rows() -> None:
    by = RNG.random(3000, np.float32)
    rounded = Rounded.of(MATRIX).scaled(by)
    left = random_array((4, 3000), density=0.01, format="csr", dtype=np.float32, rng=RNG)
    expected = left @ rounded.matrix
    np.testing.assert_allclose(rounded.summed(left), expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 516, 2000])
def test_the_greatest_sums_fit(width: int) -> None:
    rounded = Rounded.of(np.full((2, width), -3, np.float32))
    found = products(rounded, np.full((1, width), 7, np.float32))
    np.testing.assert_allclose(found, -21 * width, rtol=1e-3)


def test_nothing_is_nothing() -> None:
    assert (products(Rounded.of(np.zeros((3, 4), np.float32)), VECTORS[:, :4]) == 0).all()
    assert (products(Rounded.of(MATRIX), np.zeros((1, 40), np.float32)) == 0).all()
    assert products(Rounded.of(MATRIX[:0]), VECTORS).shape == (5, 0)
