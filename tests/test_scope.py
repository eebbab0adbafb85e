"""Models that sum over histories hear the domains that help, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.schema import Domain
from m6rec.data.vocab import Vocab
from m6rec.errors import ConfigError
from m6rec.models.base import Embeds, Reaches, Recipe
from m6rec.models.graph import Graph
from m6rec.models.linear import GRID, Linear
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.scope import Trials, groups
from m6rec.tracking import Run

RECIPES: list[Any] = [
    Neighbours(scope="auto", k=20),
    Neighbours(scope="auto", by="user", k=20),
    Linear(scope="auto", reg=20.0),
    Graph(scope="auto", dim=8),
]
IDS = [f"{r.kind}-{getattr(r, 'by', '')}" for r in RECIPES]


def told(noise: bool = True, mixed: bool = False) -> Dataset:
    """Films and books of one of eight tastes for each user, books few; and noise, of no taste.
    mixed: the items' codes do not stand in the order of domains."""
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
    n_items = each * len(names)
    code = rng.permutation(n_items) if mixed else np.arange(n_items)
    domain = np.empty(n_items, np.int16)
    domain[code] = np.repeat(np.arange(len(names)), each)
    return Dataset.build(
        user=np.concatenate(user),
        item=code[np.concatenate(item)],
        users=n,
        items=n_items,
        domains=tuple(Domain(name=name) for name in names),
        item_domain=domain,
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_what_helps_is_heard_and_noise_is_not(recipe: Any) -> None:
    data, heard = told(), 0
    for seed in range(4):
        sources = recipe.fit(data, Run(seed=seed, threads=1)).recipe.sources
        assert "films" in sources["books"]
        heard += ("noise" in sources["books"]) + ("noise" in sources["films"])
    assert heard <= 1  # of 8, by a chance of one in twenty each


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_a_domain_is_scored_as_with_its_sources_alone(recipe: Any, mixed: bool) -> None:
    data, run = told(mixed=mixed), Run(threads=1)
    if mixed and isinstance(recipe, Neighbours):
        recipe = replace(recipe, k=1000)  # which of equals is near depends on their order
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
    items = np.tile(np.array([90, 0, 45]), (3, 1))
    query = data.query(users[:3])
    scores = model.score(query, items[0])
    assert np.allclose(scores, found[:3, items[0]], atol=1e-6, equal_nan=True)
    for b, reasons in enumerate(model.explain(query, items)):
        values = np.nan_to_num(scores[b])
        assert np.allclose([sum(r.value for r in cell) for cell in reasons], values, atol=1e-4)
        history = set(query.history[[b]].indices.tolist())
        assert {r.item for cell in reasons for r in cell} <= history


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_new_items_have_no_model(recipe: Any) -> None:
    data = told(mixed=True)
    model = type(recipe)(**{**vars(recipe), "sources": {}}).fit(data, Run(threads=1))
    more = Dataset.build(
        user=np.zeros(0), item=np.zeros(0), users=data.n_users, items=Vocab(["new"]),
        domains=data.domains, item_domain=np.zeros(1),
    )  # fmt: skip
    longer = data.extended(more)
    grown, users = model.update(longer), np.arange(9)
    found, before = grown.score(longer.query(users)), model.score(data.query(users))
    assert np.array_equal(found[:, :-1], before, equal_nan=True)
    assert np.isnan(found[:, -1]).all()
    assert grown.explain(longer.query(users[:1]), np.array([[data.n_items]])) == [[[]]]
    if isinstance(model, Embeds):
        assert not grown.embed_items(0)[-1].any()


def test_what_domains_alone_keep_grows_with_their_items_only() -> None:
    data = told()
    none: dict[str, tuple[str, ...]] = {"films": (), "books": (), "noise": ()}
    model = Graph(scope="auto", dim=8, sources=none).fit(data, Run(threads=1))
    state = model.state()
    assert sum(len(v) for name, v in state.items() if name.endswith("/basis")) == data.n_items
    assert isinstance(model, Embeds) and isinstance(model, Reaches)
    near = Neighbours(scope="auto", sources=none).fit(data, Run(threads=1))
    assert isinstance(near, Reaches) and not isinstance(near, Embeds)
    query = data.query(np.arange(5))
    assert np.array_equal(near.reach(query), np.nan_to_num(near.score(query)))


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
    assert len(groups(data, {})[0]) == 3
    pair = groups(data, {"films": ("books",), "books": ("films",), "noise": ("films",)})
    sizes = sorted(zip(*(side.sum(axis=1).tolist() for side in pair), strict=True))
    assert sizes == [(2, 1), (2, 2)]


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
    assert pair[1].sum(axis=1).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="regs"):
        Linear(regs=regs)


def test_strengths_are_those_that_rank_each_domain_best() -> None:
    data, run = told(), Run(threads=1)
    split = holdout(data, run.rng("holdout"))
    none: dict[str, tuple[str, ...]] = {"films": (), "books": (), "noise": ()}
    together = Linear(scope="auto", reg="auto", sources=none).choose(split, run)
    judges = Trials(split, run).judges
    for d, name in enumerate(none):
        found = {reg: [0.0] for reg in GRID["reg"]}
        for _, judge, here in judges.heard([name]):
            assert here == [name]
            for reg, values in found.items():
                one = Linear(reg=reg, scope="domain").fit(judge.split.train, run)
                values.extend(judge(one, d, (name,)).tolist())
        assert len(found[500.0]) == 1 + len(judges.users[name]) > 2 * len(judges.each[0].rows[d])
        assert together.regs[name] == max(found, key=lambda reg: sum(found[reg]))


def test_only_the_domains_that_are_asked_for_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = told(), Run(threads=1)
    fitted: list[int] = []
    fit = Linear.fit

    def counted(recipe: Linear, train: Dataset, run: Run) -> Any:
        fitted.append(train.n_domains if recipe.scope == "auto" else train.n_items)
        return fit(recipe, train, run)

    monkeypatch.setattr(Linear, "fit", counted)
    trials = Trials(holdout(data, run.rng("holdout")), run)
    given = {"films": (), "books": (), "noise": ("films",)}
    trials.each(Linear(scope="auto", sources=given), "reg", (20.0,))
    assert sorted(fitted) == sorted([40, 40, 80] * len(trials.judges.each))
    fitted.clear()
    trials.sources(Linear(scope="auto", reg=20.0, sources={"films": (), "noise": ()}))
    assert set(fitted) == {40, 80}  # books alone, and with each of the others
    assert len(fitted) in (3 * len(trials.judges.each), 4 * len(trials.judges.each))


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


@pytest.mark.parametrize("recipe", [Linear(scope="auto", reg="auto"), Pct(dim=4)])
def test_two_events_are_enough_to_learn_options_from(recipe: Any) -> None:
    data = Dataset.build(
        user=np.array([0, 0]), item=np.array([0, 1]), users=1, items=2,
        domains=(Domain(name="films"), Domain(name="books")), item_domain=np.array([0, 1]),
    )  # fmt: skip
    model = recipe.fit(data, Run(threads=1))
    assert model.score(data.query(np.array([0]))).shape == (1, 2)
