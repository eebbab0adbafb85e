"""From files to readings: what is said of whom, once for all copies."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from m6rec.data.opinions import READING
from m6rec.errors import ConfigError
from m6rec.opinion.config import OpinionConfig
from m6rec.opinion.copies import Copies
from m6rec.opinion.documents import documents_of
from m6rec.opinion.entities import Entities
from m6rec.opinion.reading import catch_up, opinions, read
from m6rec.opinion.sentiment import Reader, Sentiment
from m6rec.store import Store

TABLE = Entities({"Apple": ["Apple"], "Nokia": ["Nokia"], "诺基亚": ["Nokia"]})
LEXICON = Reader(Sentiment(), {})
LONG = "The company reported on its third quarter in Helsinki on Tuesday morning"


def documents(*rows: tuple[str, int, str, str]) -> pl.DataFrame:
    table = [{"id": i, "time": t, "title": a, "text": b} for i, t, a, b in rows]
    return documents_of(enumerate(table, 1), where="test", source="wire")[0]


def test_each_entity_has_its_own_sentiment() -> None:
    found = read(documents(("a", 5, "Apple profit rose while Nokia warned of losses", "")),
                 TABLE, LEXICON)  # fmt: skip
    assert found.readings.schema == pl.Schema(READING)
    by = {e: s for e, s in found.readings.select("entity", "sentiment").iter_rows()}
    assert by["Apple"] > 0.3 and by["Nokia"] < -0.3
    assert found.readings["source"].unique().to_list() == ["wire"]
    assert found.whole.select("document", "entity").rows() == [("a", "")]
    assert found.readings["confidence"].is_between(1 / 3, 1).all()


def test_copies_are_the_spread_of_the_first() -> None:
    text = f"Nokia profit rose. {LONG}"
    found = read(documents(("a", 5, "", text), ("b", 6, "", text + " now"), ("c", 7, "x", "Other")),
                 TABLE, LEXICON)  # fmt: skip
    assert found.originals == {"a": "a", "b": "a", "c": "c"}
    assert found.readings.select("document", "spread").rows() == [("a", 2)]
    assert found.whole["document"].to_list() == ["a", "c"]


def test_what_was_read_before_stays_the_first() -> None:
    text = f"Nokia profit rose. {LONG}"
    before = documents(("old", 50, "", text), ("copy", 60, "", text))
    found = read(documents(("new", 40, "", text)), TABLE, LEXICON, earlier=before,
                 known={"copy": "older"})  # fmt: skip
    assert found.originals == {"new": "old"} and found.readings.is_empty()


def test_no_documents() -> None:
    found = read(documents(), TABLE, LEXICON)
    assert found.readings.is_empty() and found.whole.is_empty() and found.originals == {}


def test_a_sentence_with_an_opinion_counts_more() -> None:
    dull = "The office is in Helsinki. It has a door. It has a room. The staff sit there."
    p = opinions([f"Nokia profit rose. {dull}", dull, "Nokia profit rose.", ""], LEXICON)
    plain = (4 * p[1] + p[2]) / 5
    assert p[0, 2] - p[0, 0] > 1.4 * (plain[2] - plain[0]) > 0
    assert p[1].argmax() == 1 and p[3].tolist() == [0, 1, 0]


def test_chinese() -> None:
    found = read(documents(("z", 5, "诺基亚净利润大幅下滑", "")), TABLE, LEXICON)
    assert found.readings.row(0, named=True)["sentiment"] < -0.3


def test_a_store_is_caught_up_with(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/s.db")
    text = f"Nokia profit rose. {LONG}"
    store.opinions.add_documents(documents(("a", 5, "", text), ("c", 9, "", "Apple fell")))
    assert catch_up(store, TABLE, LEXICON, Copies()) == 2
    store.opinions.add_documents(documents(("b", 6, "", text)))
    assert catch_up(store, TABLE, LEXICON, Copies()) == 1
    assert catch_up(store, TABLE, LEXICON, Copies()) == 0
    found = store.opinions.readings().select("document", "entity", "spread").rows()
    assert found == [("a", "Nokia", 2), ("c", "Apple", 1)]
    assert store.opinions.readings_in(["a"])["entity"].to_list() == ["", "Nokia"]
    # Another reader, one document at a time, comes to the same.
    other = Reader(Sentiment(words=0.5), {})
    while catch_up(store, TABLE, other, Copies(), n=1):
        pass
    assert store.opinions.readings().select("document", "entity", "spread").rows() == found
    store.close()


def test_the_table_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("entity,alias\nNokia,NOK\n")
    (tmp_path / "n.jsonl").write_text('{"id": "a", "time": 5, "text": "NOK fell"}\n{"id": "b"}\n')
    (tmp_path / "NOK.csv").write_text("date,close\n2024-01-02,5\n")
    (tmp_path / "o.toml").write_text(
        '[opinion]\nentities = "e.csv"\ndocuments = ["n.jsonl"]\nprices = ["NOK.csv"]\n'
        "[opinion.copies]\ndays = 1\n"
    )
    config = OpinionConfig.read(tmp_path / "o.toml")
    assert config.copies.days == 1 and config.open_entities().names == ["Nokia"]
    frame, problems = config.read_documents()
    assert frame["document"].to_list() == ["a"]
    assert [str(p) for p in problems] == [
        f"{tmp_path}/n.jsonl, row 2: has neither title nor text"
    ]  # fmt: skip
    assert config.read_prices()[0].rows() == [("NOK", 1704153600, 5.0, 0.0)]
    assert config.open_reader().state() == {}
    config.open_reader().save(tmp_path / "r.safetensors")
    (tmp_path / "o.toml").write_text(
        '[opinion]\nentities = "e.csv"\nreader = "r.safetensors"\n[other]\n'
    )
    assert OpinionConfig.read(tmp_path / "o.toml").open_reader().recipe == Sentiment()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"has no table \[opinion\]"),
        ('[opinion]\nentitis = "e.csv"', r'did you mean "entities"'),
        ("[opinion]", "opinion.entities is missing"),
        ('[opinion]\nentities = "e"\n[opinion.copies]\nsimilar = 2', "similar = 2"),
    ],
)
def test_wrong_tables_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "o.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        OpinionConfig.read(tmp_path / "o.toml")
