"""Reasons: grouped, sorted, with honest shares, in one sentence."""

from __future__ import annotations

from typing import get_args, get_type_hints

import numpy as np
import pytest

from m6rec.arrays import Array, Ids
from m6rec.data.dataset import Dataset
from m6rec.errors import QueryError
from m6rec.explanation import TIES, combine, explain
from m6rec.models.base import Model, Reason
from m6rec.models.compose import Blend, BlendModel
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.towers import Towers
from m6rec.models.transfer import Local
from m6rec.tracking import Run
from m6rec.training.loop import Training
from m6rec.wording import LANGUAGES
from world import world

TITLES = ["Alien (1979)", "Blade Runner", "Brazil", "Heat", "Dune"]


def label(item: int) -> str:
    return TITLES[item]


def test_sentence_of_history_and_popularity() -> None:
    reasons = [
        Reason(kind="popularity", value=0.37),
        Reason(kind="history", item=1, value=0.2),
        Reason(kind="history", item=0, value=0.43),
    ]
    explanation = combine(reasons, 1.0, label)
    assert str(explanation) == (
        "because you liked Alien (1979) and Blade Runner, 63% of all reasons; "
        "because it is popular, 37%"
    )
    assert [c.label for c in explanation.contributions] == [
        "Alien (1979)",
        "popularity",
        "Blade Runner",
    ]


def test_parts_of_a_blend_are_summed() -> None:
    reasons = [
        Reason(kind="history", item=0, value=1.0, part="pct"),
        Reason(kind="history", item=0, value=2.0, part="linear"),
        Reason(kind="history", item=1, value=1.0, part="pct"),
    ]
    first, second = combine(reasons, 4.0, label).contributions
    assert (first.value, first.share, first.parts) == (3.0, 0.75, {"pct": 1.0, "linear": 2.0})
    assert second.parts == {"pct": 1.0}


def test_only_the_largest_are_named() -> None:
    reasons = [Reason(kind="history", item=i, value=5.0 - i) for i in range(5)]
    text = str(combine(reasons, 15.0, label))
    assert text == (
        "because you liked Alien (1979), Blade Runner and Brazil, 80% of all reasons, "
        "and 2 more, 20%"
    )


def test_what_speaks_against_is_said() -> None:
    reasons = [
        Reason(kind="history", item=0, value=3.0),
        Reason(kind="bias", value=-1.0),
    ]
    text = str(combine(reasons, 2.0, label))
    assert text == (
        "because you liked Alien (1979), 75% of all reasons; although it is rated below the average"
    )


def test_the_starting_point_is_one_line_and_no_reason() -> None:
    reasons = [
        Reason(kind="bias", name="average", value=-2.0, part="pct"),
        Reason(kind="history", item=0, value=1.0, part="pct"),
        Reason(kind="bias", name="average", value=-1.0, part="linear"),
        Reason(kind="history", item=1, value=-0.25, part="linear"),
    ]
    explanation = combine(reasons, -2.25, label)
    assert explanation.unexplained == 0
    assert [(c.label, c.share) for c in explanation.contributions] == [
        ("Alien (1979)", 0.8),
        ("Blade Runner", -0.2),
        ("starting point", 0.0),
    ]
    assert explanation.contributions[-1].parts == {"pct": -2.0, "linear": -1.0}
    assert sum(c["value"] for c in explanation.to_json()["contributions"]) == -2.25
    assert str(explanation) == (
        "because you liked Alien (1979), 80% of all reasons; although you liked Blade Runner"
    )
    assert str(combine(reasons[:1], -2.0, label)) == "no reason is known"
    assert str(combine(reasons[3:], -0.25, label)) == "although you liked Blade Runner"


def test_a_gap_is_stated() -> None:
    explanation = combine([Reason(kind="history", item=0, value=0.9)], 1.0, label)
    assert explanation.unexplained == pytest.approx(0.1)
    assert str(explanation).endswith("+0.1 of 1 is not explained")
    assert combine([Reason(kind="history", item=0, value=0.99999)], 1.0, label).unexplained == 0


def test_json_adds_up() -> None:
    reasons = [
        Reason(kind="attribute", name="genre=Sci-Fi", value=0.5),
        Reason(kind="bias", value=-0.2),
    ]
    table = combine(reasons, 0.3, label).to_json()
    assert sum(c["value"] for c in table["contributions"]) == pytest.approx(table["score"])
    assert table["contributions"][0]["label"] == "genre=Sci-Fi"
    assert table["because"].startswith("because of genre=Sci-Fi")


def test_the_same_reasons_in_chinese() -> None:
    reasons = [
        Reason(kind="popularity", value=0.4),
        *(Reason(kind="history", item=i, value=0.4 - 0.1 * i) for i in range(4)),
        Reason(kind="other", name="taste by PCT", value=0.1),
        Reason(kind="other", name="12 similar users", value=0.1),
        Reason(kind="attribute", name="genre=Drama", value=-0.4),
    ]
    english, chinese = (combine(reasons, 1.7, label, language) for language in ("en", "zh"))
    assert str(english) == (
        "because you liked Alien (1979), Blade Runner and Brazil, 45% of all reasons, "
        "and 1 more, 5%; because it is popular, 20%; "
        "because of taste by PCT and 12 similar users, 10%; "
        "although genre=Drama speaks against it; +0.5 of 1.7 is not explained"
    )
    assert str(chinese) == (
        "因为你喜欢「Alien (1979)」、「Blade Runner」和「Brazil」（占全部理由的 45%），"
        "以及另外 1 项（5%）；也因为它很受欢迎（20%）；"
        "也因为从历史推断的口味和口味相近的 12 位用户（10%）；"
        "不过，特征「genre=Drama」对它不利；得分 1.7 中有 +0.5 没有得到解释。"
    )
    assert chinese.to_json()["because"] == str(chinese)
    assert str(combine([], 1.0, label, "zh")) == "没有已知的理由。"


def test_every_language_has_every_phrase() -> None:
    kinds = {*get_args(get_type_hints(Reason)["kind"]), *TIES}
    for say in LANGUAGES.values():
        assert set(say.speaks) == set(say.against) == kinds


def test_an_unknown_language_is_refused_in_one_sentence() -> None:
    data = world()
    model = Popular().fit(data, Run())
    with pytest.raises(QueryError, match=r'^language "zh-CN" is unknown.*\(known: en, zh\)$'):
        explain(model, data.query(np.array([0])), np.array([[3]]), str, "zh-CN")


def test_explain_follows_the_items_asked_for() -> None:
    data = world()
    model = Popular().fit(data, Run())
    items = np.array([[3, -1, 7]])
    ((first, none, last),) = explain(model, data.query(np.array([0])), items, str)
    assert first.score == pytest.approx(model.popularity[3])
    assert last.score == pytest.approx(model.popularity[7])
    assert np.isnan(none.score)
    assert str(none) == "no reason is known"


def test_a_model_without_reasons_is_refused() -> None:
    data = world()

    class Silent(Model):
        recipe = Popular()

        def score(self, query, items=None):  # type: ignore[no-untyped-def]
            return np.zeros((len(query), data.n_items), np.float32)

        def state(self):  # type: ignore[no-untyped-def]
            return {}

    with pytest.raises(QueryError, match="cannot explain"):
        explain(Silent(), data.query(np.array([0])), np.array([[0]]), str)


def fused(data: Dataset) -> BlendModel:
    training = Training(lr=0.01, batch=16)
    towers = Towers(encoder="gru", dim=16, layers=1, epochs=8, training=training)
    options = {domain.name: Local() for domain in data.domains}
    parts = (Pct(dim=8, sweeps=3, domains=options), Neighbours(k=8), towers)
    even = {domain.name: ((1 / 3,) * 3,) * 4 for domain in data.domains}
    return Blend(parts=parts, weights=even).fit(data, Run(threads=1))


def test_deletion_of_named_items_lowers_the_score_most() -> None:
    """Three items leave the history: the greatest reasons, any, or the least. The score of the
    first recommendation falls in that order."""
    data, users, rng = world(), np.arange(120), np.random.default_rng(0)
    blend = fused(data)
    for model in (blend, blend.parts[2]):
        query = data.query(users)
        scores = model.score(query)
        scores[query.history.nonzero()] = -np.inf
        best = scores.argmax(axis=1)
        told = [
            np.array([c.item for c in cell.contributions if c.kind == "history"])
            for (cell,) in explain(model, query, best[:, None], str)
        ]

        def fall(gone: list[Ids], model: Model = model, best: Ids = best) -> Array:
            pairs = users[:, None] * data.n_items + np.stack(gone)
            left = data.take(~np.isin(data.user * data.n_items + data.item, pairs))
            after = model.score(left.query(users))
            return model.score(data.query(users))[users, best] - after[users, best]

        greatest, least = fall([t[:3] for t in told]), fall([t[-3:] for t in told])
        any_ = np.mean([fall([rng.permutation(t)[:3] for t in told]) for _ in range(5)], axis=0)
        assert greatest.mean() > 1.2 * any_.mean() > 1.2 * least.mean()
        assert (greatest > any_).mean() > 0.6
        assert (any_ > least).mean() > 0.6
