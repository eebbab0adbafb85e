"""Files and SQL queries → polars frames with raw columns and a row number."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from m6rec.data.delimited import ROW, decode, head, lines_of, read_csv, scan
from m6rec.data.drops import Drops
from m6rec.data.schema import Table
from m6rec.errors import DataError

GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")
MOVIELENS: dict[str, tuple[str, tuple[str, ...]]] = {  # file name → delimiter, columns
    "u.data": ("\t", ("user", "item", "rating", "timestamp")),
    "u.user": ("|", ("user", "age", "gender", "occupation", "zip")),
    "u.item": ("|", ("item", "title", "released", "video", "url", *GENRES)),
    "ratings.dat": ("::", ("user", "item", "rating", "timestamp")),
    "movies.dat": ("::", ("item", "title", "genres")),
    "users.dat": ("::", ("user", "gender", "age", "occupation", "zip")),
}
TYPED = re.compile(r"(\w+:(token|float)(_seq)?(\t|$))+$")  # a header of a RecBole file
SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".inter": "recbole", ".item": "recbole", ".user": "recbole", ".npz": "npz",
}  # fmt: skip


def read(table: Table, base: Path, drops: Drops) -> pl.LazyFrame:
    """Return the raw columns of a table and ``ROW``; malformed rows are dropped and reported.

    Text columns stay strings. Raises DataError for a missing or unreadable file or database.
    """
    if table.sql:
        return _read_sql(table, base).lazy().with_row_index(ROW, 1)
    path = base / table.path
    kind = format_of(table)
    if path.is_dir() and kind != "parquet":
        raise DataError(f"{path}: is a folder; name a file in it")
    if not path.is_file() and kind != "parquet":
        raise absent(path)
    if table.delimiter and kind not in ("csv", "auto"):
        raise DataError(
            f'{table.name}: delimiter = "{table.delimiter}" is of CSV files, and this is read as '
            f"{kind}; leave it out"
        )
    try:
        if kind == "parquet":
            frame = pl.scan_parquet(path)
            frame.collect_schema()
            return frame.with_row_index(ROW, 1)
        if kind == "jsonl":
            return _read_jsonl(table, path, drops)
        if kind == "npz":
            return _read_npz(path)
        if kind == "sequence":
            return _read_sequence(table, path)
        if kind == "movielens":
            return _read_movielens(table, path, drops)
        if kind == "recbole" or (table.format == "auto" and TYPED.match(head(table, path)[0])):
            return _read_recbole(table, path, drops)
        return read_csv(table, path, drops)
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{table.name}: cannot be read as {kind}: {first_line(error)}") from None


def absent(path: Path) -> DataError:
    """Return the error of a file that is not there."""
    near = sorted(p.name for p in path.parent.glob("*"))[:8] if path.parent.is_dir() else []
    return DataError(
        f"{path}: no such file" + (f"; {path.parent} holds {', '.join(near)}" if near else "")
    )


def format_of(table: Table) -> str:
    """Return the format of a table, by its file name where it does not say."""
    if table.format != "auto":
        return table.format
    path = Path(table.path)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return "movielens" if path.name in MOVIELENS else SUFFIXES.get(suffix, "csv")


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read_jsonl(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    try:
        frame = pl.read_ndjson(path, infer_schema_length=None)
        return frame.lazy().with_row_index(ROW, 1)
    except pl.exceptions.PolarsError:
        pass  # some line is no object, or the text is not UTF-8: find which
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = decode(table, raw)
    good, rows, bad = [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if not line.strip():
                continue
            if not isinstance(json.loads(line), dict):
                raise ValueError
            good.append(line)
            rows.append(number)
        except ValueError:
            bad.append({"row": number, "line": line[:120]})
    if not good:
        raise DataError(f"{table.name}: no line is a JSON object")
    drops.read[table.name] = drops.read.get(table.name, 0) + len(bad)
    drops.bad("malformed", table.name, "is not a JSON object", len(bad), bad)
    frame = pl.read_ndjson(io.BytesIO("\n".join(good).encode()), infer_schema_length=None)
    return frame.insert_column(0, pl.Series(ROW, rows, pl.UInt32)).lazy()


def _read_sequence(table: Table, path: Path) -> pl.LazyFrame:
    """``user item item …`` per line."""
    source = path if table.encoding == "utf-8" else decode(table, path.read_bytes()).encode()
    words = pl.col("line").str.extract_all(r"\S+")
    frame = lines_of(table, source).with_columns(words.alias("words"))
    return (
        frame.filter(pl.col("words").list.len() > 0)
        .select(
            ROW,
            pl.col("words").list.first().alias("user"),
            pl.col("words").list.slice(1).alias("item"),
        )
        .explode("item", empty_as_null=False, keep_nulls=False)
    )


def _read_recbole(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    """RecBole atomic file: tab-separated, header ``name:type``."""
    typed = [name.partition(":") for name in head(table, path)[0].rstrip("\n").split("\t")]
    frame = scan(table, path, "\t", [name for name, _, _ in typed], True, None, drops)
    columns = []
    for name, _, kind in typed:
        column = pl.col(name)
        if kind.endswith("_seq"):
            column = column.str.extract_all(r"\S+")
        if kind.startswith("float"):
            to = pl.List(pl.Float64) if kind.endswith("_seq") else pl.Float64
            column = column.cast(to, strict=False)
        columns.append(column)
    return frame.with_columns(columns)


def _read_movielens(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    """u.data, u.item, u.user of MovieLens-100k; ratings, movies and users.dat of 1M and 10M."""
    if path.name not in MOVIELENS:
        raise DataError(f"{table.name}: not a MovieLens file name ({', '.join(MOVIELENS)})")
    delimiter, names = MOVIELENS[path.name]
    if table.encoding == "utf-8" and path.name in ("u.item", "movies.dat"):
        table = Table(path=table.path, encoding="latin-1")
    frame = scan(table, path, delimiter, names, False, None, drops)
    if path.name == "u.item":
        present = [pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in GENRES]
        frame = frame.with_columns(genres=pl.concat_list(present).list.drop_nulls()).drop(
            *GENRES, "video", "url", "released"
        )
    elif "genres" in names:
        frame = frame.with_columns(pl.col("genres").str.split("|"))
    if "title" in names:
        frame = frame.with_columns(title_and_year(pl.col("title")))
    return frame


def title_and_year(text: pl.Expr) -> list[pl.Expr]:
    """Split "Toy Story (1995)" into title and year; what follows the year is left out."""
    year = text.str.extract(r"\((\d{4})\)", 1).cast(pl.Int64)
    title = text.str.replace(r"\s*\(\d{4}\).*$", "").str.replace_all(r"\s+", " ")
    return [title.str.strip_chars().alias("title"), year.alias("year")]


def _read_npz(path: Path) -> pl.LazyFrame:
    """A users × items scipy matrix; the row and column numbers are the keys."""
    from scipy.sparse import coo_array, load_npz

    try:
        matrix = coo_array(load_npz(path))
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: is not a scipy sparse matrix: {first_line(error)}") from None
    row, column = matrix.coords
    values = {"user": row, "item": column, "value": matrix.data.astype(np.float64)}
    return pl.LazyFrame(values).with_row_index(ROW, 1)


# Databases


def _read_sql(table: Table, base: Path) -> pl.DataFrame:
    """Run a query through SQLAlchemy."""
    try:
        import sqlalchemy as sa
    except ImportError:
        raise DataError(
            f'{table.name}: reading SQL needs an extra: pip install "m6rec[sql]" '
            '(PostgreSQL: "m6rec[postgres]")'
        ) from None
    try:
        for name in re.findall(r"\$\{?(\w+)", table.sql):
            if name not in os.environ:
                raise DataError(f"{table.name}: ${name} is not set in the environment")
        url = sa.make_url(os.path.expandvars(table.sql))
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername.startswith("sqlite") and url.database:
            file = base / url.database
            if not file.exists():
                raise DataError(f"{table.name}: no such SQLite file {file}")
            url = url.set(database=str(file))
        engine = sa.create_engine(url)
    except ModuleNotFoundError as error:
        raise DataError(
            f'{table.name}: needs the driver {error.name}: pip install "m6rec[postgres]"'
        ) from None
    except sa.exc.ArgumentError as error:
        raise DataError(f"{table.name}: not a database URL: {first_line(error)}") from None
    try:
        with engine.connect() as connection:
            return pl.read_database(sa.text(table.query), connection, infer_schema_length=None)
    except AttributeError:  # polars asks a statement without a result for its columns
        raise DataError(f"{table.name}: the query returns no table; write a select") from None
    except (sa.exc.SQLAlchemyError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{table.name}: the query failed: {first_line(error)}") from None
    finally:
        engine.dispose()
