"""Events prepared out of core: read, checked and cleaned in shards of Parquet, which ``prepare``
then reads with nothing left to drop.

First every piece of a table is read and its rows are checked; the good ones are written by
buckets of people. Then every bucket is cleaned, with all events of its people in their order.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from glob import glob
from pathlib import Path
from typing import Any

import polars as pl

from m6rec import config as toml
from m6rec.cluster.shards import claim, done, join, write, write_json
from m6rec.compiled import threads
from m6rec.data import catalogue, readers
from m6rec.data.clean import Cleaner, Sort
from m6rec.data.delimited import ROW
from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.events import PARTS, Codes, good_rows, note_untimed, unusable
from m6rec.data.identity import item_keys, person_keys
from m6rec.data.prepare import domain_of_items
from m6rec.data.schema import Clean, Columns, DataConfig, Table, Tables
from m6rec.errors import DataError
from m6rec.experiment import Experiment

PIECE = 4_000_000  # rows that one worker holds at a time
GROUP = 65_536  # rows of a row group between the two passes: what is read to look at a bucket
TABLE = 1 << 40  # places of rows in the order of all tables: table · TABLE + row
STEPS = ("duplicates", "bots", "sessions")
Row = dict[str, Any]


def prepare(
    address: str,
    experiment: Experiment,
    out: Path,
    name: str = "experiment.toml",
    *,
    piece: int = PIECE,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Drops:
    """Write events/*.parquet, drops.json and the TOML ``name`` that reads them; return the drops.

    out: a folder that all machines see under the same path, as they do the data. Interactions
    that are Parquet are read in pieces of rows, other tables whole, one by each worker. Left to
    the TOML are near copies of users and the k-core, which look at all events; and, where events
    hold both ways (``mutual``), all cleaning that looks at more than a row. Pieces that are done
    are not done again when a job that was killed is started again. Raises DataError as ``prepare``,
    and where ``out`` holds events of other data, or of files that have changed since.
    """
    data, base, out = experiment.data, Path(experiment.base), out.absolute()
    tables = data.tables("interactions")
    if not tables:
        raise DataError('[data]: no interactions; say interactions = "log.parquet"')
    sizes = [_rows(table, base) for table in tables]
    pieces = [
        {"table": t, "start": start, "rows": -1 if size is None else piece}
        for t, size in enumerate(sizes)
        for start in range(0, piece if size is None else max(size, 1), piece)
    ]
    files = {
        f"{role} file": _digest([_stamps(table, base) for table in data.tables(role)])
        for role in ("interactions", "items", "links")
    }
    known = _digest([toml.to_table(data), str(base)])
    about = {"data": known, **files, "rows": sizes, "piece": piece}
    claim(out, about | {"polars": pl.__version__}, "events")  # whose hashes make the buckets
    join(address)

    n, (links, items) = len(pieces), _catalogue(data, base)
    reads = data, base, items, links, n
    read = _all(Read, reads, pieces, out / "rows", lambda i: advance(i, 2 * n))
    drops = _read_drops(tables, read, data)
    whole = Sort(*(any(each[flag] for each in read) for flag in ("timed", "rated", "ranked")))
    cleans = data, whole, any(each["value"] for each in read), out / "rows", out / "events"
    buckets = [{"bucket": b} for b in range(n)]
    cleaned = _all(Cleaned, cleans, buckets, out / "cleaned", lambda i: advance(n + i, 2 * n))
    _add(drops, cleaned)
    drops.kept = sum(each["rows"] for each in cleaned)
    if not drops.kept:
        raise DataError("no event is left after cleaning; loosen [data.clean]")
    columns = next(each["columns"] for each in cleaned if each["rows"])
    ordered = all(table.ordered for table in tables)
    drops.save(out / "drops.json")
    text = toml.dumps(replace(experiment, data=_reading(data, out, columns, ordered)))
    (out / name).write_text("# Written by `m6rec prepare`.\n" + text, encoding="utf-8")
    for folder in ("rows", "cleaned"):
        shutil.rmtree(out / folder)
    return drops


class Read:
    """One worker: reads pieces of tables, and writes their good rows by buckets of people."""

    def __init__(
        self, data: DataConfig, base: Path, items: pl.DataFrame, links: pl.DataFrame, buckets: int
    ) -> None:
        self.data, self.base, self.buckets = data, base, buckets
        self.items, self.links = items, links
        self.declared = [data.domain(name) for name in data.domains]

    def __call__(self, piece: Row) -> Row:
        report, codes, drops = Path(piece["report"]), Codes(), Drops(self.data.strict)
        table = self.data.tables("interactions")[piece["table"]]
        frame = readers.read(table, self.base, drops)
        if piece["rows"] >= 0:
            frame = frame.slice(piece["start"], piece["rows"])
        known = domain_of_items(self.items, codes)
        rows, untimed = good_rows(table, frame, self.data, codes, known, drops)
        rows = rows.with_columns(codes.names(part).gather(rows[part]).alias(part) for part in PARTS)
        place = pl.col(ROW).cast(pl.Int64) + piece["table"] * TABLE
        value = "value" in rows.columns
        if not value:
            rows = rows.with_columns(value=pl.lit(None, pl.Float32))
        people = rows.select("domain", "user").unique()
        person = person_keys(people, self.links, self.declared).alias("person")
        rows = rows.join(people.with_columns(person), on=["domain", "user"], how="left")
        bucket = pl.col("person").hash() % self.buckets
        if _mutual(self.data):  # in their order, whoever's they are
            bucket = pl.lit(piece["shard"], pl.UInt64)
        rows = rows.with_columns(place, bucket=bucket).sort("bucket", ROW)
        write(rows, report.with_suffix(".parquet"), GROUP)
        rated = rows["domain"].is_in(_explicit(rows["domain"], self.data).implode())
        found = {
            "rows": rows.height, "untimed": untimed, "value": value,
            "timed": bool((rows["time"] >= 0).any()),
            "rated": bool(rated.any()), "ranked": not rated.all(),
            "read": drops.read, "dropped": [asdict(d) for d in drops.entries],
            "notes": drops.notes,
        }  # fmt: skip
        write_json(found, report)
        return {"shard": piece["shard"]}


class Cleaned:
    """One worker: cleans the events of buckets of people."""

    def __init__(self, data: DataConfig, whole: Sort, value: bool, rows: Path, out: Path) -> None:
        self.data, self.whole, self.rows, self.out = data, whole, rows, out
        self.columns = ["value"] if value else []

    def __call__(self, given: Row) -> Row:
        report, codes, drops = Path(given["report"]), Codes(), Drops()
        mine = pl.scan_parquet(self.rows / "*.parquet").filter(pl.col("bucket") == given["bucket"])
        rows = mine.sort(ROW).collect()
        keys = {"user": rows["person"], "item": item_keys(rows)}
        keys |= {part: rows[part] for part in ("event", "domain")}
        coded = pl.DataFrame([codes.encode(p, key).alias(p) for p, key in keys.items()])
        events = pl.concat([coded, rows.select(*self.columns, "time", ROW)], how="horizontal")
        names = {part: codes.names(part) for part in ("user", "item")}
        domains = codes.names("domain")
        rated = domains.is_in(_explicit(domains, self.data).implode()).to_numpy()
        clean, _ = _shares(self.data)
        cleaner = Cleaner(clean, rated, lambda p, code: names[p][code], drops, self.whole)
        with threads(1):
            kept = cleaner.apart(events.with_row_index("at")) if rows.height else events
        columns: list[str] = []
        part = self.out / f"part-{given['shard']:05d}.parquet"
        if kept.height:
            found = rows[kept["at"]].select("user", "item", "event", "domain")
            if "value" in kept.columns:
                found = found.with_columns(kept["value"])
            if self.whole.timed:
                time = pl.when(pl.col("time") >= 0).then("time").alias("time")
                found = found.with_columns(kept.select(time))
            columns = found.columns
            write(found, part)
        else:
            part.unlink(missing_ok=True)  # of an earlier reading
        dropped = [asdict(drop) for drop in drops.entries]
        told = {"rows": kept.height, "columns": columns, "dropped": dropped, "notes": drops.notes}
        write_json(told, report)
        return {"shard": given["shard"]}


def _all(
    worker: Any, given: Sequence[Any], shards: Sequence[Row], folder: Path,
    advance: Callable[[int], None],
) -> list[Row]:  # fmt: skip
    """Have the shards done that have no report yet; return all reports, in order."""
    folder.mkdir(exist_ok=True)
    (folder.parent / "events").mkdir(exist_ok=True)
    reports = [folder.absolute() / f"{i:05d}.json" for i in range(len(shards))]
    todo = [
        {**shard, "shard": i, "report": str(report)}
        for i, (shard, report) in enumerate(zip(shards, reports, strict=True))
        if not report.exists()
    ]
    n = len(shards) - len(todo)
    advance(n)
    for _ in done(worker, given, todo):
        n += 1
        advance(n)
    try:
        return [json.loads(report.read_text(encoding="utf-8")) for report in reports]
    except FileNotFoundError as error:
        raise DataError(
            f"{error.filename}: was written on another machine; name a folder that all share"
        ) from None


def _rows(table: Table, base: Path) -> int | None:
    """How many rows a table of Parquet has; None = it is read whole."""
    if table.sql or readers.format_of(table) != "parquet":
        return None
    return int(readers.read(table, base, Drops()).select(pl.len()).collect().item())


def _stamps(table: Table, base: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file of a table; none of a database."""
    path = base / table.path
    if table.sql:
        files = []
    elif path.is_file():
        files = [path]
    else:
        found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
        files = sorted(file for file in found if file.is_file())
    stats = [file.stat() for file in files]
    return [(str(f), s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)]


def _catalogue(data: DataConfig, base: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Links, and items with their domain. What is wrong with them ``prepare`` will say."""
    drops = Drops()
    links, items = (
        [(table, readers.read(table, base, drops)) for table in data.tables(role)]
        for role in ("links", "items")
    )
    found = catalogue.load_items(items, data, drops).select("item", "domain")
    return catalogue.load_links(links, data, drops), found


def _explicit(domains: pl.Series, data: DataConfig) -> pl.Series:
    """Those of the domains that hold ratings."""
    try:
        explicit = [d for d in domains.unique() if data.domain(d).feedback == "explicit"]
    except ValueError as error:
        raise DataError(f"domain column: {error}") from None
    return pl.Series(explicit, dtype=pl.String)


def _mutual(data: DataConfig) -> bool:
    return any(event.mutual for event in data.events.values())


def _shares(data: DataConfig) -> tuple[Clean, Clean]:
    """What is done to the events of some people, and what is left to do to all events."""
    if _mutual(data):
        return Clean(duplicates="all"), data.clean
    of_all = {
        name: getattr(data.clean, name) for name in ("near_copies", "core_users", "core_items")
    }
    return replace(data.clean, near_copies=None), Clean(duplicates="all", **of_all)


def _reading(data: DataConfig, out: Path, columns: Sequence[str], ordered: bool) -> DataConfig:
    """The configuration of the events that were written; all else as it was."""
    value, time = (name if name in columns else "" for name in ("value", "time"))
    table = Table(
        path=str(out.absolute() / "events" / "*.parquet"),
        ordered=ordered,
        columns=Columns(
            user="user", item="item", event="event", domain="domain", value=value, time=time
        ),
    )
    domains = {name: replace(d, interactions=Tables()) for name, d in data.domains.items()}
    _, left = _shares(data)
    return replace(data, interactions=Tables([table]), domains=domains, clean=left)


def _read_drops(tables: Sequence[Table], reports: Sequence[Row], data: DataConfig) -> Drops:
    """What reading dropped, table by table."""
    drops = Drops(data.strict)
    _add(drops, reports)
    for name, table in {table.name: table for table in tables}.items():
        of = [each for each in reports if name in each["read"]]
        drops.read[name] = sum(each["read"][name] for each in of)
        if not sum(each["rows"] for each in of):
            raise unusable(table, data, drops)
        note_untimed(name, sum(each["untimed"] for each in of), drops)
    return drops


def _add(drops: Drops, reports: Iterable[Mapping[str, Any]]) -> None:
    """Add what the reports of shards say, one entry a reason, with its first rows."""
    merged: dict[tuple[str, str, str], tuple[int, list[Row]]] = {}
    for report in reports:
        for note in report["notes"]:
            drops.note(note)
        for each in report["dropped"]:
            cell = each["step"], each["table"], each["reason"]
            count, samples = merged.get(cell, (0, []))
            merged[cell] = count + each["count"], [*samples, *each["samples"]]
    in_order = sorted(merged.items(), key=lambda m: STEPS.index(m[0][0]) if m[0][0] in STEPS else 0)
    for (step, table, reason), (count, samples) in in_order:
        samples.sort(key=lambda sample: sample.get(ROW, 0))
        few = [{k: v for k, v in sample.items() if k != ROW} for sample in samples[:SAMPLES]]
        drops.add(step, table, reason, count, few)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
