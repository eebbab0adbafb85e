"""polars and pandas frames prepare to the same data as files do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from m6rec.data.frames import from_frames
from m6rec.data.prepare import prepare
from m6rec.data.schema import DataConfig, Table, Tables
from m6rec.errors import ConfigError, DataError
from m6rec.tracking import Run

LOG: dict[str, list[Any]] = {
    "user_id": [7, 7, 9, 9],
    "item_id": ["a", "b", "a", None],
    "rating": [5.0, 3.0, None, 1.0],
    "timestamp": [1_700_000_000, 1_700_000_100, 1_700_000_200, 1_700_000_300],
}
ITEMS: dict[str, list[Any]] = {
    "item_id": ["a", "b", "c"],
    "title": ["A", "B", "C"],
    "price": [1, 2, 3],
}
CLEANED = {"clean": {"core_users": 1}, "columns": {"user": "user_id"}}


@pytest.mark.parametrize("make", [pl.DataFrame, pl.LazyFrame, pd.DataFrame])
def test_frames_equal_files(tmp_path: Path, make: Any) -> None:
    pl.DataFrame(LOG).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame(ITEMS).write_parquet(tmp_path / "items.parquet")
    tables = {n: Tables([Table(path=f"{n}.parquet")]) for n in ("log", "items")}
    files = prepare(
        DataConfig(interactions=tables["log"], items=tables["items"]), tmp_path, Run()
    ).dataset
    data = from_frames(make(LOG), make(ITEMS), **CLEANED).dataset
    for name in ("user", "item", "time", "item_domain"):
        np.testing.assert_array_equal(getattr(data, name), getattr(files, name))
    assert data.users.keys.to_list() == ["7", "9"]
    assert data.weight.tolist() == [5.0, 3.0, 1.0]  # an empty value counts 1
    assert data.item_text == ("A", "B", "C")


def test_pandas_gaps_do_not_change_keys() -> None:
    log = pd.DataFrame({"user": [1, None, 2], "item": [5, 6, 5]})  # pandas makes floats of users
    prepared = from_frames(log, users=pl.DataFrame({"user": [1, 3], "age": [20, 30]}))
    assert prepared.dataset.users.keys.to_list() == ["1", "2", "3"]
    assert prepared.drops.count("missing") == 1
    assert prepared.users["age"].to_list() == [20, None, 30]


def test_datetimes() -> None:
    time = pd.to_datetime(["2023-11-14 22:13:20", "2023-11-14 22:13:21"])
    log = pd.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": time})
    assert from_frames(log).dataset.time.tolist() == [1_700_000_000, 1_700_000_001]


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(DataError, match="interactions: must be a polars or pandas DataFrame"):
        from_frames([1, 2])
    with pytest.raises(DataError, match="interactions: no column looks like the item"):
        from_frames(pl.DataFrame({"user": [1]}))
    with pytest.raises(ConfigError, match='did you mean "columns"'):
        from_frames(pl.DataFrame({"user": [1], "item": [2]}), column={"user": "user"})
