"""Candidates: what the exact list holds is among them, whatever is left out or comes later."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import m6rec
from m6rec.candidates import index
from m6rec.candidates.shortlist import Shortlist, Wanted, recalls
from m6rec.candidates.sketch import balanced, best
from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError
from m6rec.models.base import Model, Recipe, updated
from m6rec.rank import top_k
from m6rec.serving.asks import Answer, Ask
from m6rec.serving.engine import Engine
from m6rec.store import Item, Store
from m6rec.tracking import Run
from world import listed, world

LOCAL = {"reg": 0.05, "nu": 1.0, "alpha": 0.2}
PARTS = [
    {"kind": "pct", "dim": 8, "domains": {"films": LOCAL, "books": LOCAL}},
    {"kind": "neighbours", "k": 20},
    {"kind": "graph", "dim": 8},
    {"kind": "popular"},
    {"kind": "window"},
]
OWN = {"scope": "auto", "sources": {"films": ["books"], "books": []}}
APART = [p | OWN if p["kind"] in ("neighbours", "graph") else p for p in PARTS]
WEIGHTS = ((0.3, 0.2, 0.3, 0.1, 0.1),) * 4
N, KNOWN = 400, 396  # the last four items are without events


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world(n_users=300, n_items=N)


@pytest.fixture(scope="module", params=[PARTS, APART], ids=["joint", "apart"])
def parts(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request.param
    return found


@pytest.fixture(scope="module")
def model(data: Dataset, parts: list[dict[str, Any]]) -> Model:
    table = {"kind": "m6rec", "parts": parts, "weights": {"films": WEIGHTS, "books": WEIGHTS}}
    return Recipe.from_table(table).fit(data, Run(seed=1))


@pytest.fixture(scope="module")
def short(model: Model, data: Dataset) -> Shortlist:
    found = Shortlist.of(model, data, 40, dim=16)
    assert found is not None
    return found


def test_the_exact_best_are_among_them(model: Model, data: Dataset, short: Shortlist) -> None:
    query, allowed = data.query(np.arange(50)), np.ones(N, np.bool_)
    exact, _ = top_k(model.score(query), 10, exclude=query.seen)
    found, _ = top_k(short.scores(model, query, 10, allowed, query.seen), 10, exclude=query.seen)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]) >= 0.98


def test_scores_of_candidates_are_exact(model: Model, data: Dataset, short: Shortlist) -> None:
    query, allowed = data.query(np.arange(3)), np.ones(N, np.bool_)
    scores = short.scores(model, query, 10, allowed)
    there = ~np.isnan(scores)
    assert (there.sum(axis=1) >= 40).all() and (there.sum(axis=1) <= 60).all()
    np.testing.assert_allclose(scores[there], model.score(query)[there], rtol=1e-4, atol=1e-5)


def test_guesses_with_long_vectors_are_the_scores(model: Model, data: Dataset) -> None:
    """Without shortening, only rounding tells the guess from the score."""
    whole = Shortlist.of(model, data, 40, dim=1000)
    assert whole is not None
    query = data.query(np.array([7]))
    short = whole.sketch.short(whole.sketch.outline.asked(query))
    (guesses,) = whole.sketch.guesses(short, np.arange(len(whole.sketch.group)))
    exact = model.score(query)[0]
    old = np.bincount(data.item, minlength=N) > 0
    assert np.abs(guesses - exact)[old].max() < 0.02 * np.ptp(exact[old])


def test_what_is_left_out_takes_no_place(model: Model, data: Dataset, short: Shortlist) -> None:
    query = data.query(np.array([0]))
    allowed = np.arange(N) % 3 == 0
    (first,) = short.candidates(query, [Wanted(40, allowed)])
    assert first is not None and 40 <= len(first) <= 60 and allowed[first].all()
    one = query.seen
    (second,) = short.candidates(query, [Wanted(40, allowed, one.indices)])
    assert second is not None and not np.isin(second, one.indices).any()
    few = np.zeros(N, np.bool_)
    few[[5, 80, 399]] = True
    (third,) = short.candidates(query, [Wanted(40, few)])
    assert third is not None and third.tolist() == [5, 80, 399]


def test_new_items_are_candidates(parts: list[dict[str, Any]]) -> None:
    older = listed(world(n_users=300, n_items=N), N)
    silent = older.take(older.item < KNOWN)
    known = listed(silent, KNOWN)
    table = {"kind": "m6rec", "parts": parts, "weights": {"films": WEIGHTS, "books": WEIGHTS}}
    fitted = Recipe.from_table(table).fit(known, Run(seed=1))
    short = Shortlist.of(fitted, known, 40, dim=16)
    assert short is not None
    grown = updated(fitted, silent)
    scores = short.scores(grown, silent.query(np.array([3])), 10, np.ones(N, np.bool_))
    exact = grown.score(silent.query(np.array([3])))
    assert exact.shape == scores.shape == (1, N)
    np.testing.assert_allclose(scores[:, KNOWN:], exact[:, KNOWN:], rtol=1e-4, atol=1e-5)


def test_nobody_is_answered_exactly(model: Model, data: Dataset, short: Shortlist) -> None:
    query = data.query(np.array([-1]))
    assert short.candidates(query, [Wanted(40, np.ones(N, np.bool_))]) == [None]
    scores = short.scores(model, query, 10, np.ones(N, np.bool_))
    np.testing.assert_array_equal(scores, model.score(query))


def test_deep_lists_have_more_candidates(model: Model, data: Dataset, short: Shortlist) -> None:
    scores = short.scores(model, data.query(np.array([0])), 250, np.ones(N, np.bool_))
    assert (~np.isnan(scores)).sum() >= 120


def test_inverted_lists_find_them_too(
    model: Model, data: Dataset, short: Shortlist, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(index, "FEWEST", 100)
    monkeypatch.setattr(index, "LISTS", 0.3)
    listed_too = replace(short, lists=index.Lists(short.sketch, share=0.7))
    query, allowed = data.query(np.arange(20)), np.arange(N) % 5 != 0
    assert recalls(model, listed_too, query, allowed, (80,))[0] >= 0.7
    (codes,) = listed_too.candidates(query.at([0]), [Wanted(40, allowed)])
    assert codes is not None and allowed[codes].all()


def test_without_faiss_it_says_what_to_do(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r'pip install "m6rec\[ann\]"'):
        Shortlist.of(model, data, 40, index="ivf")


def test_it_is_chosen_by_what_it_finds(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m6rec.candidates import shortlist

    assert Shortlist.chosen(model, data, "auto") is None  # few items: exact
    assert Shortlist.chosen(model, data, 0) is None
    monkeypatch.setattr(shortlist, "EXACT", 100)
    monkeypatch.setattr(shortlist, "SIZES", (101, 150, 190))
    found = Shortlist.chosen(model, data, "auto")
    assert found is not None and found.recall >= 0.98
    monkeypatch.setattr(shortlist, "LEAST", 1.01)
    assert Shortlist.chosen(model, data, "auto") is None


def test_ratings_are_scored_exactly() -> None:
    rated = world(explicit=True)
    table = {"kind": "blend", "parts": [{"kind": "popular"}], "weights": {
        "films": ((1.0,),) * 4, "books": ((1.0,),) * 4}}  # fmt: skip
    fitted = Recipe.from_table(table).fit(rated, Run(seed=1))
    assert Shortlist.of(fitted, rated, 10) is None


def test_shortening_keeps_products() -> None:
    rng = np.random.default_rng(0)
    low = rng.standard_normal((5, 30)).astype(np.float32)
    y, x = (rng.standard_normal((200, 5)).astype(np.float32) @ low for _ in range(2))
    turn, back = balanced(y, x, 8)
    assert turn.shape[1] <= 8
    np.testing.assert_allclose((y @ turn) @ (x @ back).T, y @ x.T, atol=0.05)


@pytest.mark.parametrize("n", [1, 10, 600, 2000])
def test_best_are_the_greatest(n: int) -> None:
    rng = np.random.default_rng(n)
    guesses, allowed = rng.standard_normal(1000).astype(np.float32), rng.random(1000) < 0.7
    found = best(guesses, allowed, n)
    order = np.flatnonzero(allowed)[np.argsort(-guesses[allowed])]
    assert set(order[:n]) <= set(found.tolist()) <= set(order[: n + 10].tolist())


def test_the_service_scores_candidates_only(tmp_path: Path) -> None:
    world_ = world(n_users=200, n_items=N)
    frame = pl.DataFrame(
        {
            "user": world_.users.keys.gather(world_.user),
            "item": [key.split("/")[1] for key in world_.items.keys.gather(world_.item)],
            "domain": [key.split("/")[0] for key in world_.items.keys.gather(world_.item)],
            "time": world_.time,
        }
    )
    parts = [{"kind": "pct", "dim": 8, "domains": {"films": LOCAL, "books": LOCAL}}, *PARTS[1:]]
    weights = {"films": WEIGHTS, "books": WEIGHTS}
    run = m6rec.fit(frame, model={"kind": "m6rec", "parts": parts, "weights": weights})
    path = run.save(tmp_path / "run")
    lists = {}
    for candidates in (0, 60):
        store = Store.open(f"sqlite:///{tmp_path / f'{candidates}.db'}")
        engine = Engine(store, path, candidates=candidates)
        store.put_items([Item(key="films/fresh", title="Fresh")])
        asks = [Ask(user=f"u{u}", k=10, explain=False) for u in range(20)]
        answers = [a for a in engine.recommend(asks) if isinstance(a, Answer)]
        assert len(answers) == 20
        lists[candidates] = [{row.item for row in answer.items} for answer in answers]
        books = Ask(user="u1", domain="books", exclude=("books/i300",), k=50, explain=False)
        (some,) = engine.recommend([books])
        assert isinstance(some, Answer) and len(some.items) == 50
        assert all(row.domain == "books" and row.item != "books/i300" for row in some.items)
        lifted = Ask(user="u1", explore=0.5, k=10, explain=False)
        assert isinstance(engine.recommend([lifted])[0], Answer)
        nothing = Ask(user="u1", categories=("none",), diversity=0.5, k=10, explain=False)
        (empty,) = engine.recommend([nothing])
        assert isinstance(empty, Answer) and not empty.items
        engine.close()
        store.close()
    same = [len(a & b) for a, b in zip(lists[0], lists[60], strict=True)]
    assert np.mean(same) >= 9.8


def test_items_of_which_no_part_speaks_are_no_candidates(data: Dataset) -> None:
    silent = data.take(data.item < 380)
    table = {"kind": "blend", "parts": [PARTS[1], PARTS[3]], "weights": {
        "films": ((0.8, 0.2),) * 4, "books": ((0.8, 0.2),) * 4}}  # fmt: skip
    fitted = Recipe.from_table(table).fit(silent, Run(seed=1))
    short = Shortlist.of(fitted, silent, 40, dim=16)
    assert short is not None
    query, everything = silent.query(np.arange(20)), np.ones(N, np.bool_)
    for codes in short.candidates(query, [Wanted(40, everything)] * 20):
        assert codes is not None and len(codes) >= 40 and codes.max() < 380
    assert recalls(fitted, short, query, everything, (150,))[0] >= 0.98
