"""Delimited text → string columns, after every line was checked for its number of fields."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.schema import Table
from m6rec.errors import DataError

ROW = "#row"  # line in a text file, else the 1-based row
BLANK = "\x1f"  # a separator that no text contains
DELIMITERS = (",", "\t", ";", "|", "::", " ")
POSITIONS = ("user", "item", "value", "time")  # columns of a log without a header


def head(table: Table, path: Path, size: int = 1 << 16) -> list[str]:
    """Return the first lines of a text file, decoded."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read(size)
    whole = len(raw) < size
    lines = decode(table, raw if whole else raw[: raw.rfind(b"\n") + 1]).splitlines()
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


def _closed(line: str, delimiter: str) -> bool:
    try:
        return bool(next(csv.reader([line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return False


def header_of(first: Sequence[str]) -> bool:
    """Whether the fields of a first line are column names: words, no numbers.

    Some may be blank, as pandas writes an index.
    """
    words = [word.strip() for word in first if word.strip()]
    return bool(words) and not any(_number(word) for word in words)


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def decode(table: Table, raw: bytes) -> str:
    """Return text in the table's encoding; raises DataError that names the line."""
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


def read_csv(table: Table, path: Path, drops: Drops) -> pl.LazyFrame:
    """Read a table with a sniffed delimiter and a header, if there is one."""
    lines = head(table, path)
    delimiter = table.delimiter or ("\t" if path.suffix == ".tsv" else sniff(lines))
    first = fields(lines[0], delimiter)
    names: Sequence[str] = table.names
    headed = not names and header_of(first)
    if headed:
        names = [name.strip() for name in first]
        twice = [name for name in names if name and names.count(name) > 1]
        if twice:
            raise DataError(f'{table.name}: has two columns "{twice[0]}"; rename one')
    elif not names:
        if len(first) > len(POSITIONS):
            raise DataError(
                f"{table.name}: the first line is no header ({lines[0][:60]}); "
                'name the columns: names = ["user", "item", …]'
            )
        names = POSITIONS[: len(first)]
        drops.note(f"{table.name}: no header; columns taken as {', '.join(names)}")
    return scan(table, path, delimiter, names, headed, '"', drops)


def scan(
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
        text = decode(table, raw)
        if len(delimiter) > 1:
            text, delimiter = text.replace(delimiter, BLANK), BLANK
        source = text.encode()
    lines = lines_of(table, source)
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
        source = kept.select("line").write_csv(include_header=False, quote_style="never").encode()
        rows = kept[ROW].slice(1 if headed else 0)
    frame = pl.scan_csv(
        source,
        separator=delimiter,
        has_header=headed,
        new_columns=[name or f"{BLANK}{i}" for i, name in enumerate(names)],
        infer_schema=False,
        quote_char=quote,
        truncate_ragged_lines=True,
        glob=False,
    )
    if wrong.height:
        frame = frame.collect().insert_column(0, rows).lazy()
    else:
        frame = frame.with_row_index(ROW, 2 if headed else 1)
    columns = [name for name in names if name]
    return frame.select(ROW, *columns).filter(~pl.all_horizontal(pl.col(columns).is_null()))


def lines_of(table: Table, source: Path | bytes) -> pl.LazyFrame:
    """Return (ROW, line) of a text file; raises DataError where it is not UTF-8."""
    frame = pl.scan_lines(source, row_index_name=ROW, row_index_offset=1, glob=False)
    try:
        frame.select(pl.col("line").str.len_bytes().sum()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        decode(table, source if isinstance(source, bytes) else source.read_bytes())
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
    starts = line.str.contains(rf'(?:^|{mark})"')
    open_end = line.str.count_matches(quote, literal=True) % 2 == 1
    unclosed = line.str.contains(rf'(?:^|{mark})"(?:[^"]|"")*"[^"{mark}\r]')
    quoted = lines.filter(line.str.contains(quote, literal=True) & (unclosed | open_end))
    odd = quoted.with_columns(
        open=open_end,
        opens=open_end & starts,
        closes=open_end & ~starts & line.str.contains(rf'"\r?(?:$|{mark})'),
    ).collect()
    if odd["opens"].any() and odd["closes"].any():
        return wrong.clear(), quote
    if odd.height and not wrong.height:
        return wrong, None
    stray = [not _closed(text, delimiter) for text in odd["line"].to_list()]
    odd = odd.filter(pl.col("open") | pl.Series(stray, dtype=pl.Boolean))
    width_of = [len(fields(text, delimiter)) for text in wrong["line"].to_list()]
    wrong = wrong.filter(pl.Series(width_of, dtype=pl.Int64) != width)
    return pl.concat([wrong, odd.select(ROW, "line")]).unique(ROW).sort(ROW), quote
