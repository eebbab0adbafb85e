"""The lists of all users, made by the machines of a cluster: a folder of Parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from m6rec.cluster.nodes import connect
from m6rec.cluster.shards import claim, done, write
from m6rec.compiled import threads
from m6rec.errors import DataError
from m6rec.recommender import BATCH, Recommender

SHARD = 8 * BATCH  # users of a file; whole batches, so that lists are those of one machine


def score(
    address: str,
    asked: Recommender,
    out: Path,
    users: Sequence[str],
    *,
    k: int = 10,
    domain: str | None = None,
    filter: str | None = None,
    shard: int = SHARD,
    advance: Callable[[int], None] = lambda n: None,
) -> int:
    """Write ``Recommender.export`` of these users as Parquet files, and return the number of rows.

    asked: a run on disk; its folder and ``out`` are seen by all machines under the same path.
    shard: users of one file. Files that are there are not made again, so that a job that was
    killed goes on where it was. Raises DataError where the folder holds other lists.
    """
    run = asked.fitted.path
    if run is None:
        raise DataError("a cluster scores a saved run; save it first")
    asked.allowed(domain, filter)  # what cannot be asked is said before anything starts
    options = {"k": k, "domain": domain, "filter": filter}
    about = options | {"run": run.name, "shard": shard, "users": _digest(users)}
    claim(out, about, "lists")
    places = range(0, len(users), shard)
    paths = [out / f"part-{i:05d}.parquet" for i in range(len(places))]
    todo = [
        {"path": str(path.absolute()), "users": list(users[at : at + shard])}
        for path, at in zip(paths, places, strict=True)
        if not path.exists()
    ]
    advance(len(users) - sum(len(each["users"]) for each in todo))
    if todo:
        connect(address)
    for each in done(Scorer, (str(run.absolute()), options), todo):
        advance(each["users"])
    if lost := [path.name for path in paths if not path.exists()]:
        raise DataError(
            f"{out}: {len(lost)} of {len(paths)} files were written on another machine "
            f"({lost[0]}, …); name a folder that all machines share"
        )
    return int(pl.scan_parquet(paths).select(pl.len()).collect().item()) if paths else 0


class Scorer:
    """One worker: opens the run once, then writes the lists of shard after shard."""

    def __init__(self, run: str, options: dict[str, Any]) -> None:
        self.run, self.options = run, options

    @cached_property
    def asked(self) -> Recommender:
        return Recommender.open(self.run)

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        users = [str(user) for user in shard["users"]]
        with threads(1):
            frames = list(self.asked.export(users, **self.options))
        write(pl.concat(frames), Path(shard["path"]))
        return {"users": len(users)}


def _digest(users: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(users).encode()).hexdigest()[:16]
