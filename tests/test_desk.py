"""The desk: what comes in is read, reported, alerted and ranked, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from m6rec.opinion.config import OpinionConfig
from m6rec.opinion.desk import LABELS, LEASE, Desk
from m6rec.opinion.personal import ALERTS, NEWS
from m6rec.store import Store
from newsroom import world, write_config

NOW = int(time.time())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    store = Store.open(f"sqlite:///{folder}/s.db")
    documents, prices = world()
    store.opinions.add_documents(documents)
    store.opinions.add_prices(prices)
    desk = Desk(store, OpinionConfig.read(write_config(folder)))
    done = desk.step(NOW)
    assert done.read == documents.height and done.reported and done.raised > 0
    yield desk
    store.close()


def test_what_was_read_is_reported(filled: Desk) -> None:
    found = filled.store.opinions.summaries()
    assert len(found) == 12
    one = found["Harbor Motors"]
    assert -1 <= one["opinion"] <= 1 and len(one["spark"]) == 30
    assert one["forecast"]["low"] <= one["forecast"]["forecast"] <= one["forecast"]["high"]
    made, body = filled.store.opinions.report("Harbor Motors") or (0, {})
    assert made == NOW
    assert len(body["times"]) == len(body["values"]["opinion"]) == len(body["values"]["close"])
    assert {"opinion", "volume"} <= {row["measure"] for row in body["forecast"]}
    assert all(row["known"] > row["time"] for row in body["changes"])
    assert filled.store.opinions.report("Nobody") is None


def test_an_empty_store_takes_in_the_files_once(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/s.db")
    news = tmp_path / "news.csv"
    news.write_text("id,time,title\na,2024-01-02,Vega Electric sales rise\nb,,no time\n")
    config = replace(OpinionConfig.read(write_config(tmp_path)), documents=(news,))
    assert Desk(store, config).step(NOW).read == 1
    news.write_text("id,time,title\nc,2024-01-02,Vega Electric sales fall\n")
    assert Desk(store, config).step(NOW + 2 * LEASE).read == 0  # by now the store is the truth
    store.close()


def test_nothing_new_is_nothing_to_do(filled: Desk) -> None:
    done = filled.step(NOW + 1)
    assert not done.reported and done.read == done.raised == 0


def test_one_desk_watches_at_a_time(filled: Desk, tmp_path: Path) -> None:
    other = Desk(filled.store, filled.config)
    assert other.step(NOW + 2).reported is False
    later = int(time.time()) + LEASE + 10
    assert other.step(later).reported is True
    assert other.step(later).raised == 0  # the same alerts count once
    assert filled.step(later + 2 * LEASE).read == 0


def test_alerts_say_what_drove_them(filled: Desk) -> None:
    [(alert, why), *_] = filled.alerts(n=1)
    assert why == ""
    assert alert.details["documents"] and alert.details["suggestion"]
    assert not any(w in alert.details["suggestion"].lower() for w in ("buy", "sell"))


def test_a_watch_list_and_what_was_read_rank(filled: Desk) -> None:
    filled.store.opinions.set_watch_list("ann", ["Lumen Cloud"])
    newest = filled.store.alerts.find()
    watched = {a.key for a in newest if a.entity == "Lumen Cloud"}
    found = filled.alerts("ann", n=len(newest))
    assert {a.key for a, _ in found} == {a.key for a in newest}
    if watched:
        assert found[0][0].key in watched and found[0][1]
    news = filled.news("ann", n=5)
    assert "Lumen Cloud" in news[0][0]["entities"] and "Lumen Cloud" in news[0][1]
    assert filled.news(n=5)[0][1] == ""
    # What somebody reads counts from the next list on, without a watch list.
    of_dairy = filled.news(entity="Meadow Dairy", n=1)[0][0]["document"]
    filled.note_read("bob", of_dairy)
    assert filled.history("bob") == [of_dairy]
    assert "Meadow Dairy" in filled.news("bob", n=3)[0][0]["entities"]
    assert of_dairy not in filled.ranked(NEWS, "bob")
    assert filled.ranked(ALERTS, "") == {} == filled.ranked(ALERTS, "nobody")


def test_the_reader_learns_from_labels(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/s.db")
    rows = []
    for i in range(3 * LABELS):
        word = ("quimped", "sat", "plimmed")[i % 3]
        rows.append((f"d{i:02d}", NOW - 5000 + i, "wire", f"Vega Electric was {word} on day {i}",
                     "", "en", ""))  # fmt: skip
    names = ["document", "time", "source", "title", "text", "language", "url"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    store.opinions.add_documents(frame)
    config = OpinionConfig.read(write_config(tmp_path, "copies = {similar = 1.0}"))
    desk = Desk(store, config)
    first = desk.reader()
    for i in range(3 * LABELS - 1):
        said = ("negative", "neutral", "positive")[i % 3]
        entity = "Vega Electric" if i % 2 else ""
        assert store.opinions.label(f"d{i:02d}", entity, said, "ann", i)
    fitted = desk.reader()
    assert fitted is not first and desk.reader() is fitted
    assert fitted.read(["Vega Electric was quimped"]).argmax() == 0
    assert Desk(store, desk.config).reader().fingerprint == fitted.fingerprint
    desk.step(NOW)
    found = store.opinions.readings().filter(pl.col("document") == "d29")
    assert found["sentiment"][0] > 0
    store.close()


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/s.db")
    desk = Desk(store, OpinionConfig.read(write_config(tmp_path)))
    assert desk.step(NOW).raised == 0
    assert desk.alerts("ann") == [] == desk.news("ann")
    assert desk.personal() is None
    store.close()
