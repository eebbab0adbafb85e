"""The hashed text encoder: likeness, determinism, languages, shares that add up, saved state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from m6rec.text import HashedEncoder, HashedText

TOPICS = (
    "dragon castle sword knight",
    "robot laser planet orbit",
    "手机屏幕破了怎么维修",
    "信用卡额度如何提升",
)
TEXTS = [f"{topic} {n}" for n in range(30) for topic in TOPICS]


@pytest.fixture(scope="module")
def encoder() -> HashedText:
    return HashedEncoder(dim=16).fit(TEXTS)


def test_same_topic_is_nearest(encoder: HashedText) -> None:
    asked = encoder.encode(["a sword in the castle", "laser robots", "维修手机", "提升信用卡额度"])
    nearest = (asked @ encoder.encode(TEXTS).T).argmax(axis=1) % len(TOPICS)
    assert nearest.tolist() == [0, 1, 2, 3]


def test_vectors_have_length_one_or_zero(encoder: HashedText) -> None:
    vectors = encoder.encode([*TEXTS, "", " \n", "!?", "\0"])
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS) + 4, encoder.dim)
    length = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(length[: len(TEXTS)], 1, rtol=1e-5)
    assert (length[len(TEXTS) :] == 0).all()
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_case_width_and_neighbours_make_no_difference(encoder: HashedText) -> None:
    alone = encoder.encode(["dragon castle"])
    again = encoder.encode(["robot", "ＤＲＡＧＯＮ　Castle", "手机"])
    np.testing.assert_allclose(again[1:2], alone, atol=1e-6)


def test_a_misspelt_word_is_still_like_itself(encoder: HashedText) -> None:
    right, wrong, other = encoder.encode(["castle", "castles", "planet"])
    assert right @ wrong > 0.9
    assert right @ wrong > right @ other + 0.5


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="abc dé手机信用卡😀-\0\n", max_size=30))
def test_shares_of_words_add_up(text: str) -> None:
    encoder = _shared()
    shares = [vector for _, vector in encoder.parts(text)]
    total = np.sum(shares, axis=0) if shares else np.zeros(encoder.dim)
    norm = np.linalg.norm(total)
    expected = total / norm if norm > 1e-6 else total
    found = encoder.encode([text])[0]
    if norm > 1e-6:
        np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found, encoder.encode(["手机 dragon", text])[1], atol=1e-6)


_kept: list[HashedText] = []


def _shared() -> HashedText:
    if not _kept:
        _kept.append(
            HashedEncoder(dim=8).fit(["abc d", "é ab c", "手机信用卡", "a b c d", "卡 abc"])
        )
    return _kept[0]


def test_parts_name_the_words(encoder: HashedText) -> None:
    assert [word for word, _ in encoder.parts("Sword, 手机 R2D2!")] == ["sword", "手", "机", "r2d2"]


def test_saved_equals_before(encoder: HashedText) -> None:
    again = encoder.recipe.restore(load(save(encoder.state())))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_same_seed_same_encoder(encoder: HashedText) -> None:
    again = HashedEncoder(dim=16).fit(TEXTS)
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)


def test_no_text_at_all() -> None:
    assert not HashedEncoder(dim=4).fit(["", " "]).encode(["anything"]).any()


def test_long_input_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _shared().encode(TEXTS)
    monkeypatch.setattr("m6rec.text.hashed.BLOCK", 50)
    np.testing.assert_array_equal(_shared().encode(TEXTS), whole)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="dim and buckets"):
        HashedEncoder(dim=0)
