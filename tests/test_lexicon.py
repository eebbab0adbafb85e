"""The finance word list: directions with their measures, negation, comparisons, two languages."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec.opinion.lexicon import LICENCE, NAMES, lexicon, scores


def net(text: str) -> float:
    return sum(value for _, value in lexicon().terms(text))


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.", 1),
        ("Operating profit fell to EUR 8.7 mn from EUR 13.1 mn.", -1),
        ("The net loss narrowed.", 1),
        ("The net loss widened.", -1),
        ("Costs decreased by 5 %.", 1),
        ("Unemployment increased.", -1),
        ("Sales did not improve.", -1),
        ("The results were not weak.", 1),
        ("A profit of EUR 5 mn compared to a loss of EUR 9 mn.", 1),
        ("A loss of EUR 5 mn compared to a profit of EUR 2 mn.", -1),
        ("The net sales were EUR 5 mn, compared with EUR 9 mn in 2009.", -1),
        ("The office is in Helsinki.", 0),
        ("公司净利润同比增长20%", 1),
        ("公司净利润大幅下滑", -1),
        ("亏损收窄", 1),
        ("成本上升", -1),
        ("公司未能实现盈利", -1),
        ("被证监会立案调查", -1),
        ("公司位于上海", 0),
        ("", 0),
    ],
)
def test_what_speaks_for_and_against(text: str, sign: int) -> None:
    assert np.sign(net(text)) == sign


def test_a_measure_stays_on_its_side_of_a_but() -> None:
    assert dict(lexicon().terms("Sales rose but costs grew too")) == {
        "sales rose": 1, "costs grew": -1,
    }  # fmt: skip


def test_terms_are_words_of_the_text() -> None:
    assert lexicon().terms("净利润下滑") == [("净利润下滑", -1)]


def test_features_are_named_and_finite() -> None:
    rows = lexicon().features(["Profit rose, costs fell.", "", "利润增长"])
    assert rows.shape == (3, len(NAMES)) and np.isfinite(rows).all()
    assert rows[0, NAMES.index("better")] == 2 and rows[2, NAMES.index("better")] == 1
    assert not rows[1].any()


def test_the_list_alone_says_which_class() -> None:
    texts = ["Profit rose and orders grew.", "The office is in Helsinki.", "Profit plunged."]
    assert scores(lexicon().features(texts)).argmax(axis=1).tolist() == [2, 1, 0]


def test_the_list_is_large_and_free() -> None:
    assert len(lexicon()) > 1000 and LICENCE == "Apache-2.0"
