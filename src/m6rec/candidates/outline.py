"""A fused score seen as dot products and sparse rows, of those parts that are such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask, Scores
from m6rec.data.query import Query
from m6rec.models.base import Embeds, Model, Reaches
from m6rec.models.compose import BlendModel
from m6rec.models.confident import ConfidentModel
from m6rec.models.fallback import FallbackModel, mixture
from m6rec.models.reasons import FLOOR

TRIED = 50  # items of a group from which it is seen which parts speak of it


def outlined(model: Model) -> bool:
    """Whether there can be an outline: not where it must be said how sure the best item is."""
    return mixture(model) is not None and not isinstance(model, ConfidentModel)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What the outline takes of B requests, by group g of items.

    vectors: (B, G, d). offset: (B, G), what all items of a group have. rows: the scores (B, n) of
    each part that reaches, and its weights (B, G). known: (B, G) whether a personal part speaks.
    """

    vectors: Floats
    offset: Floats
    rows: list[tuple[Scores, Floats]]
    known: Mask

    def take(self, b: int) -> Asked:
        """Return the request at this place alone."""
        one = slice(b, b + 1)
        rows = [(row[one], weight[one]) for row, weight in self.rows]
        return Asked(self.vectors[one], self.offset[one], rows, self.known[one])


class Outline:
    """The score of a blend, or of one inside fallbacks, for items i of group g:
    offset_g + q_g · v_i + Σ weight_g · sparse score of i.

    A group is the items with events of a domain, or those without: the λ of these differ. Parts
    that neither embed nor reach are left out, as are abstentions on single items; both are made
    good by scoring the candidates exactly. groups: those of which some personal part speaks;
    guessed: (n,) the items of these, and no others are candidates. embeds, reaches: parts by
    their places; told: (P,) whether a part is among them.
    """

    def __init__(self, model: Model, asked: Query) -> None:
        """asked: some requests, from which it is seen which parts speak of which items."""
        self.outer: list[FallbackModel] = []
        while isinstance(model, FallbackModel):
            self.outer.append(model)
            model = model.parts[0]
        if not isinstance(model, BlendModel):
            raise ValueError("an outline is of a blend, or of one inside fallbacks")
        blend = self.blend = model
        self.n_domains = len(blend.weights)
        without = blend.new * np.int16(self.n_domains)
        self.group: Ids = (blend.item_domain + without).astype(np.int16)
        greatest = np.vstack([*blend.weights, blend.words]).max(axis=0)
        used = [p for p, weight in enumerate(greatest.tolist()) if weight > 2 * FLOOR]
        self.embeds = {p: part for p in used if isinstance(part := blend.parts[p], Embeds)}
        self.reaches = {p: part for p in used if isinstance(part := blend.parts[p], Reaches)}
        told = [p in self.embeds or p in self.reaches for p in range(len(blend.parts))]
        self.told: Mask = np.array(told)
        all_personal = np.ones_like(blend.personal)
        self.personal: Mask = blend.personal if blend.personal.any() else all_personal
        self.speaks = self._speaks(asked, used)  # (G, P)
        self.groups: Ids = np.flatnonzero(self.speaks[:, self.personal].any(axis=1))
        self.guessed: Mask = np.isin(self.group, self.groups)
        self.widths = {p: self._block(p, self.group[:0]).shape[1] for p in self.embeds}

    def _speaks(self, asked: Query, used: list[int]) -> Mask:
        found = np.zeros((2 * self.n_domains, len(self.blend.parts)), np.bool_)
        for g in np.unique(self.group).tolist():
            inside = np.flatnonzero(self.group == g)
            items = inside[:: max(1, len(inside) // TRIED)]
            for p in used:
                found[g, p] = not np.isnan(self.blend.parts[p].score(asked, items)).all()
        return found

    def vectors(self, items: Ids) -> Floats:
        """Return (C, d): the vectors of the parts that embed, side by side."""
        blocks = [np.zeros((len(items), 0), np.float32)]
        return np.hstack([*blocks, *(self._block(p, items) for p in self.embeds)])

    def _block(self, p: int, items: Ids) -> Floats:
        """The vectors of one part: (C, its length)."""
        part, domain = self.embeds[p], self.blend.item_domain[items]
        there = np.unique(domain).tolist() or [0]
        found = [part.embed_items(d, items[domain == d]) for d in there]
        order = np.argsort(domain, kind="stable")
        return np.concatenate(found)[np.argsort(order)]

    def asked(self, query: Query, sparse: bool = True) -> Asked:
        """Return what it takes of requests; sparse: with the rows of parts that reach."""
        query = query.within(len(self.group))
        blend, b = self.blend, len(query)
        domains = np.arange(self.n_domains)
        weight: Array = np.concatenate([blend.lambdas(query), blend.lambdas(query, new=True)], 1)
        heard = (weight > 2 * FLOOR) & self.speaks
        told = np.ones((b, self.n_domains, len(blend.parts)), np.bool_)
        blocks: list[Floats] = []
        rows: dict[int, Scores] = {}
        either = heard.reshape(b, 2, *told.shape[1:])
        wanted = np.asarray(either.any(axis=(0, 1)))  # (D, P)
        for p, part in self.embeds.items():
            block = np.zeros((b, self.n_domains, self.widths[p]), np.float32)
            for d in np.flatnonzero(wanted[:, p]).tolist():
                vectors = part.embed_query(query, d)
                there = ~np.isnan(vectors).any(axis=1)
                told[:, d, p] = there & vectors.any(axis=1)
                block[there, d] = vectors[there]
            blocks.append(block)
        for p, reaching in self.reaches.items():
            if not sparse or not wanted[:, p].any():
                continue
            rows[p] = reaching.reach(query)
            if p not in self.embeds:
                told[:, :, p] = (rows[p] != 0).any(axis=1)[:, None]
        spoken = heard & np.concatenate([told, told], axis=1)
        scale, offset, known = self._scales(query, np.where(spoken, weight, 0))
        of_group = np.concatenate([domains, domains])
        blocks = [
            scale[:, :, p, None] * q[:, of_group] for p, q in zip(self.embeds, blocks, strict=True)
        ]
        empty = np.zeros((b, 2 * self.n_domains, 0), np.float32)
        whole = np.concatenate([empty, *blocks], axis=2)
        return Asked(whole, offset, [(row, scale[:, :, p]) for p, row in rows.items()], known)

    def _scales(self, query: Query, weight: Array) -> tuple[Floats, Floats, Mask]:
        """Return what each part's raw scores are multiplied with (B, G, P), the offset (B, G),
        and where a personal part speaks (B, G). weight: (B, G, P), 0 of parts that do not."""
        blend = self.blend
        known: Mask = np.asarray((weight[:, :, self.personal] > 0).any(axis=2))
        weight = weight / np.maximum(weight.sum(axis=2, keepdims=True), FLOOR)
        calibration = np.moveaxis(blend.calibrations(query), 0, 2)  # (B, D, P, 2)
        mean, deviation = (np.concatenate([calibration[..., i]] * 2, axis=1) for i in (0, 1))
        scale = weight / deviation
        offset = -(scale * mean * self.told).sum(axis=2)
        for outer in reversed(self.outer):
            first = outer.calibrations(query)[0]  # (B, D, 2)
            shift, width = (np.concatenate([first[..., i]] * 2, axis=1) for i in (0, 1))
            scale, offset = scale / width[..., None], (offset - shift) / width
        return scale.astype(np.float32), offset.astype(np.float32), known
