"""What the verbs of ``m6rec opinion`` take in: configuration, documents, prices, labels, shocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from m6rec.cli import show
from m6rec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from m6rec.opinion.config import OpinionConfig
    from m6rec.opinion.sentiment import Reader
    from m6rec.store import Store

MOST = 1_000_000  # documents whose texts are at hand for what drove an alert


def options_of(
    path: Path, set: list[str] | None, data: list[Path] | None, prices: list[Path] | None = None
) -> OpinionConfig:
    """Return the configuration, with other files in place of its own where some are given."""
    from m6rec.opinion.config import OpinionConfig

    found = OpinionConfig.read(path, set or [])
    if data:
        found = replace(found, documents=tuple(data))
    return replace(found, prices=tuple(prices)) if prices else found


def readings_of(
    options: OpinionConfig, kept: Store | None, reader: Path | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return documents and readings: of the files, or with a store of all that it holds."""
    from m6rec.opinion.reading import catch_up
    from m6rec.opinion.reading import read as look

    if reader is not None and reader.exists():
        options = replace(options, reader=reader)
    documents, problems = options.read_documents()
    tell_problems(problems)
    if options.documents and not documents.height and kept is None:
        names = ", ".join(str(path) for path in options.documents)
        why = f": {problems[0]}" if problems else ""
        raise DataError(f"{names}: no document is left of {len(problems):,} rows{why}")
    entities, model = options.open_entities(), options.open_reader()
    if kept is None:
        return documents, look(documents, entities, model, options.copies).readings
    kept.opinions.add_documents(documents)
    while catch_up(kept, entities, model, options.copies):
        pass
    return kept.opinions.documents(n=MOST), kept.opinions.readings()


def prices_of(options: OpinionConfig) -> pl.DataFrame:
    """Return the prices of the files."""
    prices, problems = options.read_prices()
    tell_problems(problems)
    return prices


def tell_problems(problems: Sequence[object]) -> None:
    """Say which rows were left out; the first ones in full."""
    for problem in problems[:5]:
        show.note(f"left out: {problem}")
    if len(problems) > 5:
        show.note(f"left out: {len(problems) - 5:,} more rows")


def trained_reader(options: OpinionConfig, path: Path) -> Reader:
    """Return a reader of sentiment trained by a file of texts and labels."""
    from m6rec.opinion.rows import records
    from m6rec.opinion.sentiment import CLASSES

    rows, problems = records(path)
    tell_problems(problems)
    texts, labels = [], []
    for place, row in rows:
        said = str(row.get("sentiment", "")).strip().lower()
        if said not in CLASSES or not row.get("text"):
            raise DataError(
                f"{path}, row {place}: needs text, and a sentiment of {', '.join(CLASSES)}"
            )
        texts.append(str(row["text"]))
        labels.append(CLASSES.index(said))
    return options.sentiment.fit(texts, np.array(labels))


def shocks_of(path: Path) -> pl.DataFrame:
    """Return entity, time and direction of labelled shocks; 0 = any direction."""
    from m6rec.opinion.rows import records, times

    rows, problems = records(path)
    tell_problems(problems)
    found = [(row.get("entity"), row.get("time") or row.get("date"), row.get("direction") or 0)
             for _, row in rows]  # fmt: skip
    frame = pl.DataFrame(
        {
            "entity": [str(entity or "") for entity, _, _ in found],
            "time": times(pl.Series([str(time or "") for _, time, _ in found]), "UTC"),
            "direction": pl.Series([str(way) for *_, way in found]).cast(pl.Int64, strict=False),
        }
    )
    wrong = frame.with_row_index().filter(
        (pl.col("entity") == "")
        | pl.col("time").is_null()
        | ~pl.col("direction").is_in([-1, 0, 1]).fill_null(False)
    )
    if wrong.height:
        raise DataError(
            f"{path}, row {rows[wrong['index'][0]][0]}: needs entity, a time or date, and a "
            "direction of 1, -1 or none"
        )
    return frame


def write(readings: pl.DataFrame, out: Path) -> None:
    """Write readings by the ending of the name."""
    if out.suffix == ".parquet":
        readings.write_parquet(out)
    elif out.suffix == ".csv":
        readings.write_csv(out)
    else:
        raise ConfigError(f"--out {out}: must end in .parquet or .csv")


def moment(text: str) -> int:
    """Return unix seconds of a date or time, in UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--until {text}: write it as 2015-06-30") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
