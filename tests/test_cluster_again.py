"""A job that is begun again goes on from what is its own; other data or options are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from m6rec.cluster import prepare as preparing
from m6rec.cluster.tune import digest
from m6rec.data.dataset import Dataset
from m6rec.errors import DataError
from m6rec.experiment import load
from m6rec.tune import Search
from shop import write_shop

LOG = """\
[data]
interactions = ["one.csv", "two.csv"]
items = "items.csv"
"""
SQL = """\
[data]
[[data.interactions]]
sql = "sqlite:///shop.db"
query = "select * from log where item = 'a'"
[[data.interactions]]
sql = "sqlite:///shop.db"
query = "select * from log where item > 'a'"
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are done in this process."""

    def done(worker: Any, given: Any, shards: Any) -> Iterator[Any]:
        made = worker(*given)
        return (made(dict(shard)) for shard in shards)

    monkeypatch.setattr(preparing, "done", done)
    monkeypatch.setattr(preparing, "join", lambda address: None)


def events(*users: str) -> pl.DataFrame:
    return pl.DataFrame({"user": [u for u in users for _ in "abc"], "item": [*"abc"] * len(users)})


def users(file: Path) -> set[str]:
    return set(pl.read_parquet(file)["user"])


def killed(done: int, of: int) -> None:
    if done:
        raise KeyboardInterrupt


@pytest.mark.parametrize("over", [True, False], ids=["over", "killed"])
@pytest.mark.parametrize("name", ["one.csv", "items.csv"])
def test_a_job_whose_files_changed_is_refused(name: str, over: bool, tmp_path: Path) -> None:
    events("u0", "u1", "u2").write_csv(tmp_path / "one.csv")
    events("u3", "u4", "u5").write_csv(tmp_path / "two.csv")
    pl.DataFrame({"item": [*"abc"]}).write_csv(tmp_path / "items.csv")
    (tmp_path / "shop.toml").write_text(LOG)
    experiment, out = load(tmp_path / "shop.toml"), tmp_path / "out"
    if over:
        preparing.prepare("", experiment, out)
    else:
        with pytest.raises(KeyboardInterrupt):
            preparing.prepare("", experiment, out, advance=killed)
    with (tmp_path / name).open("a") as file:
        file.write("new,a\n" if name == "one.csv" else "d\n")
    role = "items" if name == "items.csv" else "interactions"
    with pytest.raises(DataError, match=f"events of another {role} file .*name an empty folder"):
        preparing.prepare("", experiment, out)


@pytest.mark.parametrize("path", ["log", "log/*.parquet", "log/one.parquet"])
def test_parquet_of_as_many_other_rows_is_refused(path: str, tmp_path: Path) -> None:
    file, out = tmp_path / "log" / "one.parquet", tmp_path / "out"
    file.parent.mkdir()
    events("u0", "u1").write_parquet(file)
    size, changed = file.stat().st_size, file.stat().st_mtime_ns
    table = f'{{path = "{path}", format = "parquet"}}'
    (tmp_path / "shop.toml").write_text(f"[data]\ninteractions = {table}\n")
    experiment = load(tmp_path / "shop.toml")
    preparing.prepare("", experiment, out)
    preparing.prepare("", experiment, out)
    events("u2", "u3").write_parquet(file)
    os.utime(file, ns=(changed, changed + 1000))
    assert file.stat().st_size == size
    with pytest.raises(DataError, match="another interactions file"):
        preparing.prepare("", experiment, out)


def test_a_database_is_read_anew_and_a_bucket_of_nobody_has_no_file(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(SQL)
    base, out = f"sqlite:///{tmp_path / 'shop.db'}", tmp_path / "out"
    log = events(*(f"u{n}" for n in range(6)))
    log.write_database("log", base)
    experiment = load(tmp_path / "shop.toml")
    preparing.prepare("", experiment, out)
    kept, gone = sorted((out / "events").iterdir())
    left = users(kept)
    log.filter(pl.col("user").is_in(list(left))).write_database(
        "log", base, if_table_exists="replace"
    )
    preparing.prepare("", experiment, out)
    assert users(kept) == left and not gone.exists()


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return Search.of(load(write_shop(tmp_path_factory.mktemp("shop"))))


def other(data: Dataset, what: str) -> Dataset:
    """The data with one thing changed."""
    kind, (first, *more) = data.events[0], data.domains
    changed: dict[str, Callable[[], Any]] = {
        "events": lambda: (replace(kind, half_life=1.0), *data.events[1:]),
        "domains": lambda: (replace(first, users="own"), *more),
        "item_domain": lambda: 1 - data.item_domain,
        "hidden": lambda: ~data.hidden,
        "ordered": lambda: not data.ordered,
        "user_attributes": lambda: {n: -block for n, block in data.user_attributes.items()},
        "item_attributes": lambda: {f"{n}2": b for n, b in data.item_attributes.items()},
        "item_text": lambda: ("nothing", *(data.item_text or ())[1:]),
        "user_text": lambda: ("words",) * data.n_users,
    }
    return replace(data, **{what: changed[what]()})


@pytest.mark.parametrize(
    "what",
    [
        "events", "domains", "item_domain", "hidden", "ordered", "user_attributes",
        "item_attributes", "item_text", "user_text",
    ],
)  # fmt: skip
def test_a_search_of_other_data_is_another(search: Search, what: str) -> None:
    split = replace(search.split, train=other(search.split.train, what))
    assert digest(replace(search, split=split)) != digest(search)


def test_a_search_is_known_again_and_one_of_another_holdout_is_another(search: Search) -> None:
    assert digest(replace(search)) == digest(search)
    test = search.split.test
    split = replace(search.split, test=test.take(np.arange(len(test) - 1)))
    assert digest(replace(search, split=split)) != digest(search)
