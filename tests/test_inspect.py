"""A drafted TOML loads and prepares as it is, whatever the files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import polars as pl
import pytest

from m6rec import config
from m6rec.data.inspect import draft
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.errors import DataError
from m6rec.tracking import Run

LOG = pl.DataFrame(
    {
        "visitorid": ["a", "b", "a", "c"],
        "itemid": [1, 1, 2, 3],
        "event": ["view", "hide", "purchase", "view"],
        "timestamp": [1_700_000_000_000 + 1000 * n for n in range(4)],
    }
)
ITEMS = pl.DataFrame({"id": [1, 2, 4], "name": ["x y", "z", "w"], "price": [1.5, 2, 3]})
USERS = pl.DataFrame({"id": ["a", "d"], "age": [30, 40]})


def prepared(folder: Path, *names: str) -> tuple[Prepared, str]:
    text = draft([folder / name for name in names], folder)
    table = tomllib.loads(text)
    return prepare(config.from_table(DataConfig, table["data"], "data"), folder, Run()), text


def test_csv_with_items_and_users(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    ITEMS.write_csv(tmp_path / "products.csv")
    USERS.write_csv(tmp_path / "customers.csv")
    p, text = prepared(tmp_path, "log.csv", "products.csv", "customers.csv")
    assert 'user = "visitorid"  # e.g. a, b, c' in text
    assert '[data.features.items]\n# price = { kind = "numeric" }' in text
    assert tomllib.loads(text)["split"] == {"kind": "leave-last"}
    d = p.dataset
    assert d.n_items == 4
    assert d.users.keys.to_list() == ["a", "b", "c", "d"]
    assert d.item_text == ("x y", "z", "", "w")
    assert [(t.name, t.weight, t.sign) for t in d.events] == [
        ("hide", 1.0, "negative"),
        ("purchase", 4.0, "positive"),
        ("view", 1.0, "positive"),
    ]
    assert not p.drops.entries


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_typed_files(tmp_path: Path, suffix: str) -> None:
    for name, frame in (("log", LOG), ("items", ITEMS)):
        path = tmp_path / f"{name}.{suffix}"
        frame.write_parquet(path) if suffix == "parquet" else frame.write_ndjson(path)
    p, _ = prepared(tmp_path, f"log.{suffix}", f"items.{suffix}")
    assert len(p.dataset) == 4
    assert p.dataset.n_items == 4


def test_recbole(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\n1\t7\t4\n1\t8\t5\n"
    )
    (tmp_path / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\n7\tToy Story\n9\tHeat\n"
    )
    (tmp_path / "x.user").write_text("user_id:token\tage:token\n1\t24\n")
    p, text = prepared(tmp_path, "x.inter", "x.item", "x.user")
    assert 'feedback = "explicit"' in text
    assert p.dataset.weight.tolist() == [4.0, 5.0]
    assert p.dataset.item_text == ("Toy Story", "", "Heat")


def test_one_log_per_domain(tmp_path: Path) -> None:
    for name in ("books", "films"):
        LOG.select("visitorid", "itemid", "timestamp").write_csv(tmp_path / f"{name}.csv")
    ITEMS.write_csv(tmp_path / "books_items.csv")
    p, text = prepared(tmp_path, "books.csv", "films.csv", "books_items.csv")
    assert "[data.domains.books]" in text
    assert [d.name for d in p.dataset.domains] == ["books", "films"]
    assert p.dataset.n_items == 4 + 3


def test_sequences_and_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1 2 3\n1 2\n")
    p, text = prepared(tmp_path, "train.txt")
    assert 'format = "sequence"' in text
    assert len(p.dataset) == 4
    (tmp_path / "日志.csv").write_text("user,item,title\n张三,1,中文\n", encoding="gb18030")
    p, text = prepared(tmp_path, "日志.csv")
    assert 'encoding = "gb18030"' in text
    assert p.dataset.users.keys.to_list() == ["张三"]


def test_any_comment_may_become_an_entry(tmp_path: Path) -> None:
    LOG.drop("timestamp").write_csv(tmp_path / "log.csv")
    for name in ("items", "more_items"):
        ITEMS.with_columns(colour=pl.lit("red")).write_csv(tmp_path / f"{name}.csv")
    USERS.write_csv(tmp_path / "users.csv")
    names = ("log.csv", "items.csv", "more_items.csv", "users.csv")
    text = draft([tmp_path / name for name in names], tmp_path)
    lines = text.splitlines()
    commented = [n for n, line in enumerate(lines) if re.match(r"# \w+ = ", line)]
    assert len(commented) >= 5
    for n in commented:
        changed = [line[2:] if n == m else line for m, line in enumerate(lines)]
        config.from_table(DataConfig, tomllib.loads("\n".join(changed))["data"], "data")
    assert tomllib.loads(text)["split"]["kind"] == "random"


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv: no such file"):
        draft([tmp_path / "missing.csv"], tmp_path)
    (tmp_path / "a.csv").write_text("colour,size\nred,3\n")
    with pytest.raises(DataError, match=r"a\.csv: no column looks like .*colour, size"):
        draft([tmp_path / "a.csv"], tmp_path)
    ITEMS.write_csv(tmp_path / "items.csv")
    with pytest.raises(DataError, match="no file has both a user and an item"):
        draft([tmp_path / "items.csv"], tmp_path)
    (tmp_path / "shop.db").write_bytes(b"SQLite format 3\x00" + bytes(80))
    with pytest.raises(DataError, match=r'shop\.db: is a database; say sql = "sqlite:///shop\.db"'):
        draft([tmp_path / "shop.db"], tmp_path)
