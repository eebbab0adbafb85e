"""The list that answers one request: what may stand in it, its scores, its order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Ids, Mask, Scores
from m6rec.candidates.shortlist import Shortlist
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


def listed(
    live: Live, ask: Ask, query: Query, asker: Asker, scores: Scores | None, seed: int
) -> Listed:
    """Return the list of one request. scores: (1, n_items), None = they are still to be found;
    seed: of exploration."""
    recommender, data = live.recommender, live.recommender.dataset
    model, usual = recommender.model, recommender.rank
    explore = usual.explore if ask.explore is None else ask.explore
    allowed = live.allowed(ask.domain, ask.filter, ask.categories)
    short = shortlist(live)
    if scores is None and (short is None or ask.boosts or explore):
        scores = model.score(query)  # a guess knows nothing of what else lifts an item
    if scores is not None and ask.boosts:
        scores = scores + _lift(live, ask, scores, allowed)
    shown = pages.shown(ask.page)
    if len(shown):
        allowed = allowed & ~np.isin(pages.fingerprints(data.items.keys), shown)
    exclude = _excluded(live, ask, query, asker)
    depth = min(ask.offset, data.n_items)
    if scores is None:
        assert short is not None
        scores = short.scores(model, query, ask.k + depth, allowed, exclude)
    lists = rank(
        scores, ask.k, exclude=exclude, allowed=allowed, offset=depth,
        diversity=usual.diversity if ask.diversity is None else ask.diversity,
        alike=live.alike, explore=explore,
        rng=np.random.default_rng(seed) if explore else None,
    )  # fmt: skip
    sure = None
    if isinstance(model, ConfidentModel):
        shut = ~allowed | (exclude[[0]].toarray()[0] != 0)
        sure = float(model.confidence(np.where(shut, np.float32(np.nan), scores))[0])
    return Listed(lists, shown, sure)


def _lift(live: Live, ask: Ask, scores: Scores, allowed: Mask) -> Scores:
    """(n_items,) what the boosts add."""
    spread = float(np.nanstd(scores[:, allowed])) if allowed.any() else 0.0
    lift = np.zeros(scores.shape[1], np.float32)
    for boost in ask.boosts:
        lift += np.float32(boost.by * spread) * live.held(boost.filter).astype(np.float32)
    return lift


def _excluded(live: Live, ask: Ask, query: Query, asker: Asker) -> csr_array:
    recommender, data = live.recommender, live.recommender.dataset
    gone = [recommender.items(ask.exclude)]
    if query.withheld is not None:
        gone.append(query.withheld.indices)
    if not ask.seen:  # events of weight 0 too: those were seen
        gone += [query.history.indices, data.items.encode(asker.item)]
    exclude = these_items(np.concatenate(gone), data.n_items)
    twins = recommender.fitted.twins
    return with_twins(exclude, twins) if len(twins) else exclude
