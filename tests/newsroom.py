"""A made-up newsroom for tests: firms, news in two languages, prices, and a [opinion] TOML."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

from m6rec.opinion.shocks import World, make
from m6rec.opinion.stories import aliases, documents, named

DAYS = 120


@cache
def world() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Documents and prices of 12 firms over some months, the newest ending in the past."""
    made = named(make(World(windows=DAYS, documents=1.2, seed=3)))
    return documents(made), made.prices


def write_config(folder: Path, *lines: str) -> Path:
    """Write a [opinion] TOML with its table of aliases; ``lines`` stand in the table."""
    aliases().write_csv(folder / "entities.csv")
    path = folder / "opinion.toml"
    table = [
        "[opinion]", 'entities = "entities.csv"', 'sentiment = {encoder = "hashed"}',
        'forecast = {epochs = 2, hidden = 4}', "delivery = {log = false}", *lines,
    ]  # fmt: skip
    path.write_text("\n".join(table) + "\n", encoding="utf-8")
    return path
