"""Models made of models: Fallback, the first part that speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from m6rec.arrays import Floats, Ids, Scores, State, unnest
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models import fusion
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.calibration import N_BUCKETS, calibrate
from m6rec.models.compose import BlendModel, scope, without_events
from m6rec.models.confident import ConfidentModel
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Fallback(Recipe):
    """The first part, in order, that does not abstain for a cell; calibrated to one scale.

    parts: the recipes, first choice first.
    """

    kind: ClassVar[str] = "fallback"
    parts: tuple[Recipe, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must name at least one model")

    def choose(self, split: Split, run: Run) -> Self:
        parts = tuple(p.choose(split, scope(run, i, p)) for i, p in enumerate(self.parts))
        return replace(self, parts=parts)

    def fit(self, train: Dataset, run: Run) -> FallbackModel:
        models = [p.fit(train, scope(run, i, p)) for i, p in enumerate(self.parts)]
        chosen = replace(self, parts=tuple(m.recipe for m in models))
        with threads(run.threads):
            calibration = np.stack([calibrate(m, train, run.rng("calibrate")) for m in models])
        state = {
            "weights": np.zeros((train.n_domains, N_BUCKETS, len(models)), np.float32),
            "words": np.zeros((train.n_domains, len(models)), np.float32),
            "calibration": calibration,
            "item_domain": train.item_domain,
            "explicit": train.explicit,
            "personal": np.zeros(len(models), np.bool_),
            "new": without_events(train),
        }
        return FallbackModel(chosen, models, state)

    def restore(self, state: State) -> FallbackModel:
        models = [p.restore(unnest(str(i), state)) for i, p in enumerate(self.parts)]
        return FallbackModel(self, models, state)


class FallbackModel(BlendModel):
    """A blend in which only the first part that speaks counts; weights stay 0."""

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        domain = self.item_domain if items is None else self.item_domain[items]
        found: Floats | None = None
        for part, of_cell in zip(self.parts, self.calibrations(query), strict=True):
            if found is not None and not np.isnan(found).any():
                break
            scores = fusion.calibrated(part.score(query, items), of_cell, domain)
            found = scores if found is None else np.where(np.isnan(found), scores, found)
        assert found is not None  # there is a part
        return found

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        result: list[list[list[Reason]]] = [[[] for _ in row] for row in items]
        for p, part in enumerate(self.parts):
            alone = BlendModel(
                self.recipe,
                [part],
                self._state
                | {
                    "weights": np.ones_like(self.weights[:, :, :1]),
                    "words": np.zeros_like(self.words[:, :1]),
                    "calibration": self.calibration[p : p + 1],
                    "personal": self.personal[p : p + 1],
                },
            )
            for b, row in enumerate(alone.explain(query, items)):
                for c, reasons in enumerate(row):
                    result[b][c] = result[b][c] or reasons
            if all(cell for row, told in zip(items, result, strict=True)
                   for i, cell in zip(row, told, strict=True) if i >= 0):  # fmt: skip
                break
        return result


def mixture(model: Model) -> BlendModel | None:
    """Return the blend that answers first inside a model, itself included; None without one."""
    while isinstance(model, (FallbackModel, ConfidentModel)):
        model = model.parts[0]
    return model if isinstance(model, BlendModel) else None
