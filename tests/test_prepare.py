"""From raw tables to codes: identity, domains, events, cold items, times, and what is dropped."""

from __future__ import annotations

import textwrap
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m6rec import config
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.errors import DataError, M6RecError
from m6rec.tracking import Run


def made(folder: Path, toml: str, **files: str) -> Prepared:
    for name, text in files.items():
        path = folder / name.replace("_csv", ".csv").replace("_txt", ".txt")
        path.write_text(textwrap.dedent(text).lstrip())
    table: dict[str, Any] = tomllib.loads(textwrap.dedent(toml))
    return prepare(config.from_table(DataConfig, table, "data"), folder, Run())


def events(prepared: Prepared) -> list[tuple[str, str, float]]:
    d = prepared.dataset
    columns = d.users.decode(d.user), d.items.decode(d.item), d.weight.tolist()
    return list(zip(*columns, strict=True))


def test_the_simple_case(tmp_path: Path) -> None:
    log = "userId,movieId,rating,timestamp\nb,1,4,1700000300\na,2,5,1700000100\na,1,3,1700000000\n"
    p = made(tmp_path, "interactions = 'log.csv'", log_csv=log)
    d = p.dataset
    assert events(p) == [("a", "items/1", 3.0), ("a", "items/2", 5.0), ("b", "items/1", 4.0)]
    assert d.time.tolist() == [1700000000, 1700000100, 1700000300]
    assert d.ordered
    assert d.item_text is None
    assert p.drops.to_json() == {"read": {"log.csv": 3}, "kept": 3, "dropped": [], "notes": []}
    assert p.users["key"].to_list() == ["a", "b"]
    assert p.items.select("key", "domain").rows() == [("items/1", "items"), ("items/2", "items")]


def test_shared_own_and_linked_users(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        """
        users = 'users.csv'
        links = 'links.csv'
        [domains.films]
        interactions = 'films.csv'
        [domains.books]
        interactions = 'books.csv'
        [domains.bank]
        interactions = 'bank.csv'
        users = 'own'
        """,
        films_csv="user,item\nann,1\nbob,1\n",
        books_csv="user,item\nann,1\n",
        bank_csv="user,item\nann,1\n77,1\n",
        links_csv="domain,user,person\nbank,77,bob\nbank,99,new\n",
        users_csv="user,domain,age\nann,,30\n77,bank,44\nann,bank,60\nzoe,,7\n",
    )
    assert events(p) == [
        ("ann", "films/1", 1.0),
        ("ann", "books/1", 1.0),
        ("bank:ann", "bank/1", 1.0),
        ("bob", "films/1", 1.0),
        ("bob", "bank/1", 1.0),
    ]
    assert dict(p.users.select("key", "age").rows()) == {
        "ann": 30, "bob": 44, "bank:ann": 60, "zoe": 7
    }  # fmt: skip
    assert p.dataset.n_users == 4  # zoe is known without events
    assert [d.name for d in p.dataset.domains] == ["films", "books", "bank"]


def test_domain_column_and_items(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        "interactions = 'log.csv'\nitems = 'items.csv'",
        log_csv="user,item,domain\nann,1,films\nann,1,books\nbob,2,books\n",
        items_csv="""
        item,domain,title,description,price,hidden
        1,films,Alien,space,9.5,no
        1,books,Emma,,3,true
        9,books,New,,4,
        """,
    )
    d = p.dataset
    assert d.items.keys.to_list() == ["books/1", "books/2", "books/9", "films/1"]
    assert d.item_domain.tolist() == [0, 0, 0, 1]
    assert d.item_text == ("Emma", "", "New", "Alien space")
    assert d.hidden.tolist() == [True, False, False, False]
    assert p.items["title"].to_list() == ["Emma", None, "New", "Alien"]
    assert p.items["price"].to_list() == [3.0, None, 4.0, 9.5]
    assert np.bincount(d.item, minlength=4).tolist() == [1, 1, 0, 1]


def test_a_declared_domain_without_anything_is_told(tmp_path: Path) -> None:
    toml = """
        interactions = "log.csv"
        [domains.shpo]
        [domains.new]
    """
    p = made(tmp_path, toml, log_csv="user,item,domain\na,x,shop\nb,x,shop\n")
    notes = [note for note in p.drops.notes if "neither events nor items" in note]
    assert len(notes) == 2
    assert notes[0].startswith('domain "shpo"') and 'did you mean "shop"?' in notes[0]


def test_items_without_a_domain_follow_their_events(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        "interactions = 'log.csv'\nitems = 'items.csv'",
        log_csv="user,item,domain\nann,1,films\nann,1,books\nbob,2,books\n",
        items_csv="item,title\n1,One\n2,Two\n3,Three\n",
    )
    assert p.dataset.items.keys.to_list() == ["books/1", "books/2", "films/1"]
    assert p.dataset.item_text == ("One", "Two", "One")
    assert p.drops.rows()[0][2:4] == ("neither a domain nor events", 1)


def test_domain_from_groups(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        """
        interactions = 'log.csv'
        items = 'items.csv'
        [domain_from]
        column = 'genres'
        groups.family = ['Animation', 'Children']
        groups.fun = ['Comedy']
        """,
        log_csv="user,item\nann,1\nann,2\nann,3\n",
        items_csv="item,genres\n1,Comedy|Children\n2,Comedy\n3,War\n4,Animation\n",
    )
    assert p.dataset.items.keys.to_list() == ["family/1", "family/4", "fun/2"]
    assert [d.name for d in p.dataset.domains] == ["family", "fun"]
    assert p.drops.count("domain") == 1
    assert p.drops.count("missing") == 1  # the event on item 3


def test_event_types_and_negative_feedback(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        """
        interactions = ['log.csv', { path = 'buys.csv', event = 'buy' }]
        [events.view]
        [events.buy]
        weight = 3
        [events.hide]
        weight = 2
        sign = 'negative'
        """,
        log_csv="user,item,event,count\nann,1,view,2\nann,2,hide,\nann,3,swipe,1\n",
        buys_csv="user,item,count\nann,4,2\n",
    )
    assert events(p) == [("ann", "items/1", 2.0), ("ann", "items/2", -2.0), ("ann", "items/4", 6.0)]
    assert [t.name for t in p.dataset.events] == ["view", "buy", "hide"]
    assert p.dataset.event.tolist() == [0, 2, 1]
    assert p.drops.rows()[0][2] == "event type not declared in [data.events]"
    assert p.dataset.positives.nnz == 2


def test_no_times_keep_file_order(tmp_path: Path) -> None:
    log = "user,item\nann,9\nbob,1\nann,1\nann,5\n"
    p = made(tmp_path, "interactions = 'log.csv'", log_csv=log)
    assert [key for user, key, _ in events(p) if user == "ann"] == ["items/9", "items/1", "items/5"]
    assert not p.dataset.ordered
    assert "no times" in p.drops.notes[0]
    toml = "interactions = { path = 'log.csv', ordered = true }"
    assert made(tmp_path, toml).dataset.ordered


def test_time_zone(tmp_path: Path) -> None:
    log = "user,item,time\nann,1,2023-11-15 06:13:20\nann,2,2023-11-14T22:13:20Z\n"
    p = made(tmp_path, "interactions = 'log.csv'\ntz = 'Asia/Shanghai'", log_csv=log)
    assert p.dataset.time.tolist() == [1_700_000_000] * 2


BAD = """
user,item,rating,time
ann,1,5,1700000000
,1,5,1700000000
ann,,5,1700000000
ann,2,nan,1700000000
ann,3,inf,1700000000
ann,4,x,1700000000
ann,5,11,1700000000
ann,6,0.5,1700000000
ann,7,5,soon
ann,8,5,-9
ann,9,5,4000000000
ann,10,5,1000000000
ann,11,,1700000000
ann,12,5
bob,1,4,
"""


def test_decimal_commas_and_forms_of_dates(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        """
        feedback = 'explicit'
        [interactions]
        path = 'log.csv'
        decimal = ','
        time_format = '%d.%m.%Y %H:%M'
        [items]
        path = 'items.csv'
        decimal = ','
        time_format = '%d.%m.%Y'
        [features.items.pages]
        kind = 'numeric'
        """,
        log_csv="user;item;stars;time\nann;1;4,5;14.11.2023 22:13\nann;2;1.000,5;gestern\n",
        items_csv="item;price;pages;out;size\n1;28,76;k.A.;31.12.2020;1,5\n2;1.300;320;1.1.2021;?\n",
    )
    assert events(p) == [("ann", "items/1", 4.5)]
    assert p.dataset.time.tolist() == [1_699_999_980]
    assert p.items["price"].to_list() == [28.76, 1300.0]
    assert p.items["pages"].to_list() == [None, 320.0]  # said to be numbers
    assert p.items["out"].to_list() == [datetime(2020, 12, 31), datetime(2021, 1, 1)]
    assert p.items["size"].to_list() == ["1,5", "?"]


def test_small_times_are_told(tmp_path: Path) -> None:
    log = "user,item,time\nann,1,{}\nann,2,{}\n"
    p = made(tmp_path, "interactions = 'log.csv'", log_csv=log.format(45_000, 45_001))
    assert p.dataset.time.tolist() == [45_000, 45_001]
    assert "log.csv: most times are before 1973" in p.drops.notes[0]
    p = made(tmp_path, "interactions = 'log.csv'", log_csv=log.format(20250301, "2025-03-01"))
    assert p.dataset.time.tolist() == [1740787200] * 2
    assert not p.drops.notes


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    toml = """
    interactions = 'log.csv'
    feedback = 'explicit'
    [clean]
    min_value = 1
    max_value = 10
    min_time = '2010-01-01'
    """
    p = made(tmp_path, toml, log_csv=BAD)
    assert events(p) == [("ann", "items/1", 5.0), ("bob", "items/1", 4.0)]
    found = {reason: (count, sample) for _, _, reason, count, sample in p.drops.rows()}
    assert {reason: count for reason, (count, _) in found.items()} == {
        "does not have 4 fields, or a quote is not closed": 1,
        "no user": 1,
        "no item": 1,
        "value is not a finite number": 3,
        "value above 10": 1,
        "value below 1": 1,
        "time is not a date or unix time": 1,
        "time before 1970": 1,
        "time in the future": 1,
        "before 2010-01-01": 1,
        "no rating": 1,
    }
    assert found["no user"][1].startswith("row=3, ")
    assert "row=10, " in found["time is not a date or unix time"][1]
    assert p.drops.read["log.csv"] == 15
    assert p.drops.count() + p.drops.kept == 15
    assert "1 rows have no time" in p.drops.notes[0]
    with pytest.raises(DataError, match=r"log\.csv, row 15: does not have 4 fields"):
        made(tmp_path, "strict = true\n" + textwrap.dedent(toml))


def test_keys_are_trimmed_and_alike_across_tables(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        "interactions = ['a.csv', 'b.csv']\nitems = 'items.csv'",
        a_csv="user,item\n ann ,7\nann,7\n  ,7\n",
        b_csv="user,item\nann, 7\n",
        items_csv="id,name\n7, Seven \n",
    )
    assert {(user, item) for user, item, _ in events(p)} == {("ann", "items/7")}
    assert p.dataset.item_text == ("Seven",)
    assert p.drops.count("missing") == 1


def test_core_removes_what_it_empties(tmp_path: Path) -> None:
    p = made(
        tmp_path,
        "interactions = 'log.csv'\nitems = 'items.csv'\nclean.core_items = 2",
        log_csv="user,item\nann,1\nbob,1\nbob,2\nann,3\nbob,3\ncat,2\ndan,4\n",
        items_csv="item,title\n1,a\n4,b\n5,c\n",
    )
    assert p.dataset.items.keys.to_list() == ["items/1", "items/2", "items/3", "items/5"]
    assert p.dataset.users.keys.to_list() == ["ann", "bob", "cat"]
    assert p.dataset.user.max() == 2
    assert p.items.height == p.dataset.n_items


@pytest.mark.parametrize(
    ("toml", "log", "message"),
    [
        ("", "user,item\n", "no interactions"),
        ("interactions = 'log.csv'", "who,item\na,1\n", r"looks like the user; .*: who, item\)"),
        ("interactions = 'log.csv'\ncolumns.user = 'wo'", "who,item\na,1\n", 'did you mean "who"'),
        ("interactions = 'log.csv'", "user,item\n", r"log\.csv: no usable row"),
        ("interactions = 'log.csv'", "user,item\n,1\n", r"no usable row \(row 2: no user\)$"),
        ("interactions = 'log.csv'", "user,item,time\na,1,03/04/2025\n",
         r'row 2: time "03/04/2025" is not a date .*; say time_format = "%d/%m/%Y" or "%m/%d/%Y" '),
        ("interactions = 'log.csv'", "user;item;value;time\na;1;4,5;3.4.2025 17:11\n",
         r'row 2: value "4,5" is not .*; say decimal = "," and time_format = "%d\.%m\.%Y '),
        ("interactions = { path = 'log.csv', time_format = '%d.%m' }", "user,item\na,1\n",
         r'time_format = "%d\.%m": must say a whole date'),
        ("interactions = 'log.csv'\nfeedback = 'explicit'", "user,item\na,1\n", "no rating"),
        ("interactions = 'log.csv'\n[domains.a]\n[domains.b]", "user,item\na,1\n", "which domain"),
        ("interactions = 'log.csv'", "user,item,domain\na,1,x/y\n", 'without "/"'),
        ("interactions = 'log.csv'\nclean.core_users = 9", "user,item\na,1\n", "after cleaning"),
        ("interactions = 'log.csv'\nclean.min_time = 'soon'", "user,item,time\na,1,5\n", "ISO"),
    ],
)  # fmt: skip
def test_unusable_tables(tmp_path: Path, toml: str, log: str, message: str) -> None:
    with pytest.raises(M6RecError, match=message):
        made(tmp_path, toml, log_csv=log)


def test_same_codes_whatever_the_row_order(tmp_path: Path) -> None:
    rows = [f"u{u},i{i},{1_600_000_000 + 7 * u + i}" for u in range(20) for i in range(u % 7 + 1)]
    one = made(tmp_path, "interactions = 'log.csv'", log_csv="\n".join(["user,item,time", *rows]))
    rows.reverse()
    two = made(tmp_path, "interactions = 'log.csv'", log_csv="\n".join(["user,item,time", *rows]))
    for name in ("user", "item", "weight", "time"):
        np.testing.assert_array_equal(getattr(one.dataset, name), getattr(two.dataset, name))
    assert one.dataset.items.keys.equals(two.dataset.items.keys)
