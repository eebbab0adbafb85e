"""The list that answers one request: what may stand in it, its scores, its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from m6rec.arrays import Ids, Mask, Scores
from m6rec.candidates.shortlist import Found, Shortlist
from m6rec.data.query import Query
from m6rec.models.confident import ConfidentModel
from m6rec.rank import Lists, rank, these_items, with_twins
from m6rec.serving import pages
from m6rec.serving.asks import Ask
from m6rec.serving.live import Asker, Live


class Listed(NamedTuple):
    """lists: of the one request. shown: fingerprints of the items of earlier pages. sure: the
    chance that the first item is wanted; None where the run has not learned it."""

    lists: Lists
    shown: Ids
    sure: float | None


def shortlist(live: Live) -> Shortlist | None:
    """What finds the candidates of a run and of what came to it; None = all items are scored."""
    return (live.base or live.recommender).shortlist


class Frame(NamedTuple):
    """What may stand in the list of one request: allowed items (n_items,), less those excluded
    (M,), less the first ``offset``. explore: share of positions that show a random one."""

    allowed: Mask
    exclude: Ids
    shown: Ids
    offset: int
    explore: float


def framed(live: Live, ask: Ask, asker: Asker) -> Frame:
    """Return the frame of a request."""
    recommender, data = live.recommender, live.recommender.dataset
    allowed = live.allowed(ask.domain, ask.filter, ask.categories)
    shown = pages.shown(ask.page)
    if len(shown):
        allowed = allowed & ~np.isin(live.fingerprints, shown)
    return Frame(
        allowed=allowed,
        exclude=_excluded(live, ask, asker),
        shown=shown,
        offset=min(ask.offset, data.n_items),
        explore=recommender.rank.explore if ask.explore is None else ask.explore,
    )


def scored(live: Live, asks: Sequence[Ask], frames: Sequence[Frame], query: Query) -> list[Found]:
    """Return what each request is ranked from: its candidates, or all items."""
    model, short = live.recommender.model, shortlist(live)
    whole = [
        b
        for b, (ask, frame) in enumerate(zip(asks, frames, strict=True))
        if short is None or ask.boosts or frame.explore  # of these a guess knows nothing
    ]
    rest = sorted({*range(len(frames))} - {*whole})
    found: dict[int, Found] = {}
    if whole:
        scores = model.score(query.at(whole))
        found |= {b: Found(None, row) for b, row in zip(whole, scores, strict=True)}
    if rest:
        assert short is not None
        wanted = [
            short.wanted(asks[b].k + frames[b].offset, frames[b].allowed, frames[b].exclude)
            for b in rest
        ]
        found |= dict(zip(rest, short.found(model, query.at(rest), wanted), strict=True))
    return [found[b] for b in range(len(frames))]


def listed(live: Live, ask: Ask, frame: Frame, found: Found, seed: int) -> Listed:
    """Return the list of one request. seed: of exploration."""
    recommender = live.recommender
    model, usual = recommender.model, recommender.rank
    diversity = usual.diversity if ask.diversity is None else ask.diversity
    scores = found.scores[None]
    if found.codes is not None:  # candidates are allowed, and not excluded
        codes = np.append(found.codes, -1)  # an empty place, -1, is the last
        alike = live.alike[codes] if diversity else None
        lists = rank(scores, ask.k, offset=frame.offset, diversity=diversity, alike=alike)
        return Listed(lists._replace(items=codes[lists.items]), frame.shown, None)
    if ask.boosts:
        scores = scores + _lift(live, ask, scores, frame.allowed)
    lists = rank(
        scores, ask.k, exclude=these_items(frame.exclude, scores.shape[1]),
        allowed=frame.allowed, offset=frame.offset,
        diversity=diversity, alike=live.alike, explore=frame.explore,
        rng=np.random.default_rng(seed) if frame.explore else None,
    )  # fmt: skip
    sure = None
    if isinstance(model, ConfidentModel):
        shut = ~frame.allowed
        shut[frame.exclude] = True
        sure = float(model.confidence(np.where(shut, np.float32(np.nan), scores))[0])
    return Listed(lists, frame.shown, sure)


def _lift(live: Live, ask: Ask, scores: Scores, allowed: Mask) -> Scores:
    """(n_items,) what the boosts add."""
    spread = float(np.nanstd(scores[:, allowed])) if allowed.any() else 0.0
    lift = np.zeros(scores.shape[1], np.float32)
    for boost in ask.boosts:
        lift += np.float32(boost.by * spread) * live.held(boost.filter).astype(np.float32)
    return lift


def _excluded(live: Live, ask: Ask, asker: Asker) -> Ids:
    recommender, data = live.recommender, live.recommender.dataset
    keys = [*asker.withheld, *(() if ask.seen else asker.item)]
    codes = data.items.encode(keys)
    if ask.exclude:
        codes = np.concatenate([recommender.items(ask.exclude), codes])
    codes, twins = codes[codes >= 0], recommender.fitted.twins
    if not len(twins) or not (twins[codes] >= 0).any():
        return codes
    return with_twins(these_items(codes, data.n_items), twins).indices
