"""Files and SQL queries → polars frames with raw columns and a row number."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.schema import Table
from m6rec.errors import DataError

ROW = "#row"  # line in a text file, else the 1-based row
BLANK = "\x1f"  # a separator that no text contains
DELIMITERS = (",", "\t", ";", "|", "::", " ")
POSITIONS = ("user", "item", "value", "time")  # columns of a log without a header
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
    if not path.exists() and "*" not in table.path:
        near = sorted(p.name for p in path.parent.glob("*"))[:8] if path.parent.is_dir() else []
        raise DataError(
            f"{path}: no such file" + (f"; {path.parent} holds {', '.join(near)}" if near else "")
        )
    kind = format_of(table)
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
        if kind == "recbole":
            return _read_recbole(table, path, drops)
        if kind == "movielens":
            return _read_movielens(table, path, drops)
        return _read_csv(table, path, drops)
    except (pl.exceptions.PolarsError, OSError, csv.Error) as error:
        raise DataError(f"{table.name}: cannot be read as {kind}: {first_line(error)}") from None


def format_of(table: Table) -> str:
    """Return the format of a table, by its file name where it does not say."""
    if table.format != "auto":
        return table.format
    path = Path(table.path)
    return "movielens" if path.name in MOVIELENS else SUFFIXES.get(path.suffix.lower(), "csv")


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# Text files


def head(table: Table, path: Path, size: int = 1 << 16) -> list[str]:
    """Return the first lines of a text file, decoded."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read(size)
    whole = len(raw) < size
    lines = _decode(table, raw if whole else raw[: raw.rfind(b"\n") + 1]).splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{table.name}: is empty")
    return lines


def sniff(lines: Sequence[str]) -> str:
    """Return the delimiter that splits most lines into the same number (above 1) of fields."""
    best, most = ",", 0
    for delimiter in DELIMITERS:
        counts = [len(fields(line, delimiter)) for line in lines[:50] if line.strip()]
        agree = counts.count(counts[0]) if counts and counts[0] > 1 else 0
        if agree > most * (1.2 if delimiter == " " else 1.0):
            best, most = delimiter, agree
    return "::" if best == ":" else best


def fields(line: str, delimiter: str) -> list[str]:
    """Split one line, minding quotes where the delimiter is one character."""
    if len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


def header_of(first: Sequence[str]) -> bool:
    """Whether the fields of a first line are column names: distinct words, no numbers."""
    words = [word.strip() for word in first]
    return len(set(words)) == len(words) and all(w and not _number(w) for w in words)


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _decode(table: Table, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if table.encoding == "utf-8" else table.encoding)
    except LookupError:
        raise DataError(f'{table.name}: encoding = "{table.encoding}" is not known') from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{table.name}, line {line}: is not {table.encoding}; "
            'say encoding = "latin-1", "gb18030" or whatever the file is written in'
        ) from None


def _read_csv(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    lines = head(table, path)
    delimiter = table.delimiter or ("\t" if path.suffix == ".tsv" else sniff(lines))
    first = fields(lines[0], delimiter)
    names: Sequence[str] = table.names
    headed = not names and header_of(first)
    if headed:
        names = [name.strip() for name in first]
    elif not names:
        if len(first) > len(POSITIONS):
            raise DataError(
                f"{table.name}: the first line is no header ({lines[0][:60]}); "
                'name the columns: names = ["user", "item", …]'
            )
        names = POSITIONS[: len(first)]
        drops.note(f"{table.name}: no header; columns taken as {', '.join(names)}")
    return _scan(table, path, delimiter, names, headed, '"', drops)


def _scan(
    table: Table,
    path: Path,
    delimiter: str,
    names: Sequence[str],
    headed: bool,
    quote: str | None,
    drops: Drops,
) -> pl.LazyFrame:
    """Scan a delimited file as strings, after a check of the number of fields in every line."""
    source: Path | bytes = path
    plain = table.encoding.lower().replace("-", "") in ("utf8", "ascii") and path.suffix != ".gz"
    if not plain or len(delimiter) > 1:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        source = _decode(table, raw).replace(delimiter, BLANK).encode()
        if len(delimiter) == 1:
            source = source.replace(BLANK.encode(), delimiter.encode())
        else:
            delimiter = BLANK
    lines = _lines(table, source)
    wrong, quote = _wrong_lines(lines, delimiter, len(names), quote)
    if headed:
        wrong = wrong.filter(pl.col(ROW) > 1)
    if wrong.height:
        samples = [{"row": r, "line": t[:120]} for r, t in wrong.head(SAMPLES).iter_rows()]
        reason = f"does not have {len(names)} fields, or a quote is not closed"
        drops.read[table.name] = drops.read.get(table.name, 0) + wrong.height
        drops.bad("malformed", table.name, reason, wrong.height, samples)
        good = lines.join(wrong.lazy().select(ROW), on=ROW, how="anti", maintain_order="left")
        kept = good.filter(pl.col("line").str.strip_chars() != "").collect(engine="streaming")
        source = "\n".join(kept["line"].to_list()).encode() + b"\n"
        rows = kept[ROW].slice(1 if headed else 0)
    frame = pl.scan_csv(
        source,
        separator=delimiter,
        has_header=headed,
        new_columns=list(names),
        infer_schema=False,
        quote_char=quote,
        truncate_ragged_lines=True,
        glob=False,
    )
    if wrong.height:
        return frame.collect().insert_column(0, rows).lazy()
    return frame.with_row_index(ROW, 2 if headed else 1)


def _lines(table: Table, source: Path | bytes) -> pl.LazyFrame:
    """Return (ROW, line) of a text file; raises DataError where it is not UTF-8."""
    frame = pl.scan_lines(source, row_index_name=ROW, row_index_offset=1, glob=False)
    try:
        frame.select(pl.col("line").str.len_bytes().sum()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        _decode(table, source if isinstance(source, bytes) else source.read_bytes())
        raise
    return frame


def _wrong_lines(
    lines: pl.LazyFrame, delimiter: str, width: int, quote: str | None
) -> tuple[pl.DataFrame, str | None]:
    """Return the (ROW, line) that cannot be read as ``width`` fields, and the quote in use.

    Blank lines are fine. Where every line has its fields with quotes taken as plain
    characters, and some quote is not closed, there is no quoting. Else lines with quotes are
    parsed one by one; a file with quoted line breaks is left to polars.
    """
    line = pl.col("line")
    uneven = line.str.count_matches(delimiter, literal=True) != width - 1
    wrong = lines.filter(uneven & (line.str.strip_chars() != "")).collect(engine="streaming")
    if quote is None:
        return wrong, None
    mark = re.escape(delimiter)
    unclosed = line.str.contains(rf'(?:^|{mark})"(?:[^"]|"")*"[^"{mark}\r]')
    open_end = line.str.count_matches(quote, literal=True) % 2 == 1
    quoted = lines.filter(line.str.contains(quote, literal=True))
    closes = open_end & line.str.contains(rf'"\r?(?:$|{mark})')
    closes &= ~line.str.contains(rf'(?:^|{mark})"')
    odd = quoted.filter(unclosed | open_end).with_columns(open=open_end, closes=closes).collect()
    if odd.height and not wrong.height and not odd["closes"].any():
        return wrong, None
    if odd["open"].any():
        return wrong.clear(), quote
    width_of = [len(fields(text, delimiter)) for text in wrong["line"].to_list()]
    wrong = wrong.filter(pl.Series(width_of, dtype=pl.Int64) != width)
    return pl.concat([wrong, odd.drop("open", "closes")]).unique(ROW).sort(ROW), quote


def _read_jsonl(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = _decode(table, raw)
    try:
        frame = pl.read_ndjson(io.BytesIO(text.encode()), infer_schema_length=None)
        return frame.lazy().with_row_index(ROW, 1)
    except pl.exceptions.PolarsError:
        pass  # some line is no object: find which
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
    source = path if table.encoding == "utf-8" else _decode(table, path.read_bytes()).encode()
    words = pl.col("line").str.extract_all(r"\S+")
    frame = _lines(table, source).with_columns(words.alias("words"))
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
    frame = _scan(table, path, "\t", [name for name, _, _ in typed], True, None, drops)
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
    frame = _scan(table, path, delimiter, names, False, None, drops)
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
    except (sa.exc.SQLAlchemyError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{table.name}: the query failed: {first_line(error)}") from None
    finally:
        engine.dispose()
