"""Meaning and spelling side by side."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from m6rec.text import BothEncoder, HashedEncoder, encoder_of, installed
from m6rec.tracking import Run

TEXTS = ["where is my parcel", "我的快递在哪里", "reset the password of model XQ-77", "a lamp"]

pytestmark = pytest.mark.skipif(not installed(), reason='needs pip install "m6rec[text]"')


@pytest.fixture(scope="module")
def encoder() -> object:
    return BothEncoder(words=HashedEncoder(dim=8)).fit_encode(TEXTS, Run(threads=1))[0]


def test_vectors_are_of_length_one_and_nothing_is_nothing(encoder: object) -> None:
    vectors = encoder.encode([*TEXTS, ""])  # type: ignore[attr-defined]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 0], abs=1e-5)
    assert vectors.shape[1] == encoder.dim  # type: ignore[attr-defined]


def test_a_product_name_counts_by_its_spelling(encoder: object) -> None:
    asked, other = encoder.encode(["xq-77", "zz-11"])  # type: ignore[attr-defined]
    target = encoder.encode([TEXTS[2]])[0]  # type: ignore[attr-defined]
    assert asked @ target > other @ target + 0.1


def test_shares_of_words_add_up(encoder: object) -> None:
    parts = encoder.parts(TEXTS[2])  # type: ignore[attr-defined]
    whole = np.sum([share for _, share in parts], axis=0)
    vector = encoder.encode([TEXTS[2]])[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(whole / np.linalg.norm(whole), vector, atol=1e-4)


def test_saved_and_restored(encoder: object) -> None:
    state = {n: np.ascontiguousarray(v) for n, v in encoder.state().items()}  # type: ignore[attr-defined]
    again = encoder.recipe.restore(load(save(state)))  # type: ignore[attr-defined]
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)  # type: ignore[attr-defined]
    assert isinstance(encoder_of("both"), BothEncoder)
