"""The evaluation rows that a run keeps, and runs compared on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from m6rec import artifacts
from m6rec.data.query import ACTIVITY_NAMES
from m6rec.errors import RunError
from m6rec.results import Difference, Evaluation, Rows, compare

FILE = "evaluation.parquet"
_COLUMNS = ("model", "protocol", "asked", "user", "domain", "activity", "pairs")


class Compared(NamedTuple):
    """Evaluations by run, and each later one against the first."""

    evaluations: dict[str, Evaluation]
    differences: dict[str, list[Difference]]


def write(evaluations: Mapping[str, Evaluation], folder: Path) -> None:
    """Write one row per model, test user and domain, with its metrics."""
    frames = []
    for name, found in evaluations.items():
        rows = found.slices["all"]
        same = {"model": name, "protocol": found.protocol, "asked": found.asked}
        columns = {"user": rows.user, "domain": rows.domain, "activity": rows.activity}
        frames.append(pl.DataFrame({**same, **columns, "pairs": rows.pairs, **rows.values}))
    pl.concat(frames).write_parquet(folder / FILE)


def read(path: Path) -> Evaluation:
    """Return the evaluation of the run's own model, sliced by domain and activity."""
    manifest = artifacts.checked(path)
    if FILE not in manifest["files"]:
        raise RunError(f"{path}: was saved without an evaluation; train it with `m6rec train`")
    frame = pl.read_parquet(path / FILE)
    frame = frame.filter(pl.col("model") == frame["model"][0])
    if "asked" not in frame.columns:  # saved before this was kept
        frame = frame.with_columns(protocol=pl.lit("as trained"), asked=pl.lit(""))
    metrics = [name for name in frame.columns if name not in _COLUMNS]
    rows = Rows(
        user=frame["user"].to_numpy(),
        domain=frame["domain"].to_numpy(),
        activity=frame["activity"].to_numpy(),
        values={name: frame[name].to_numpy() for name in metrics},
        draws={},
        pairs=frame["pairs"].to_numpy(),
        lists=np.zeros((len(frame), 0), np.int32),
        catalogue=np.zeros(len(manifest["domains"]), np.int64),
    )
    slices = {"all": rows}
    names = [domain["name"] for domain in manifest["domains"]]
    if len(names) > 1:
        slices |= {name: rows.take(rows.domain == i) for i, name in enumerate(names)}
    slices |= {f"activity {n}": rows.take(rows.activity == i) for i, n in enumerate(ACTIVITY_NAMES)}
    return Evaluation(
        metrics=tuple(metrics),
        protocol=frame["protocol"][0],
        slices={name: part for name, part in slices.items() if len(part)},
        dropped=0,
        asked=frame["asked"][0],
        seed=int(manifest["seed"]),
    )


def compare_runs(paths: Sequence[Path], metric: str | None = None) -> Compared:
    """Compare runs, the first one being what the others are measured against.

    Raises RunError where runs saw different data, ConfigError where they were not tested on
    the same rows with the same protocol or do not share the metric.
    """
    first = artifacts.checked(paths[0])
    for path in paths[1:]:
        if artifacts.checked(path)["data"] != first["data"]:
            raise RunError(
                f"{path}: was trained on other data than {paths[0]}, so their figures cannot "
                "be compared; train both on the same [data] and [split]"
            )
    evaluations = {path.name: read(path) for path in paths}
    base = evaluations[paths[0].name]
    differences = {path.name: compare(evaluations[path.name], base, metric) for path in paths[1:]}
    return Compared(evaluations, differences)
