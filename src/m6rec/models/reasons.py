"""Why a blend scores as it does: the reasons of the parts that count, and what calibration adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.data.query import Query
from m6rec.models.base import Explains, Model, Reason
from m6rec.models.fusion import calibrated

FLOOR = 1e-6  # λ of a part that was given none: it still speaks where all others abstain


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voices:
    """What a blend says to B requests.

    lambdas: λ (B, D, P) of items with events, and of new ones. calibration: (P, B, D, 2) mean and
    deviation of each part's scores. personal: (P,) parts that count as having said something.
    item_domain, new: (n_items,).
    """

    parts: Sequence[Model]
    lambdas: tuple[Floats, Floats]
    calibration: Floats
    personal: Mask
    item_domain: Ids
    new: Mask

    def reasons(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Return the λ-weighted reasons for ``items`` (B, C); none if no personal part speaks."""
        told = [self._heard(query, b, row) for b, row in enumerate(np.asarray(items))]
        heard = np.logical_or.reduce([shares.any(axis=1) for shares, _ in told])
        found = {
            p: part.explain(query, items)
            for p, part in enumerate(self.parts)
            if heard[p] and isinstance(part, Explains)
        }
        result: list[list[list[Reason]]] = []
        for b, (shares, scores) in enumerate(told):
            row = np.maximum(items[b], 0)
            scales = shares / self.calibration[:, b, self.item_domain[row], 1]
            cells: list[list[Reason]] = [[] for _ in row]
            for c, p in zip(*np.nonzero(shares.T), strict=True):
                parts = found[p][b][c] if p in found else []
                share, scale = float(shares[p, c]), float(scales[p, c])
                kind = self.parts[p].recipe.kind
                cells[c] += [
                    Reason(kind=r.kind, value=r.value * scale, item=r.item, name=r.name,
                           part=r.part or kind)
                    for r in parts
                ]  # fmt: skip
                rest = share * float(scores[p, c]) - sum(r.value for r in parts) * scale
                cells[c].append(Reason(kind="bias", value=rest, name="average", part=kind))
            result.append(cells)
        return result

    def _heard(self, query: Query, b: int, row: Ids) -> tuple[Array, Array]:
        """Return the shares (P, C) that the parts have in the scores of one request, 0 = none, and
        their calibrated scores, of those that were asked.

        A cell has the parts with a λ, and the others only where no personal one of these speaks.
        """
        one = query if len(query) == 1 else query.take(np.array([b]))
        there, codes = row >= 0, np.maximum(row, 0)
        domain, (old, new) = self.item_domain[codes], self.lambdas
        weights = np.where(self.new[codes][:, None], new[b, domain], old[b, domain]).T  # (P, C)
        loud, personal = weights > 2 * FLOOR, self.personal[:, None]
        scores = np.full(weights.shape, np.nan, np.float32)
        asked = (loud & there).any(axis=1)
        for turn in (asked, ~asked):
            for p in np.flatnonzero(turn).tolist():
                found = self.parts[p].score(one, codes)
                scores[p] = calibrated(found, self.calibration[p, b : b + 1], domain)[0]
            said = ~np.isnan(scores) & there
            spoken = (said & loud & personal).any(axis=0)
            if spoken[there].all():
                break
        counts = said & np.where(spoken, loud, (said & personal).any(axis=0))
        mass = np.where(counts, weights, 0).astype(np.float64)
        return mass / np.maximum(mass.sum(axis=0), 1e-300), scores
