"""Two runs beside each other on live users: what became of their lists, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from m6rec.significance import apart, bootstrap_ci
from m6rec.store import Store

ARMS = ("a", "b")


def trial(store: Store, runs: Mapping[str, str], since: int) -> dict[str, Any]:
    """Return each arm's users, requests and hit rate, and the difference b − a.

    hit: a request of which an item got an event that names the request. Rates are over requests;
    intervals (95 %) and p by a bootstrap over users, which the arms do not share.
    runs: names of the two by arm; what others recommended does not count. since: microseconds;
    nor does what was recommended before.
    """
    rng = np.random.default_rng(0)
    rate, requests, arms = {}, {}, {}
    for arm in ARMS:
        rows = store.outcomes(since, run=runs[arm]) if arm in runs else []
        counts = np.array([(n, hit) for at, _, n, hit in rows if at == arm], np.float64)
        counts = counts.reshape(-1, 2)
        requests[arm] = counts[:, 0]
        rate[arm] = counts[:, 1] / np.maximum(counts[:, 0], 1)
        low, high = bootstrap_ci(rate[arm], rng, weight=requests[arm])
        total = float(requests[arm].sum())
        arms[arm] = {
            "users": len(counts),
            "requests": int(total),
            "hit_rate": _known(counts[:, 1].sum() / total if total else np.nan),
            "low": _known(low),
            "high": _known(high),
        }
    found = apart(rate["b"], rate["a"], rng, weight_a=requests["b"], weight_b=requests["a"])
    difference = {name: _known(value) for name, value in found._asdict().items()}
    return {"arms": arms, "difference": difference, "verdict": _verdict(found.low, found.high)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return "too few users yet"
    if low > 0:
        return "b is better"
    return "a is better" if high < 0 else "no difference that is outside the interval"
