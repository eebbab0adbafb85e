"""Shards of a large job, done by workers with Ray Data; each writes a file, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import ray
import ray.data
from ray.exceptions import RayError

from m6rec.errors import M6RecError, RunError

Row = Mapping[str, Any]


def done(
    worker: Any,
    given: Sequence[Any],
    shards: Sequence[Row],
) -> Iterator[dict[str, Any]]:
    """Yield what the workers return of each shard, in the order in which they are done.

    worker: a class; each process makes one of it, from what is ``given``, and calls it with
    shard after shard. One whose process or machine is lost is done again by another. Raises the
    M6RecError of a worker.
    """
    if not shards:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    most = max(1, min(len(shards), int(ray.cluster_resources().get("CPU", 1))))  # type: ignore[no-untyped-call]
    rows = ray.data.from_items([dict(shard) for shard in shards], override_num_blocks=len(shards))
    found = rows.map(worker, fn_constructor_args=given, num_cpus=1, concurrency=(1, most))
    try:
        yield from found.iter_rows()
    except RayError as error:
        raise own(error) from None


def own(error: BaseException) -> M6RecError:
    """Return the M6RecError that a worker raised, from what Ray wraps it in."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, M6RecError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return RunError(f"the cluster could not do a piece of work: {last}")


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file that is there whole or not at all."""
    part = path.with_name(f".{path.name}-{ray.get_runtime_context().get_worker_id()}.part")
    frame.write_parquet(part)
    part.replace(path)
