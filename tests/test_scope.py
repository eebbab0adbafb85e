"""Models that sum over histories hear the domains that help, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain
from m6rec.data.splits import holdout
from m6rec.errors import ConfigError
from m6rec.models.base import Recipe
from m6rec.models.graph import Graph
from m6rec.models.linear import GRID, Linear
from m6rec.models.neighbours import Neighbours
from m6rec.models.scope import groups
from m6rec.models.search import search
from m6rec.tracking import Run

RECIPES: list[Any] = [
    Neighbours(scope="auto", k=20),
    Neighbours(scope="auto", by="user", k=20),
    Linear(scope="auto", reg=20.0),
    Graph(scope="auto", dim=8),
]
IDS = [f"{r.kind}-{getattr(r, 'by', '')}" for r in RECIPES]


def told(noise: bool = True) -> Dataset:
    """Films and books of one of eight tastes for each user, books few; and noise, of no taste."""
    rng = np.random.default_rng(0)
    n, each = 800, 40
    taste = rng.integers(0, 8, n)
    user, item = [], []
    for d, events in enumerate((10, 2, 12) if noise else (10, 2)):
        of = np.repeat(np.arange(n), events)
        own = taste[of] * (each // 8) + rng.integers(0, each // 8, len(of))
        astray = (rng.random(len(of)) < 0.2) if d < 2 else np.ones(len(of), np.bool_)
        user.append(of)
        item.append(d * each + np.where(astray, rng.integers(0, each, len(of)), own))
    names = ("films", "books", "noise")[: len(user)]
    return Dataset.build(
        user=np.concatenate(user),
        item=np.concatenate(item),
        users=n,
        items=each * len(names),
        domains=tuple(Domain(name=name) for name in names),
        item_domain=np.repeat(np.arange(len(names)), each),
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_what_helps_is_heard_and_noise_is_not(recipe: Any) -> None:
    data = told()
    model = recipe.fit(data, Run(threads=1))
    sources = model.recipe.sources
    assert sources["books"] == ("films",)
    assert "noise" not in sources["films"]


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_a_domain_is_scored_as_with_its_sources_alone(recipe: Any) -> None:
    data, run = told(), Run(threads=1)
    sources = {"films": ("books",), "books": ("films",), "noise": ()}
    given = type(recipe)(**{**vars(recipe), "sources": sources})
    model = given.fit(data, run)
    real = data.item_domain < 2
    alone = data.take(real[data.item])
    joint = type(recipe)(**{**vars(recipe), "scope": "all"}).fit(alone, run)
    users = np.arange(50)
    found, expected = model.score(data.query(users)), joint.score(alone.query(users))
    assert np.allclose(found[:, real], expected[:, real], atol=1e-5, equal_nan=True)
    again = given.restore(model.state()).score(data.query(users))
    assert np.array_equal(found, again, equal_nan=True)
    items = np.tile(np.array([0, 45, 90]), (3, 1))
    scores = model.score(data.query(users[:3]), items[0])
    for row, reasons in zip(scores, model.explain(data.query(users[:3]), items), strict=True):
        assert np.allclose([sum(r.value for r in cell) for cell in reasons], row, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_a_domain_alone_abstains_without_history_in_it(recipe: Any) -> None:
    data = told(noise=False)
    given = type(recipe)(**{**vars(recipe), "sources": {"films": (), "books": ("films",)}})
    model: Any = given.fit(data, Run(threads=1))
    films = data.take(data.item_domain[data.item] == 0)
    books = data.take(data.item_domain[data.item] == 1)
    assert np.isnan(model.score(books.query(np.array([3])))[0, :40]).all()
    assert not np.isnan(model.score(films.query(np.array([3])))[0, 40:]).all()


def test_groups_share_what_is_heard_alike() -> None:
    data = told()
    assert len(groups(data, {})) == 3
    pair = groups(data, {"films": ("books",), "books": ("films",), "noise": ("films",)})
    sizes = sorted((int(heard.sum()), int(answered.sum())) for heard, answered in pair)
    assert sizes == [(80, 40), (80, 80)]


def test_a_domain_has_its_own_strength() -> None:
    data, run = told(), Run(threads=1)
    none: dict[str, tuple[str, ...]] = {"films": (), "books": (), "noise": ()}
    regs = {"films": 5.0, "books": 300.0}
    model = Linear(scope="auto", sources=none, reg=40.0, regs=regs).fit(data, run)
    found = model.score(data.query(np.arange(50)))
    for d, reg in enumerate((5.0, 300.0, 40.0)):
        inside = data.item_domain == d
        own = data.take(inside[data.item])
        expected = Linear(reg=reg).fit(own, run).score(own.query(np.arange(50)))
        assert np.allclose(found[:, inside], expected[:, inside], atol=1e-5, equal_nan=True)
    pair = groups(data, {"films": ("books",), "books": ("films",)}, regs)
    assert sorted(int(answered.sum()) for _, answered in pair) == [40, 40, 40]
    with pytest.raises(ValueError, match="regs"):
        Linear(regs=regs)


def test_strengths_are_learned_as_by_each_domain_alone() -> None:
    data, run = told(), Run(threads=1)
    split = holdout(data, run.rng("holdout"), cold_users=0)
    none: dict[str, tuple[str, ...]] = {"films": (), "books": (), "noise": ()}
    together = Linear(scope="auto", reg="auto", sources=none).choose(split, run)
    assert set(together.regs) == set(none)
    for d, name in enumerate(none):
        inside = data.item_domain == d
        alone = replace(
            split, train=split.train.take(inside[split.train.item]),
            test=split.test.take(inside[split.test.item]),
            context=split.context.take(inside[split.context.item]),
        )  # fmt: skip
        grid = {"reg": GRID["reg"]}
        expected = search(Linear(reg="auto"), alone, run, grid, inside)
        assert together.regs[name] == expected.reg


def test_one_domain_needs_no_holdout() -> None:
    data = Dataset.build(user=np.array([0, 1]), item=np.array([0, 1]), users=2, items=2)
    recipe: Recipe = Neighbours(scope="auto")
    assert recipe.fit(data, Run(threads=1)).recipe == Neighbours(
        scope="auto", sources={"items": ()}
    )


def test_a_source_that_there_is_not_is_told() -> None:
    recipe = Linear(scope="auto", reg=20.0, sources={"films": ("bokos",), "books": ()})
    with pytest.raises(ConfigError, match='sources: "bokos" is no domain; did you mean "books"'):
        recipe.fit(told(noise=False), Run())
