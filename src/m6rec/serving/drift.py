"""Does what comes in still look like what was trained on, and do lists still fit?"""

from __future__ import annotations

from typing import Any

import numpy as np

from m6rec.arrays import Array
from m6rec.serving.live import MICRO, Live
from m6rec.significance import apart
from m6rec.store import Store

DAY = 86_400 * MICRO
BACK = 7  # days that the newest one is compared with
NEWEST = 20_000  # events that are looked at
LEAST = 100  # events, scores or requests that a statement needs
BINS = 10
SHIFTED = 0.25  # population stability index from which a distribution counts as another one


def drift(store: Store, live: Live, now: int) -> list[dict[str, Any]]:
    """Return what shifted, by domain; now in microseconds.

    items: stability index of the events of the last day over items in ten classes of equal mass
    by popularity in training; unknown: their share on items that training did not know; scores:
    stability index of the scores given in the last day beside the 7 days before; hits: hit rate
    of the last day less that of the 7 days before, with its 95 % interval. None = too little to
    say. warnings: one sentence for each that is beyond what chance and habit explain.
    """
    events, _ = store.events(since=now - DAY, until=now, n=NEWEST)
    keys = [event.item for event in events]
    return [_of_domain(store, live, now, d, keys) for d in range(len(live.domains))]


def stability(expected: Array, found: Array) -> float:
    """Return the population stability index of two counts by class: Σ (f − e) ln(f / e) over
    shares, each class with half a case more so that none is empty."""
    e, f = ((counts + 0.5) / (counts + 0.5).sum() for counts in (expected, found))
    return float(((f - e) * np.log(f / e)).sum())


def _of_domain(store: Store, live: Live, now: int, d: int, keys: list[str]) -> dict[str, Any]:
    data, name = live.recommender.dataset, live.domains[d]
    inside = [key for key in keys if key.partition("/")[0] == name]
    codes = data.items.encode(inside)
    count = np.bincount(data.item, minlength=data.n_items)
    trained = np.flatnonzero((data.item_domain == d) & (count > 0))
    known = (codes >= 0) & (count[np.maximum(codes, 0)] > 0)
    warnings: list[str] = []

    items = unknown = None
    if len(inside) >= LEAST and len(trained):
        order = trained[np.argsort(-count[trained], kind="stable")]
        mass = np.cumsum(count[order])
        group = np.full(data.n_items, BINS - 1)
        group[order] = np.minimum((mass - count[order]) * BINS // mass[-1], BINS - 1)
        expected = np.bincount(group[order], count[order], BINS)
        items = stability(expected, np.bincount(group[codes[known]], minlength=BINS))
        unknown = float(1 - known.mean())
        if items > SHIFTED:
            warnings.append(f"{name}: other items are used than in training (index {items:.2f})")
        if unknown > SHIFTED:
            warnings.append(f"{name}: {unknown:.0%} of the events are on items unknown in training")

    before, after = (
        np.array(store.scores(name, start, end))
        for start, end in ((now - (BACK + 1) * DAY, now - DAY), (now - DAY, now))
    )
    scores = None
    if min(len(before), len(after)) >= LEAST:
        edges = np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1])
        counts = (np.bincount(np.searchsorted(edges, s), minlength=BINS) for s in (before, after))
        scores = stability(*counts)
        if scores > SHIFTED:
            warnings.append(f"{name}: scores are spread otherwise (index {scores:.2f})")

    was, came = (
        np.array([row[2:] for row in store.outcomes(start, end, name)], float).reshape(-1, 2)
        for start, end in ((now - (BACK + 1) * DAY, now - DAY), (now - DAY, now))
    )
    hits = None
    if min(was[:, 0].sum(), came[:, 0].sum()) >= LEAST:
        shift = apart(
            came[:, 1] / came[:, 0], was[:, 1] / was[:, 0], np.random.default_rng(0),
            weight_a=came[:, 0], weight_b=was[:, 0],
        )  # fmt: skip
        if not np.isnan(shift.low):  # else too few users
            hits = [shift.difference, shift.low, shift.high]
        if shift.high < 0:
            warnings.append(f"{name}: fewer lists are hit than before ({shift.difference:+.1%})")
    found = {"items": items, "unknown": unknown, "scores": scores, "hits": hits}
    return {"domain": name, "events": len(inside), **found, "warnings": warnings}
