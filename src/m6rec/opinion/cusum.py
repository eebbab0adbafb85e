"""The yardstick for alerts: cumulative sums, at a limit that gives as many false alarms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from m6rec.arrays import Array
from m6rec.opinion.alerts import LEAST, Signal, alarms

SLACK = 0.5  # half of the shift, in standard deviations, that CUSUM is best at
STEPS = 20  # of bisection


def cusum(x: Array, limit: float, warmup: int = LEAST) -> Signal:
    """Return the two-sided, self-starting CUSUM (Page 1954, Hawkins 1987) of x (E, W).

    S⁺ ← max(0, S⁺ + z − 0.5), S⁻ likewise of −z; z is x less the mean of all values before, over
    their standard deviation. score: the greater sum; at the limit both start anew. Gaps and the
    first ``warmup`` values leave the sums as they are.
    """
    e, w = x.shape
    count, mean, square = np.zeros(e), np.zeros(e), np.zeros(e)
    up, down = np.zeros(e), np.zeros(e)
    score, way, expected = np.full((e, w), np.nan), np.ones((e, w), int), np.full((e, w), np.nan)
    for t in range(w):
        v = x[:, t]
        seen = ~np.isnan(v)
        ready = seen & (count >= warmup)
        z = np.where(ready, (v - mean) / (np.sqrt(square / np.maximum(count - 1, 1)) + 1e-9), 0)
        up = np.where(ready, np.maximum(0, up + z - SLACK), up)
        down = np.where(ready, np.maximum(0, down - z - SLACK), down)
        score[ready, t] = np.maximum(up, down)[ready]
        way[:, t] = np.where(up >= down, 1, -1)
        expected[:, t] = mean
        full = np.maximum(up, down) >= limit
        up, down = np.where(full, 0, up), np.where(full, 0, down)
        count += seen
        step = np.where(seen, v - mean, 0)
        mean = mean + step / np.maximum(count, 1)
        square = square + step * np.where(seen, v - mean, 0)
    return Signal(score, x, expected, way, np.ones((e, w), int))


def limit(
    detect: Callable[[float], Signal], per_window: float, cooldown: int, since: int = 0
) -> float:
    """Return the limit at which a detector raises at most this many alarms per entity and window
    on series without shocks; detect: limit → what it sees there."""
    low, high = 0.5, 50.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        seen = detect(middle)
        found = len(alarms(seen, middle, cooldown, since)[0])
        if found <= per_window * seen.score[:, since:].size:
            high = middle
        else:
            low = middle
    return high
