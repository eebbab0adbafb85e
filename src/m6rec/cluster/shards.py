"""Shards of a large job, done by workers with Ray Data; each writes a file, whole or not at all."""

from __future__ import annotations

import json
import logging
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import ray
import ray.data
import ray.util.client
from ray.exceptions import RayError

from m6rec.cluster.nodes import connect, own
from m6rec.errors import ConfigError, DataError, M6RecError

Row = Mapping[str, Any]


def join(address: str) -> None:
    """Join a cluster from one of its machines, from where alone Ray Data and Ray Tune work."""
    if not address.startswith("ray://"):
        connect(address)
    if address.startswith("ray://") or ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        raise ConfigError(
            f'--cluster "{address}": this cannot be done from outside of a cluster; give the '
            "command on one of its machines, with --cluster auto"
        )


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
    found = rows.map(
        _Worker,  # type: ignore[arg-type]
        fn_constructor_args=(worker, *given),
        num_cpus=1,
        concurrency=(1, most),
    )
    try:
        for row in found.iter_rows():
            told = pickle.loads(row["told"])
            if isinstance(told, M6RecError):
                raise told
            yield told
    except RayError as error:
        raise own(error) from error


class _Worker:
    """Hands back what a worker says, or the error that it raised, which Ray Data would not."""

    def __init__(self, worker: Any, *given: Any) -> None:
        self.worker = worker(*given)

    def __call__(self, shard: dict[str, Any]) -> dict[str, bytes]:
        try:
            told = self.worker(shard)
        except Exception as error:
            told = own(error)
        return {"told": pickle.dumps(told)}


def claim(out: Path, about: Row, what: str) -> None:
    """Make the folder of a job, or check that it is; its shards that are there are kept.

    about: all that decides what the shards hold. Raises DataError where the folder is another's.
    """
    path = out / f"{what}.json"
    if not path.exists():
        if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
            raise DataError(f"{out}: holds other files; name an empty folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json(about, path)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in about.items():
        if found.get(name) != value:
            raise DataError(
                f"{out}: holds {what} of another {name} ({found.get(name)}); name an empty folder"
            )


def write(frame: pl.DataFrame, path: Path, rows: int | None = None) -> None:
    """Write a Parquet file that is there whole or not at all. rows: of a group."""
    part = _part(path)
    frame.write_parquet(part, row_group_size=rows)
    part.replace(path)


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file that is there whole or not at all."""
    write_text(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a file that is there whole or not at all."""
    part = _part(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _part(path: Path) -> Path:
    """A name that no other process writes, on whatever machine."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}.part")
