"""How sure a model is: the chance that its best item is the wanted one, learned on a holdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import familiar, holdout
from m6rec.data.query import Query, ones
from m6rec.data.splits import Split
from m6rec.models.additive import Reasons
from m6rec.models.base import Explains, Model, Reads, Recipe, heard, updated
from m6rec.tracking import Run

ROWS = 3000  # most holdout requests that it is learned from
BATCH = 256
FEWEST = 30  # holdout requests below which confidence is not learned
TEMPERATURES = np.geomspace(0.05, 20, 41)
RIDGE = 1.0  # pull of the coefficients to 0
NOTHING = np.float32(-30)  # log-odds where there is nothing to be sure of


@dataclass(frozen=True, kw_only=True)
class Confident(Recipe):
    """A model that also says how sure it is of its best item; scores are the part's.

    p = σ(w · (1, l, z)), where l is the log-odds of the best item in a softmax of the scores at a
    temperature, and z its score in deviations of all; the temperature (Guo et al. 2017) and w
    (Platt 1999) are learned on the holdout on which the part's options were chosen, which are too
    few to make it look better by much; from requests in words alone, if the data has some.
    ``threshold`` is the least p at which the share of wrong best items among all that are as sure
    was no more than ``risk`` there.

    part: the model. risk: share of wrong answers that is put up with among those that are given.
    """

    kind: ClassVar[str] = "confident"
    part: Recipe
    risk: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.risk < 1:
            raise ValueError(f"risk = {self.risk}: must be above 0 and below 1")

    def choose(self, split: Split, run: Run) -> Self:
        return replace(self, part=self.part.choose(split, run))

    def fit(self, train: Dataset, run: Run) -> ConfidentModel:
        split = holdout(train, run.rng("confidence"))
        chosen = self.part.choose(split, run.child("part"))
        tried = chosen.fit(split.train, run.child("part"))
        state = judged(tried, split, self.risk, run)
        part = chosen.fit(train, run.child("part"))
        return ConfidentModel(replace(self, part=part.recipe), part, state)

    def restore(self, state: State) -> ConfidentModel:
        own = {name: value for name, value in state.items() if not name.startswith("part/")}
        return ConfidentModel(self, self.part.restore(unnest("part", state)), own)


def judged(model: Model, split: Split, risk: float, run: Run) -> State:
    """Return what ``ConfidentModel`` keeps, learned from how the model answers a test part."""
    rows = [
        (scores, wanted) for scores, wanted in _asked(model, split, run.rng("asked")) if len(scores)
    ]
    n = sum(len(scores) for scores, _ in rows)
    right = np.concatenate([_hits(scores, wanted) for scores, wanted in rows]) if n else None
    if right is None or n < FEWEST or right.all() or not right.any():
        untold = np.full(3, np.nan)
        return {"temperature": np.ones(1), "weights": untold, "threshold": np.zeros(1),
                "right": np.zeros(0), "told": np.zeros(0)}  # fmt: skip

    def loss(temperature: float) -> float:
        return sum(_surprise(scores, wanted, temperature) for scores, wanted in rows)

    temperature = min(TEMPERATURES.tolist(), key=loss)
    seen = np.concatenate([features(scores, temperature) for scores, _ in rows])
    weights = logistic(seen, right)
    told = 1 / (1 + np.exp(-seen @ weights))
    return {
        "temperature": np.array([temperature]),
        "weights": weights,
        "threshold": np.array([threshold(told, right, risk)]),
        "right": right.astype(np.float64),
        "told": told,
    }


class ConfidentModel(Model):
    """State: temperature, weights (3,) NaN = not learned, threshold (1,), right and told (H,) =
    whether the best items of the holdout were wanted, and how sure it was; the part under part/."""

    recipe: Confident

    def __init__(self, recipe: Confident, part: Model, state: State) -> None:
        self.recipe, self.part, self._state = recipe, part, state
        self.parts = (part,)
        self.n_items = part.n_items
        self.threshold = float(state["threshold"][0])
        self.right: Array = state["right"]
        self.told: Array = state["told"]

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        return self.part.score(query, items)

    def confidence(self, scores: Scores) -> Array:
        """Return (B,) chances that the best of these (B, n) scores is wanted; NaN where that could
        not be learned. Leave out items that cannot be shown by NaN."""
        seen = features(scores, float(self._state["temperature"][0]))
        found: Array = 1 / (1 + np.exp(-seen @ self._state["weights"]))
        return found

    def reads(self, query: Query) -> Mask:
        if isinstance(self.part, Reads):
            return self.part.reads(query)
        return np.zeros(len(query), np.bool_)

    def heard(self, users: Ids, texts: Sequence[str], answers: csr_array) -> Self:
        return type(self)(self.recipe, heard(self.part, users, texts, answers), self._state)

    def update(self, dataset: Dataset) -> Self:
        return type(self)(self.recipe, updated(self.part, dataset), self._state)

    def explain(self, query: Query, items: Ids) -> Reasons:
        if isinstance(self.part, Explains):
            return self.part.explain(query, items)
        return [[[] for _ in row] for row in np.asarray(items)]

    def state(self) -> State:
        return self._state | nest("part", self.part.state())


def _asked(
    model: Model, split: Split, rng: np.random.Generator
) -> Iterator[tuple[Scores, csr_array]]:
    """Scores and wanted items of test users, by domain; of those with words, if there are some,
    and of items with events (``familiar``)."""
    train, test = split.train, familiar(split).test
    positive = test.positives
    for d in range(train.n_domains):
        items = np.flatnonzero((train.item_domain == d) & ~train.hidden & ~train.explicit)
        wanted = csr_array(positive[:, items])
        users = np.flatnonzero(np.diff(wanted.indptr))
        worded = users[train.worded[users]]
        users = np.sort(rng.permutation(worded if len(worded) else users)[:ROWS])
        moments = split.moments(d)
        for at in range(0, len(users), BATCH):
            some = users[at : at + BATCH]
            query = split.context.query(some, moments[some])
            scores = model.score(query, items)
            scores[ones(csr_array(query.seen[:, items])).nonzero()] = np.nan
            told = ~np.isnan(scores).all(axis=1)
            yield scores[told], csr_array(wanted[some[told]])


def _hits(scores: Scores, wanted: csr_array) -> Mask:
    best = np.nan_to_num(scores, nan=-np.inf).argmax(axis=1)
    found: Mask = np.asarray(wanted[np.arange(len(best)), best] > 0).ravel()
    return found


def _surprise(scores: Scores, wanted: csr_array, temperature: float) -> float:
    """Σ −log of the softmax share of what was wanted."""
    z = np.nan_to_num(scores, nan=-np.inf).astype(np.float64) / temperature
    z -= z.max(axis=1, keepdims=True)
    share = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    held = (share * (wanted.toarray() > 0)).sum(axis=1)
    return float(-np.log(np.maximum(held, 1e-6)).sum())


def features(scores: Scores, temperature: float) -> Array:
    """Return (B, 3): 1, the log-odds of the best item in a softmax, and its score in deviations."""
    known = ~np.isnan(scores)
    z = np.where(known, scores, -np.inf).astype(np.float64)
    some = known.any(axis=1)
    top = np.where(some, z.max(axis=1, initial=-np.inf), 0)
    share = np.exp((z - top[:, None]) / temperature)
    others = share.sum(axis=1) - 1
    odds = -np.log(np.maximum(others, 1e-12))
    n = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, scores, 0).sum(axis=1) / n
    deviation = np.sqrt((np.where(known, scores - mean[:, None], 0) ** 2).sum(axis=1) / n)
    best = np.where(deviation > 0, (top - mean) / np.where(deviation > 0, deviation, 1), 0)
    found = np.stack([np.ones(len(z)), odds, best], axis=1)
    found[~some, 1:] = NOTHING
    return found


def logistic(x: Array, right: Mask) -> Array:
    """Return weights (k,) of a logistic regression, all but the first drawn to 0; by Newton."""
    scale = np.r_[1.0, np.maximum(x[:, 1:].std(axis=0), 1e-9)]
    shift = np.r_[0.0, x[:, 1:].mean(axis=0)]
    z = (x - shift) / scale
    pull = np.diag(np.r_[1e-6, np.full(x.shape[1] - 1, RIDGE)])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ w))
        slope = z.T @ (right - p) - pull @ w
        curve = (z * (p * (1 - p))[:, None]).T @ z + pull
        step = np.linalg.solve(curve, slope)
        w = w + step
        if np.abs(step).max() < 1e-9:
            break
    found: Array = w / scale
    found[0] -= (found * shift)[1:].sum()
    return found


def threshold(told: Array, right: Mask, risk: float) -> float:
    """Return the least confidence from which on no more than a share ``risk`` is wrong; above 1
    where there is none."""
    order = np.argsort(-told, kind="stable")
    wrong = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(wrong <= risk)
    return float(told[order[good[-1]]]) if len(good) else 1.01


def calibration_error(told: Floats | Array, right: Array, bins: int = 10) -> float:
    """Return the mean distance of confidence and share of right answers, over bins of equal size
    (Guo et al. 2017)."""
    order = np.argsort(told)
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(told[p].mean() - right[p].mean()) * len(p) for p in parts]
    return float(sum(gaps) / max(1, len(told)))
