"""The test files of a "given" split, prepared like the data that they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from m6rec.data.dataset import Dataset
from m6rec.data.prepare import prepare
from m6rec.data.schema import NO_TABLES, DataConfig, Tables
from m6rec.tracking import Run


def read_test(data: DataConfig, test: Tables, base: Path, run: Run) -> Dataset:
    """Return the events of the test tables; items, users, links, domains and events as declared.

    Cleaning by value, time and duplicates applies; k-cores, bots and sessions do not, since a
    test user may well have a single answer. ``splits.given`` brings the codes together.
    """
    clean = replace(
        data.clean, core_users=0, core_items=0, max_events=None, max_per_day=None,
        min_session=0, max_session=None,
    )  # fmt: skip
    domains = {n: replace(d, interactions=NO_TABLES) for n, d in data.domains.items()}
    return prepare(
        replace(data, interactions=test, domains=domains, clean=clean), base, run
    ).dataset
