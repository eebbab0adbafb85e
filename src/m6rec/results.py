"""What an evaluation found: rows and slices, with intervals, and two evaluations compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids, Mask
from m6rec.errors import ConfigError, suggestion
from m6rec.metrics import coverage, gini, parse
from m6rec.significance import bootstrap_ci, holm, paired

OVERALL = ("coverage", "gini")  # of all lists together; the others have a value for each row
PER_PAIR = ("rmse", "mae")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """R evaluated rows: one per test user and domain, or per test event where sampled.

    user, domain: (R,) codes. activity: (R,) bucket of the user's history in that domain.
    values: metric → (R,) float64, NaN where undefined; "rmse" as mean squared errors.
    draws: metric → (S, R), the same for each draw of a sampled protocol, else empty.
    pairs: (R,) test ratings, the weights of "rmse" and "mae".
    lists: (R, k) item codes shown, -1 = none; k = 0 where no metric asks for lists.
    catalogue: (n_domains,) items that may be shown in each domain.
    """

    user: Ids
    domain: Ids
    activity: Ids
    values: Mapping[str, Array]
    draws: Mapping[str, Array]
    pairs: Array
    lists: Ids
    catalogue: Ids

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Mask) -> Rows:
        """Return the rows of a mask (R,)."""
        return Rows(
            user=self.user[rows],
            domain=self.domain[rows],
            activity=self.activity[rows],
            values={m: v[rows] for m, v in self.values.items()},
            draws={m: v[:, rows] for m, v in self.draws.items()},
            pairs=self.pairs[rows],
            lists=self.lists[rows],
            catalogue=self.catalogue,
        )

    @classmethod
    def joined(cls, rows: Sequence[Rows]) -> Rows:
        """Return the rows of all tables, at least one, of the same metrics."""
        first = rows[0]
        return cls(
            user=np.concatenate([r.user for r in rows]),
            domain=np.concatenate([r.domain for r in rows]),
            activity=np.concatenate([r.activity for r in rows]),
            values={m: np.concatenate([r.values[m] for r in rows]) for m in first.values},
            draws={m: np.concatenate([r.draws[m] for r in rows], axis=1) for m in first.draws},
            pairs=np.concatenate([r.pairs for r in rows]),
            lists=np.concatenate([r.lists for r in rows]),
            catalogue=first.catalogue,
        )

    def mean(self, metric: str) -> float:
        """Return the metric over these rows; NaN where it is defined for none."""
        name, k = parse(metric)
        if name in OVERALL:
            n = int(self.catalogue[np.unique(self.domain)].sum())
            return (coverage if name == "coverage" else gini)(self.lists[:, :k], n)
        value, weight = self.values[metric], self._weight(metric)
        known = ~np.isnan(value)
        if not known.any():
            return float("nan")
        mean = float(np.average(value[known], weights=weight[known]))
        return float(np.sqrt(mean)) if name == "rmse" else mean

    def interval(self, metric: str, rng: np.random.Generator) -> tuple[float, float]:
        """Return the 95 % interval, users drawn with replacement; NaN for overall metrics."""
        name, _ = parse(metric)
        if name in OVERALL:
            return float("nan"), float("nan")
        low, high = bootstrap_ci(
            self.values[metric], rng, cluster=self.user, weight=self._weight(metric)
        )
        return (low**0.5, high**0.5) if name == "rmse" else (low, high)

    def spread(self, metric: str) -> float:
        """Return the standard deviation of the mean over draws; NaN with fewer than two."""
        draws = self.draws.get(metric, np.zeros((0, 0)))
        return float(np.nanmean(draws, axis=1).std(ddof=1)) if len(draws) > 1 else float("nan")

    def _weight(self, metric: str) -> Array:
        return self.pairs if parse(metric)[0] in PER_PAIR else np.ones(len(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What ``evaluate`` found. slices: name → rows, "all" first.

    dropped: test events left out, since they could not be shown (in the history, or hidden).
    asked: protocol, draws and test events in one line, the same whatever the model; "" = not
    known. seed: of the bootstrap.
    """

    metrics: tuple[str, ...]
    protocol: str
    slices: Mapping[str, Rows]
    dropped: int
    asked: str = ""
    seed: int = 0

    def __repr__(self) -> str:
        """The figures over all rows, on one line."""
        values = ", ".join(f"{m} {self[m]:.4f}" for m in self.metrics)
        sizes = f"{len(self.slices['all']):,} rows, {len(self.slices)} slices"
        return f"Evaluation({values}; {sizes}, protocol {self.protocol})"

    def __getitem__(self, metric: str) -> float:
        """Return a metric over all rows."""
        return self.slices["all"].mean(metric)

    def to_json(self) -> dict[str, Any]:
        """Return value, 95 % interval and spread over draws of every metric in every slice."""
        rng = np.random.default_rng(self.seed)
        found: dict[str, Any] = {}
        for name, rows in self.slices.items():
            found[name] = {"rows": len(rows), "users": len(np.unique(rows.user))}
            for metric in self.metrics:
                low, high = rows.interval(metric, rng)
                entry = {"value": rows.mean(metric), "low": low, "high": high}
                entry["spread"] = rows.spread(metric)
                found[name][metric] = {k: v for k, v in entry.items() if not np.isnan(v)}
        return {"protocol": self.protocol, "dropped": self.dropped, "slices": found}

    def to_table(self) -> pl.DataFrame:
        """Return one row a slice: its size, and each metric with its 95 % interval."""
        table = []
        for name, found in self.to_json()["slices"].items():
            line: dict[str, Any] = {"slice": name, "rows": found["rows"], "users": found["users"]}
            for metric in self.metrics:
                entry = found[metric]
                line[metric] = entry.get("value")
                line[f"{metric} low"], line[f"{metric} high"] = entry.get("low"), entry.get("high")
            table.append(line)
        return pl.DataFrame(table, infer_schema_length=None)


class Difference(NamedTuple):
    """One metric in one slice: values of a and b, a − b with its 95 % interval, and p-values.

    a, b: over all rows of each. The rest is over rows where both have a value.
    """

    slice: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare(
    a: Evaluation, b: Evaluation, metric: str | None = None, seed: int = 0
) -> list[Difference]:
    """Compare two evaluations of the same test rows by paired bootstrap over users.

    metric: by default every metric that both have. ``p_holm`` corrects for all the slices of
    a metric; intervals and p-values are NaN in slices of too few users. Raises ConfigError
    where a metric is missing, or the protocols or the test rows differ.
    """
    if a.asked and b.asked and a.asked != b.asked:
        raise ConfigError(
            f'the evaluations did not ask the same: "{a.asked}" and "{b.asked}"; '
            "evaluate both models on one split with one protocol"
        )
    both = [m for m in a.metrics if m in b.metrics and parse(m)[0] not in OVERALL]
    if metric is not None and metric not in both:
        raise ConfigError(
            f'metric "{metric}" is not in both evaluations{suggestion(metric, both)} '
            f"(there are: {', '.join(both)})"
        )
    rng = np.random.default_rng(seed)
    found: list[Difference] = []
    for m in both if metric is None else [metric]:
        root = parse(m)[0] == "rmse"
        lines = []
        for name in (n for n in a.slices if n in b.slices):
            x, y = a.slices[name], b.slices[name]
            if not (np.array_equal(x.user, y.user) and np.array_equal(x.domain, y.domain)):
                raise ConfigError(
                    f'slice "{name}": the evaluations have different test rows; '
                    "evaluate both models on one split with one protocol"
                )
            test = paired(
                x.values[m], y.values[m], rng, cluster=x.user, weight=x._weight(m), root=root
            )
            lines.append((name, m, x.mean(m), y.mean(m), *test))
        corrected = holm(np.array([line[-1] for line in lines]))
        found += [Difference(*line, float(p)) for line, p in zip(lines, corrected, strict=True)]
    return found
