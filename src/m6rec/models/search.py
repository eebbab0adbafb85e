"""Options left "auto": tried one by one on a holdout of train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Mask
from m6rec.data.splits import Split
from m6rec.metrics import ranked
from m6rec.models.base import Model, Recipe
from m6rec.tracking import Run

AUTO = "auto"
ASKED = 2_000  # users of the holdout that are asked
BATCH = 500
R = TypeVar("R", bound=Recipe)


def is_open(recipe: Recipe, grid: Mapping[str, tuple[Any, ...]]) -> bool:
    """Return whether any option of the grid is still "auto"."""
    return any(getattr(recipe, name) == AUTO for name in grid)


def search(
    recipe: R,
    split: Split,
    run: Run,
    grid: Mapping[str, tuple[Any, ...]],
    among: Mask | None = None,
) -> R:
    """Return the recipe with every "auto" option of the grid fixed, in the order of the grid.

    grid: option → candidates, best guess first; an option not reached yet stands at its first.
    Each is set to the candidate with the best NDCG@20 on (at most 2,000 users of) the holdout.
    among: (n_items,) items that are asked for and ranked; None = all.
    """
    names = [name for name in grid if getattr(recipe, name) == AUTO]
    best = replace(recipe, **{name: grid[name][0] for name in names})
    value = None
    for name in names:
        for candidate in grid[name]:
            tried = replace(best, **{name: candidate})
            if tried == best and value is not None:
                continue
            found = quality(tried.fit(split.train, run), split, run, among)
            run.log(kind=recipe.kind, option=name, value=candidate, ndcg=found)
            if value is None or found > value:
                best, value = tried, found
    return best


def quality(model: Model, split: Split, run: Run, among: Mask | None = None) -> float:
    """Return the mean NDCG@20 of implicit test events over the users asked."""
    train = split.train
    targets = split.test.positives
    asked = slice(None) if among is None else among[split.test.item]
    users = np.unique(split.test.user[asked])
    if len(users) > ASKED:
        users = np.sort(run.rng("search").choice(users, ASKED, replace=False))
    allowed = ~(train.hidden | train.explicit)
    items = None if among is None else np.flatnonzero(among)
    if items is not None:
        targets, allowed = csr_array(targets[:, items]), allowed[items]
    values, moments = [np.zeros(0)], split.moments()
    for start in range(0, len(users), BATCH):
        some = users[start : start + BATCH]
        query = split.context.query(some, moments[some])
        seen = query.seen if items is None else csr_array(query.seen[:, items])
        rows = ranked(model.score(query, items), csr_array(targets[some]), seen, allowed)
        values.append(rows.metric("ndcg@20"))
    found = np.concatenate(values)
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
