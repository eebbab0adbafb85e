"""Reasons of a score → grouped shares, one sentence, and plain data for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m6rec.arrays import Ids
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.errors import QueryError
from m6rec.models.base import Explains, Model, Reason
from m6rec.wording import wording

NAMED = 3  # history items or attributes that a sentence names
SMALL = 0.05  # share below which a sentence leaves a group to "the rest"
AVERAGE = "average"  # name that models give to the bias that no reason explains
START = "starting point"  # its label here: what any item would score, all parts together
TIES = ("shared", "mutual", "circle", "contact")  # kinds of reasons between people; see Ties
EXACT = 1e-4  # of the score: reasons that add up within this add up


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """All reasons of one kind, item and name together.

    value: in score units. share: of the sum of all absolute values, the starting point's aside;
    below 0 = against the item, 0 = the starting point, which is no reason.
    parts: what each model part adds to value.
    """

    kind: str
    label: str
    value: float
    share: float
    item: int = -1
    parts: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one item has its score. contributions: largest first, those against the item after them,
    and last the starting point; their values add up to the score.

    unexplained: score minus the sum of the contributions, 0 where they add up. language: of the
    sentence that ``str`` gives, "en" or "zh".
    """

    score: float
    contributions: tuple[Contribution, ...]
    unexplained: float = 0.0
    language: str = "en"

    def to_json(self) -> dict[str, Any]:
        """Return plain data: score, unexplained, and the contributions with their shares."""
        return {
            "score": self.score,
            "unexplained": self.unexplained,
            "because": str(self),
            "contributions": [
                {
                    "kind": c.kind,
                    "label": c.label,
                    "value": c.value,
                    "share": round(c.share, 4),
                    "parts": c.parts,
                }
                for c in self.contributions
            ],
        }

    def __str__(self) -> str:
        """One sentence: what speaks for the item, and the strongest that speaks against it."""
        say = wording(self.language)
        told = [c for c in self.contributions if c.label != START]
        if not told:
            return say.unknown + say.end
        groups: dict[str, list[Contribution]] = {}
        for each in told:
            if each.value > 0:
                groups.setdefault(each.kind, []).append(each)
        shares = {kind: sum(c.share for c in group) for kind, group in groups.items()}
        phrases: list[str] = []
        for kind in sorted(groups, key=lambda kind: -shares[kind]):
            if phrases and shares[kind] < SMALL:
                continue
            named, more = groups[kind][:NAMED], groups[kind][NAMED:]
            phrase = say.speaks[kind].format(say.listed([c.label for c in named]))
            share = say.share if phrases else say.share_first
            phrase = share.format(phrase, sum(c.share for c in named))
            if more:
                phrase += say.more.format(len(more), sum(c.share for c in more))
            phrases.append(f"{say.again}{phrase}" if phrases else phrase)
        worst = told[-1]
        if worst.share <= -SMALL:
            against = say.against[worst.kind].format(say.named(worst.label))
            phrases.append(say.although.format(against))
        if self.unexplained:
            phrases.append(say.gap.format(rest=self.unexplained, score=self.score))
        return (say.between.join(phrases) or say.nothing) + say.end


def explain(
    model: Model,
    query: Query,
    items: Ids,
    label: Callable[[int], str],
    language: str = "en",
    data: Dataset | None = None,
) -> list[list[Explanation]]:
    """Return B lists of C explanations of the scores of ``items`` (B, C).

    label: item code → what a reader calls the item. language: of the sentences. data: what the
    run knows of the histories of people who are items, so that what two of them share is said as
    such. Cells where the
    model abstains, or of item -1, have no contributions and a score of NaN. Raises QueryError
    where the model cannot explain itself, or for a language without phrases.
    """
    wording(language)
    if not isinstance(model, Explains):
        raise QueryError(f'"{model.recipe.kind}" cannot explain its scores')
    reasons = model.explain(query, items)
    columns = np.unique(items[items >= 0])
    scores = model.score(query, columns)  # (B, distinct items)
    found = np.searchsorted(columns, items).clip(max=max(0, len(columns) - 1))
    values = np.take_along_axis(scores, found, axis=1) if len(columns) else np.full(items.shape, 0)
    values = np.where(items >= 0, values, np.nan)
    ties = None if data is None or not (data.person >= 0).any() else Ties(data)

    def tie(item: int) -> Callable[[int], str] | None:
        return None if ties is None else ties.between(item)

    return [
        [
            combine(cell, float(value), label, language, tie(int(item)))
            for cell, value, item in zip(row, line, asked, strict=True)
        ]
        for row, line, asked in zip(reasons, values, items, strict=True)
    ]


class Ties:
    """What a recommended item and an item of the history have to do with each other, where one
    of them is a person."""

    def __init__(self, data: Dataset) -> None:
        self.person, self.had = data.person, data.positives
        self._sets: dict[int, set[int]] = {-1: set()}

    def between(self, item: int) -> Callable[[int], str]:
        """Return item of the history → kind of the reason that it is for ``item``.

        "shared": ``item`` is a person who has it, too; "mutual": and it is a person as well.
        "circle": it is a person, who has ``item``; "contact": or has not.
        """
        theirs = self._of(int(self.person[item]))

        def kind(other: int) -> str:
            person = int(self.person[other])
            if other in theirs:
                return "shared" if person < 0 else "mutual"
            if person < 0:
                return "history"
            return "circle" if item in self._of(person) else "contact"

        return kind

    def _of(self, person: int) -> set[int]:
        if person not in self._sets:
            start, end = self.had.indptr[person : person + 2]
            self._sets[person] = {*self.had.indices[start:end].tolist()}
        return self._sets[person]


def combine(
    reasons: Sequence[Reason],
    score: float,
    label: Callable[[int], str],
    language: str = "en",
    tie: Callable[[int], str] | None = None,
) -> Explanation:
    """Return one explanation: equal reasons of several parts summed, sorted, with shares.

    tie: item of the history → kind of its reason, where that is not simply "history".
    """
    cells: dict[tuple[str, int, str], dict[str, float]] = {}
    for r in reasons:
        kind = tie(r.item) if tie and r.kind == "history" and r.item >= 0 else r.kind
        parts = cells.setdefault((kind, r.item, r.name), {})
        parts[r.part] = parts.get(r.part, 0.0) + r.value
    sums = {key: sum(parts.values()) for key, parts in cells.items()}
    start = ("bias", -1, AVERAGE)
    scale = sum(abs(value) for key, value in sums.items() if key != start) or 1.0
    contributions = tuple(
        Contribution(
            kind=key[0],
            label=label(key[1]) if key[1] >= 0 else START if key == start else key[2] or key[0],
            value=sums[key],
            share=0.0 if key == start else sums[key] / scale,
            item=key[1],
            parts=cells[key] if set(cells[key]) != {""} else {},
        )
        for key in sorted(sums, key=lambda key: (key == start, -sums[key]))
    )
    rest = score - sum(sums.values()) if contributions else 0.0
    magnitude = max(abs(score), sum(abs(value) for value in sums.values()))
    return Explanation(
        score=score,
        contributions=contributions,
        unexplained=rest if abs(rest) > EXACT * magnitude else 0.0,
        language=language,
    )
