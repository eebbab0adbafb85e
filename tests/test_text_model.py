"""The text model: questions, pooled reading, abstention, reasons, and its place in the default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.schema import Domain
from m6rec.models.base import Reads
from m6rec.models.compose import Blend
from m6rec.models.default import M6Rec, default_parts
from m6rec.models.neighbours import Neighbours
from m6rec.models.popular import Popular
from m6rec.models.text import Text, TextModel
from m6rec.tracking import Run
from world import world

NOBODY = -1
ROBOTS = np.arange(40) % 4 == 1  # items with the words robot, laser, planet


def fitted(data: Dataset, **options: object) -> TextModel:
    """With the hashed encoder, unless an option says otherwise."""
    return Text(**{"encoder": "hashed", "dim": 16} | options).fit(data, Run(seed=1))  # type: ignore[arg-type]


def asked(data: Dataset, *texts: str, user: int = NOBODY) -> Query:
    return replace(data.query(np.full(len(texts), user)), text=texts)


def log(
    items: list[int],
    texts: tuple[str, ...],
    weight: list[float] | None = None,
    ordered: bool = True,
    domains: tuple[Domain, ...] = (Domain(name="a"), Domain(name="b")),
    item_domain: list[int] | None = None,
) -> Dataset:
    """One user who read these items, oldest first."""
    return Dataset.build(
        user=np.zeros(len(items)),
        item=np.array(items),
        users=1,
        items=len(texts),
        weight=None if weight is None else np.array(weight),
        domains=domains,
        item_domain=np.array(item_domain or [0] * len(texts)),
        item_text=texts,
        ordered=ordered,
    )


TEXTS = ("dragon castle", "robot laser", "castle knight dragon", "laser robot beam", "", "dragon")


@pytest.mark.parametrize("encoder", ["hashed", "sentence"])
def test_a_question_is_answered_without_any_history(encoder: str) -> None:
    data = world()
    scores = fitted(data, encoder=encoder).score(
        asked(data, "a robot on the planet", "wedding kiss")
    )
    assert scores[0, ROBOTS].min() > scores[0, ~ROBOTS].max() + 0.5
    assert scores[1, np.arange(40) % 4 == 2].min() > 0.5


def test_words_that_no_item_has_are_not_understood() -> None:
    data = world()
    model = fitted(data)
    query = asked(data, "qqxzv", "", " ?! ", "robot")
    assert model.reads(query).tolist() == [False, False, False, True]
    assert np.isnan(model.score(query)[:3]).all()
    known = asked(data, "qqxzv", user=0)
    np.testing.assert_array_equal(model.score(known), model.score(replace(known, text=None)))
    assert not model.reads(data.query(np.arange(3))).any()


def test_pooled_reading_is_the_formula() -> None:
    data = log([0, 1, 3], TEXTS, weight=[1.0, -1.0, 3.0])
    model = fitted(data, half_life=2.0)
    v = model.vectors
    pooled = 2 ** (-2 / 2) * v[0] - 2 ** (-1 / 2) * v[1] + 2.0 * v[3]
    expected = v @ pooled / np.linalg.norm(pooled)
    expected[4] = np.nan
    np.testing.assert_allclose(model.score(data.query(np.array([0])))[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("ordered", "half_life", "newest_first"),
    [(True, 0.5, True), (True, None, False), (False, 0.5, False)],
)
def test_newest_counts_most_where_there_is_an_order(
    ordered: bool, half_life: float | None, newest_first: bool
) -> None:
    data = log([0, 1], TEXTS, ordered=ordered)
    scores = fitted(data, half_life=half_life).score(data.query(np.array([0])))[0]
    assert (scores[3] > scores[2] + 0.2) == newest_first


def test_negative_feedback_pushes_away() -> None:
    data = log([0, 1], TEXTS, weight=[1.0, -1.0])
    scores = fitted(data).score(data.query(np.array([0])))[0]
    assert scores[5] > 0 > scores[3]


def test_history_bends_the_answer_to_a_question() -> None:
    data = world()
    query = asked(data, "robot", "robot", user=0)  # somebody of the dragons
    alone = fitted(data, history=0.0).score(query)
    both = fitted(data, history=0.5).score(query)
    dragons = np.arange(40) % 4 == 0
    assert both[:, ROBOTS].mean() > both[:, dragons].mean()
    assert both[:, dragons].mean() > alone[:, dragons].mean() + 0.2
    np.testing.assert_allclose(alone, fitted(data).score(asked(data, "robot", "robot")), atol=1e-6)


def test_scope_is_the_domain_of_the_item() -> None:
    data = log([0, 1], TEXTS, item_domain=[0, 0, 0, 1, 1, 1])
    own = fitted(data, scope="domain")
    silent = np.isnan(own.score(data.query(np.array([0])))[0])
    assert silent.tolist() == [False, False, False, True, True, True]
    assert np.isnan(own.score(asked(data, "dragon"))[0]).tolist() == [False] * 4 + [True, False]
    everywhere = fitted(data).score(data.query(np.array([0])))[0]
    assert np.isnan(everywhere).tolist() == [False] * 4 + [True, False]


def test_abstains_in_explicit_domains_and_reads_no_ratings() -> None:
    domains = (Domain(name="a", feedback="explicit"), Domain(name="b"))
    data = log([0, 3], TEXTS, weight=[5.0, 1.0], domains=domains, item_domain=[0, 0, 0, 1, 1, 1])
    model = fitted(data)
    scores = model.score(data.query(np.array([0])))[0]
    assert np.isnan(scores).tolist() == [True, True, True, False, True, False]
    assert scores[3] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("texts", [None, ("",) * 40])
def test_data_without_text(texts: tuple[str, ...] | None) -> None:
    data = replace(world(), item_text=texts)
    model = fitted(data)
    assert np.isnan(model.score(asked(data, "robot", user=0))).all()
    assert model.explain(asked(data, "robot", user=0), np.array([[1, 2]])) == [[[], []]]


@pytest.mark.parametrize("encoder", ["hashed", "sentence"])
@pytest.mark.parametrize("scope", ["all", "domain"])
def test_reasons_are_words_and_history_and_add_up(scope: str, encoder: str) -> None:
    data = world()
    model = fitted(data, scope=scope, encoder=encoder)
    query = asked(data, "castle robot robot", "planet of swords", user=3)
    items = np.array([[1, 25, 38, -1], [0, 4, 21, 17]])
    reasons = model.explain(query, items)
    scores = model.score(query)
    for b, c in np.ndindex(items.shape):
        if items[b, c] >= 0:
            assert sum(r.value for r in reasons[b][c]) == pytest.approx(
                scores[b, items[b, c]], abs=1e-5
            )
    assert reasons[0][3] == []
    words = [r.name for r in reasons[0][0] if r.kind == "text"]
    assert words == ["castle", "robot", "robot"]
    read = {r.item for r in reasons[0][0] if r.kind == "history"}
    inside = data.item_domain == 0 if scope == "domain" else np.ones(40, np.bool_)
    history = query.history[[0]].indices
    assert read == set(history[inside[history]].tolist())


@pytest.mark.parametrize("scope", ["all", "domain"])
def test_embeddings_give_the_scores(scope: str) -> None:
    data = world()
    model = fitted(data, scope=scope)
    query = asked(data, "robot", "", "sword", user=5)
    for domain in range(2):
        inside = data.item_domain == domain
        dot = model.embed_query(query, domain) @ model.embed_items(domain).T
        np.testing.assert_allclose(dot[:, inside], model.score(query)[:, inside], atol=1e-6)
        assert not dot[:, ~inside].any()


def test_a_blend_gives_half_to_what_reads_the_words() -> None:
    data = world()
    rows = {name: ((1.0, 0.0),) * 4 for name in ("films", "books")}
    model = Blend(parts=(Popular(), Text(encoder="hashed", dim=16)), weights=rows).fit(data, Run())
    assert isinstance(model.parts[1], Reads) and not isinstance(model.parts[0], Reads)
    lambdas = model.lambdas(asked(data, "robot", "qqxzv"))
    np.testing.assert_allclose(lambdas[0], 0.5, atol=1e-5)
    np.testing.assert_allclose(lambdas[1, :, 0], 1, atol=1e-5)
    assert model.reads(asked(data, "robot", "qqxzv")).tolist() == [True, False]
    query = asked(data, "robot")
    scores = model.score(query)[0]
    assert ROBOTS[np.argsort(-scores)[:8]].all()
    items = np.array([[1, 2]])
    for c, reasons in enumerate(model.explain(query, items)[0]):
        assert sum(r.value for r in reasons) == pytest.approx(scores[items[0, c]], abs=1e-4)
        assert any(r.kind == "text" and r.name == "robot" for r in reasons)


def test_default_answers_a_question_by_words_not_seeds() -> None:
    data = world()
    assert "text" in [part.kind for part in default_parts(data)]
    for texts in (None, ("same",) * 40):
        plain = default_parts(replace(data, item_text=texts))
        assert "text" not in [part.kind for part in plain]
    parts = (Neighbours(k=10), Popular(), Text(encoder="hashed", dim=16))
    model = M6Rec(parts=parts).fit(data, Run(seed=1))
    scores = model.score(asked(data, "robot"))[0]
    assert scores[ROBOTS].min() > scores[~ROBOTS].max()
    (reasons,) = model.explain(asked(data, "robot"), np.array([[1]]))[0]
    assert any(r.kind == "text" and r.name == "robot" for r in reasons)


def test_options_are_checked() -> None:
    for options in ({"dim": 0}, {"half_life": 0.0}, {"history": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Text(**options)  # type: ignore[arg-type]
