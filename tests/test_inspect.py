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


def test_names_of_other_lines_of_business(tmp_path: Path) -> None:
    for n, (user, item, time) in enumerate(
        (("listener", "episode_id", "played_at_ms"), ("reader_id", "article", "openedAt"))
    ):
        log = LOG.select("visitorid", "itemid", "timestamp")
        log.rename({"visitorid": user, "itemid": item, "timestamp": time}).write_csv(
            tmp_path / f"{n}.csv"
        )
        p, text = prepared(tmp_path, f"{n}.csv")
        assert len(p.dataset) == 4 and p.dataset.ordered
        assert f'time = "{time}"' in text


def test_a_draft_is_made_with_what_is_known(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    lost = pl.DataFrame({"who": ["a", "b"] * 5, "itemid": [1, 2] * 5, "what": ["x", "y"] * 5})
    lost.write_csv(tmp_path / "more.csv")
    pl.DataFrame({"colour": ["red"], "size": [3]}).write_csv(tmp_path / "colours.csv")
    text = draft([tmp_path / n for n in ("log.csv", "more.csv", "colours.csv")], tmp_path)
    assert "# TODO colours.csv: no column looks like a user or an item (colour, size)" in text
    assert 'columns = { user = "?" } }  # TODO: which is the user? who, itemid, what' in text
    config_ = config.from_table(DataConfig, tomllib.loads(text)["data"], "data")
    with pytest.raises(DataError, match=r'more\.csv: there is no column "\?" \(user\)'):
        prepare(config_, tmp_path, Run())


def test_decimal_commas_and_dates_are_drafted(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user;item;rating;datum\na;1;4,5;17.02.2025 17:11\nb;2;3,0;gestern\na;2;5;1.3.2025 9:05\n"
    )
    (tmp_path / "books.csv").write_text("item;price\n1;28,76\n2;3,50\n3;4\n")
    p, text = prepared(tmp_path, "log.csv", "books.csv")
    assert 'decimal = ",", time_format = "%d.%m.%Y %H:%M" }' in text
    assert 'feedback = "explicit"' in text
    assert '# price = { kind = "numeric" }' in text
    assert p.dataset.weight.tolist() == [4.5, 5.0]
    assert p.items["price"].to_list() == [28.76, 3.5, 4.0]
    (tmp_path / "both.csv").write_text("user,item,time\na,1,03/04/2025\nb,2,05/04/2025\n")
    assert "time_format" not in draft([tmp_path / "both.csv"], tmp_path)  # either order fits


def test_odd_characters_make_valid_toml(tmp_path: Path) -> None:
    odd = {"visitorid": ["a\x01b", "c\x7fd"], "itemid": ["1\n2", "3"], "e\x7f\n": ["x", "y"]}
    pl.DataFrame(odd).write_parquet(tmp_path / "log.parquet")
    table = tomllib.loads(draft([tmp_path / "log.parquet"], tmp_path))
    assert table["data"]["columns"]["user"] == "visitorid"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"user,item\n\x00\x01,2\n", "is no text"),
        ("a.csv", b"user,item,time\n", r"has a header \(user, item, time\), but no rows"),
        (
            "README.md",
            b"# A title\n\nSome words of prose.\nAnd some more of it here.\n",
            "no row that fits",
        ),
        ("", b"", "is a folder"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        draft([tmp_path / name], tmp_path)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv: no such file"):
        draft([tmp_path / "missing.csv"], tmp_path)
    (tmp_path / "a.csv").write_text("colour,size\nred,3\n")
    with pytest.raises(DataError, match=r"a\.csv: no column looks like .*colour, size"):
        draft([tmp_path / "a.csv"], tmp_path)
    ITEMS.write_csv(tmp_path / "items.csv")
    with pytest.raises(DataError, match=r"no file has both a user and an item .*\[data\.columns\]"):
        draft([tmp_path / "items.csv"], tmp_path)
    (tmp_path / "shop.db").write_bytes(b"SQLite format 3\x00" + bytes(80))
    with pytest.raises(DataError, match=r'shop\.db: is a database; say sql = "sqlite:///shop\.db"'):
        draft([tmp_path / "shop.db"], tmp_path)
