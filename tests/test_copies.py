"""Near-copies are found among many texts, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec.opinion.copies import Copies

NEWS = (
    "Nokia said on Tuesday that its operating profit rose to 13.1 million euros from 8.7 million "
    "in the third quarter as demand for network equipment in North America recovered"
)
OTHER = (
    "SAP said on Tuesday that its cloud revenue grew by a quarter and confirmed the outlook for "
    "the whole year despite weaker licence sales in Asia and higher costs of its staff"
)
DAY = 86_400


def test_the_first_by_time_counts() -> None:
    texts = [NEWS + ", it said", OTHER, NEWS, NEWS.replace("Tuesday", "tuesday") + "!"]
    assert Copies().first(texts, np.array([20, 5, 10, 30])).tolist() == [2, 1, 2, 2]


def test_what_was_told_before_is_first_whatever_its_time() -> None:
    assert Copies().first([NEWS, NEWS], np.array([20, 10]), settled=1).tolist() == [0, 0]


def test_long_after_is_news_again() -> None:
    texts, copies = [NEWS] * 3, Copies(days=2)
    assert copies.first(texts, np.array([0, DAY, 10 * DAY])).tolist() == [0, 0, 2]


def test_other_figures_in_a_short_text_are_other_news() -> None:
    texts = [
        "Nokia rises 5%",
        "SAP falls 2%",
        "Nokia rises 5%",
        "诺基亚净利润增长",
        "诺基亚净利润下滑",
    ]
    assert Copies().first(texts, np.zeros(5, int)).tolist() == [0, 1, 0, 3, 4]


def test_texts_without_a_word_are_no_copies_of_each_other() -> None:
    assert Copies().first(["", "!", ""], np.zeros(3, int)).tolist() == [0, 1, 2]
    assert Copies().first([], np.zeros(0, int)).tolist() == []


def test_many_copies_of_many_texts() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(4000)])
    base = [" ".join(rng.choice(words, 40)) for _ in range(300)]
    texts = [t for t in base for _ in range(5)]
    texts = [t if i % 5 == 0 else f"{t} extra{i}" for i, t in enumerate(texts)]
    found = Copies().first(texts, np.zeros(len(texts), int))
    assert (found == np.arange(len(texts)) // 5 * 5).all()


@pytest.mark.parametrize(
    "options", [{"similar": 0.0}, {"similar": 1.1}, {"days": 0}, {"hashes": 10, "rows": 4}]
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|multiple"):
        Copies(**options)  # type: ignore[arg-type]
