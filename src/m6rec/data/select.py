"""Feature selection: block columns that vary and tell something about the target on train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from m6rec.arrays import Array, Ids, Mask
from m6rec.data.dataset import Dataset
from m6rec.data.features import Selection

BINS = 8
PAIRS = 200_000  # pairs of events that mutual information is measured on


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was found of one block column: its name, such as "genres=Comedy", and if it is kept."""

    of: Literal["users", "items"]
    block: str
    name: str
    variance: float
    information: float
    kept: bool


def select(
    blocks: Mapping[str, Array],
    names: Mapping[str, Sequence[str]],
    train: Dataset,
    of: Literal["users", "items"],
    selection: Selection,
    rng: np.random.Generator,
) -> list[Figure]:
    """Measure every column of the blocks (n, d) of the users or items of train.

    The target is the rating where train has ratings: I(column; rating). Else it is taste that
    carries over: for items, I(column of one item; column of another item of the same user); for
    users, of two users of the same item. Figures carry the Miller-Madow correction.
    """
    code = train.user if of == "users" else train.item
    present = np.unique(code)
    left, right, rating = _pairs(train, of, rng)
    figures = []
    for block, values in blocks.items():
        for column, name in enumerate(names[block]):
            x = values[:, column]
            variance = float(x[present].var()) if len(present) else 0.0
            bins = _binned(x, present)
            information = mutual_information(bins[left], bins[right] if rating is None else rating)
            figures.append(
                Figure(
                    of=of,
                    block=block,
                    name=name,
                    variance=variance,
                    information=information,
                    kept=variance >= selection.min_variance
                    and information >= selection.min_information,
                )
            )
    return figures


def masks(figures: Sequence[Figure]) -> dict[str, Mask]:
    """Return block name → mask of its kept columns, for ``Features.select``."""
    kept: dict[str, list[bool]] = {}
    for figure in figures:
        kept.setdefault(figure.block, []).append(figure.kept)
    return {block: np.array(mask, np.bool_) for block, mask in kept.items()}


def mutual_information(a: Ids, b: Ids) -> float:
    """Return I(a; b) in nats of two columns of codes (N,), corrected for chance, at least 0."""
    n = len(a)
    if n == 0:
        return 0.0
    width = int(b.max()) + 1
    joint = np.bincount(a.astype(np.int64) * width + b, minlength=(int(a.max()) + 1) * width)
    joint = joint.reshape(-1, width)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    r, c = np.nonzero(joint)
    p = joint[r, c] / n
    found = float((p * np.log(p * n * n / (rows[r] * columns[c]))).sum())
    chance = ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1) / (2 * n)
    return max(0.0, found - float(chance))


def _pairs(
    train: Dataset, of: Literal["users", "items"], rng: np.random.Generator
) -> tuple[Ids, Ids, Ids | None]:
    """Codes of both sides of up to PAIRS pairs, or of one side and the binned rating."""
    matrix = train.positives
    user, item = np.repeat(np.arange(train.n_users), np.diff(matrix.indptr)), matrix.indices
    code, owner = (user, item) if of == "users" else (item, user)
    rated = train.explicit[item]
    if rated.any():
        rows = rng.permutation(np.flatnonzero(rated))[:PAIRS]
        value = matrix.data[rows]
        return code[rows], code[rows], _binned(value, np.arange(len(value)))
    order = np.lexsort((rng.random(len(owner)), owner))
    same = np.flatnonzero(owner[order[1:]] == owner[order[:-1]])
    same = rng.permutation(same)[:PAIRS]
    return code[order[same]], code[order[same + 1]], None


def _binned(x: Array, present: Ids) -> Ids:
    """(n,) bin of each value: its own where few differ among the present rows, else quantiles."""
    values = np.unique(x[present])
    if len(values) > BINS:
        values = np.unique(np.quantile(x[present], np.arange(BINS) / BINS))
    return np.clip(np.searchsorted(values, x, side="right") - 1, 0, None)
