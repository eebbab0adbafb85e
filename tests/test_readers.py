"""Every format gives the same rows; what cannot be read is one sentence; bad lines are named."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, save_npz

from m6rec.data.delimited import ROW, sniff
from m6rec.data.drops import Drops
from m6rec.data.readers import format_of, read
from m6rec.data.schema import Table
from m6rec.errors import DataError

ROWS = [("ann", "i1", 5.0), ("bob", "i2", 3.5), ("ann", "i3", 1.0)]
POSTGRES = os.environ.get("M6REC_TEST_POSTGRES")  # tested for real where it is set


def table_of(path: Path, drops: Drops | None = None, **options: object) -> pl.DataFrame:
    table = Table(path=path.name, **options)  # type: ignore[arg-type]
    return read(table, path.parent, drops or Drops()).collect()


def triples(frame: pl.DataFrame) -> list[tuple[str, str, float]]:
    user, item, value = [name for name in frame.columns if name != ROW][:3]
    columns = [pl.col(user).cast(pl.String), pl.col(item).cast(pl.String)]
    return frame.select(*columns, pl.col(value).cast(pl.Float64)).rows()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " "])
def test_delimiters_are_sniffed(tmp_path: Path, delimiter: str) -> None:
    lines = [("user", "item", "rating"), *ROWS]
    path = tmp_path / "log.txt"
    path.write_text("\n".join(delimiter.join(map(str, line)) for line in lines) + "\n")
    frame = table_of(path)
    assert triples(frame) == ROWS
    assert frame[ROW].to_list() == [2, 3, 4]


def test_formats_agree(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=["user", "item", "rating"], orient="row")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.csv", "a.jsonl"):
        zipped = gzip.compress((tmp_path / name).read_bytes())
        (tmp_path / f"{name}.gz").write_bytes(zipped)
    head = "user:token\titem:token\trating:float\n"
    (tmp_path / "a.inter").write_text(head + "".join(f"{u}\t{i}\t{r}\n" for u, i, r in ROWS))
    for name in ("a.csv", "a.parquet", "a.jsonl", "a.csv.gz", "a.jsonl.gz", "a.inter"):
        assert triples(table_of(tmp_path / name)) == ROWS, name


def test_recbole_types(tmp_path: Path) -> None:
    text = "item_id:token\tclass:token_seq\tyear:float\tvec:float_seq\n1\tDrama War\t1995\t.5 2\n"
    (tmp_path / "a.item").write_text(text)
    row = table_of(tmp_path / "a.item").row(0, named=True)
    assert row == {
        ROW: 2, "item_id": "1", "class": ["Drama", "War"], "year": 1995.0, "vec": [0.5, 2.0]
    }  # fmt: skip


def test_typed_headers_are_recbole_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "items.tsv").write_text("item_id:token\ttitle:token_seq\n1\tToy Story\n")
    assert table_of(tmp_path / "items.tsv").rows() == [(2, "1", ["Toy", "Story"])]


def test_movielens(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n")
    flags = "0|0|0|1|1|1" + "|0" * 13
    item = f"1|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n"
    (tmp_path / "u.item").write_text(item, encoding="latin-1")
    (tmp_path / "movies.dat").write_text("7::Sabrina (1995)::Comedy|Romance\n")
    assert table_of(tmp_path / "u.data").columns == [ROW, "user", "item", "rating", "timestamp"]
    film = table_of(tmp_path / "u.item").row(0, named=True)
    assert film["title"] == "Misérables, Les"
    assert film["year"] == 1995
    assert film["genres"] == ["Animation", "Children's", "Comedy"]
    assert table_of(tmp_path / "movies.dat")["genres"].to_list() == [["Comedy", "Romance"]]


def test_sequences_and_matrices(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u1 a b\nu2\n\nu3 c a a\n")
    frame = table_of(tmp_path / "s.txt", format="sequence")
    expected = [("u1", "a"), ("u1", "b"), ("u3", "c"), ("u3", "a"), ("u3", "a")]
    assert frame.select("user", "item").rows() == expected
    save_npz(tmp_path / "m.npz", csr_array(np.array([[0, 2.0], [1, 0]])))
    assert table_of(tmp_path / "m.npz").drop(ROW).rows() == [(0, 1, 2.0), (1, 0, 1.0)]


def test_without_header(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\t7\t1\n2\t8\t1\n")
    drops = Drops()
    frame = table_of(tmp_path / "a.txt", drops)
    assert frame.columns == [ROW, "user", "item", "value"]
    assert frame[ROW].to_list() == [1, 2]
    assert "no header" in drops.notes[0]
    named = table_of(tmp_path / "a.txt", names=("who", "what", "n"))
    assert named.columns == [ROW, "who", "what", "n"]


def test_malformed_lines_are_dropped_and_named(tmp_path: Path) -> None:
    text = 'user,item,rating\nann,i1,5\nbob,i2\n"o, k",i3,1\nbob,i2,3,9\n\nx,"say ""hi""",2\n'
    (tmp_path / "a.csv").write_text(text)
    drops = Drops()
    frame = table_of(tmp_path / "a.csv", drops)
    assert triples(frame) == [("ann", "i1", 5), ("o, k", "i3", 1), ("x", 'say "hi"', 2)]
    assert frame[ROW].to_list() == [2, 4, 7]
    assert drops.count("malformed") == 2
    assert drops.entries[0].samples[0] == {"row": 3, "line": "bob,i2"}
    with pytest.raises(DataError, match=r"a\.csv, row 3: "):
        table_of(tmp_path / "a.csv", Drops(strict=True))


def test_blank_lines_quotes_and_a_pandas_index(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(',user,item\n0,a,1\n\n1,b\n\n2,"x,""y",1\n3,c,5\n')
    drops = Drops()
    frame = table_of(tmp_path / "a.csv", drops)
    assert frame.rows() == [(2, "a", "1"), (6, 'x,"y', "1"), (7, "c", "5")]
    assert drops.count() == 1
    whole = tmp_path / "b.csv"
    whole.write_text("user,item\n\na,1\n\n")
    assert table_of(whole).rows() == [(3, "a", "1")]


def test_stray_quotes_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\tname\n1\t"Weird Al" Yankovic\n2\t"Heroes\n')
    drops = Drops()
    frame = table_of(tmp_path / "a.tsv", drops)
    assert frame["name"].to_list() == ['"Weird Al" Yankovic', '"Heroes']
    (tmp_path / "b.tsv").write_text('id\tname\n1\tRoyce da 5\'9"\n2\t"Weird Al" Yankovic\n')
    assert table_of(tmp_path / "b.tsv", drops)["name"][0] == "Royce da 5'9\""
    assert not drops.entries
    (tmp_path / "c.csv").write_text('id,name\n1,"a, b"\n2,12" disc\n3,"open\n4,"x" y\n')
    assert table_of(tmp_path / "c.csv", drops)["name"].to_list() == ["a, b"]
    assert drops.count("malformed") == 3


def test_quoted_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines, yes"\n2,one\n')
    assert table_of(tmp_path / "a.csv")["text"].to_list() == ["two\nlines, yes", "one"]


def test_bad_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"user": "a", "item": 1}\n{oops\n[1]\n{"user": "b", "item": 2}\n'
    )
    drops = Drops()
    frame = table_of(tmp_path / "a.jsonl", drops)
    assert frame.rows() == [(1, "a", 1), (4, "b", 2)]
    assert drops.count("malformed") == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", "user,item\nJosé,1\n".encode("latin-1"), "line 2: is not utf-8; say encoding"),
        ("a.parquet", b"nonsense", "a.parquet: cannot be read as parquet"),
        ("a.jsonl", b"nonsense\n", "no line is a JSON object"),
        ("a.npz", b"nonsense", "a.npz"),
        ("a.csv", b"1,2,3,4,5,6\n", "the first line is no header"),
        ("a.csv", b"user,item,item\na,1,2\n", 'has two columns "item"'),
    ],
)
def test_unreadable_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        table_of(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_damaged_archives_and_folders_are_one_sentence(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"user%d,item%d\n" % (n, n * n) for n in range(500)))
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.csv\.gz: cannot be read as csv"):
        table_of(tmp_path / "a.csv.gz")
    (tmp_path / "logs").mkdir()
    with pytest.raises(DataError, match="logs: is a folder; name a file in it"):
        table_of(tmp_path / "logs")


def test_late_encoding_error_names_the_line(tmp_path: Path) -> None:
    good = b"user,item\n" + b"ann,1\n" * 30_000
    (tmp_path / "a.csv").write_bytes(good + "José,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 30002: is not utf-8"):
        table_of(tmp_path / "a.csv")
    frame = table_of(tmp_path / "a.csv", encoding="latin-1")
    assert frame["user"][-1] == "José"


def test_missing_file_lists_neighbours(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x")
    with pytest.raises(DataError, match=r"lgo\.csv: no such file; .* holds log\.csv"):
        table_of(tmp_path / "lgo.csv")


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_csv_round_trips(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    frame.write_csv(path, quote_style="always")
    back = table_of(path, delimiter=",").drop(ROW)
    assert back.with_columns(pl.all().fill_null("")).rows() == rows


def databases() -> list[str]:
    return ["sqlite:///shop.db", *([POSTGRES] if POSTGRES else [])]


@pytest.mark.parametrize("url", databases())
def test_sql(tmp_path: Path, url: str) -> None:
    import sqlalchemy as sa

    place = url.replace("sqlite:///", f"sqlite:///{tmp_path}/")
    engine = sa.create_engine(place.replace("postgresql://", "postgresql+psycopg://"))
    log = sa.Table(
        "m6rec_test_log",
        sa.MetaData(),
        sa.Column("buyer", sa.String(20)),
        sa.Column("item", sa.String(20)),
        sa.Column("rating", sa.Float),
    )
    with engine.begin() as connection:
        log.drop(connection, checkfirst=True)
        log.create(connection)
        keys = ("buyer", "item", "rating")
        connection.execute(log.insert(), [dict(zip(keys, row, strict=True)) for row in ROWS])
    try:
        query = "select buyer, item, rating from m6rec_test_log"
        frame = read(Table(sql=url, query=query), tmp_path, Drops()).collect()
        assert sorted(triples(frame)) == sorted(ROWS)
        with pytest.raises(DataError, match=r"the query failed: .*nowhere"):
            read(Table(sql=url, query="select * from nowhere"), tmp_path, Drops())
        with pytest.raises(DataError, match="returns no table; write a select"):
            read(Table(sql=url, query="delete from m6rec_test_log"), tmp_path, Drops())
        assert read(Table(sql=url, query=query), tmp_path, Drops()).collect().height == len(ROWS)
    finally:
        log.drop(engine)
        engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///none.db", "no such SQLite file"),
        ("nonsense", "not a database URL"),
        ("postgresql://shop:$M6REC_NO_SUCH@db/shop", r"\$M6REC_NO_SUCH is not set"),
        ("postgresql://127.0.0.1:9/none", "the query failed"),
    ],
)
def test_sql_problems_are_one_sentence(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(Table(sql=url, query="select 1"), tmp_path, Drops())
    assert "\n" not in str(caught.value)


def test_drops_are_json_and_rows(tmp_path: Path) -> None:
    drops = Drops()
    drops.add("missing", "log.csv", "no user", 3, [{"row": 2, "item": "x"}])
    drops.add("missing", "log.csv", "nothing", 0)
    drops.note("said")
    drops.note("said")
    drops.save(tmp_path / "drops.json")
    saved = json.loads((tmp_path / "drops.json").read_text())
    assert saved["notes"] == ["said"]
    assert [d["count"] for d in saved["dropped"]] == [3]
    assert drops.rows() == [("missing", "log.csv", "no user", 3, "row=2, item=x")]


def test_names_choose_formats() -> None:
    assert format_of(Table(path="x/u.item")) == "movielens"
    assert format_of(Table(path="x/a.item")) == "recbole"
    assert format_of(Table(path="a.PARQUET")) == "parquet"
    assert format_of(Table(path="a.jsonl.gz")) == "jsonl"
    assert format_of(Table(path="a.csv.gz")) == "csv"
    assert format_of(Table(path="a.dat", format="sequence")) == "sequence"
    assert sniff(["a,b c", "d,e f"]) == ","
