"""What the opinion monitor keeps, on both databases: nothing is lost, doubled or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from m6rec.data.opinions import PRICE, READING
from m6rec.errors import DataError
from m6rec.store import Alert, Store
from stores import KINDS, empty_store, event, place, wipe


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    with empty_store(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(opened: Store) -> Store:
    wipe(opened)
    return opened


def documents(*keys: str, time: int = 100) -> pl.DataFrame:
    return pl.DataFrame(
        [{"document": key, "time": time + i, "source": "wire", "title": f"On {key}",
          "text": "Profit rose.", "language": "en", "url": ""} for i, key in enumerate(keys)]
    )  # fmt: skip


def readings(*rows: tuple[str, str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(d, e, t, "wire", s, 0.8, 1) for d, e, t, s in rows], schema=READING, orient="row"
    )


def alert(key: str = "a1", **more: Any) -> Alert:
    given = {"entity": "Nokia", "rule": "fall", "severity": "high", "time": 50, "value": -0.5,
             "text": "Nokia fell", "details": {"terms": ["loss"]}, **more}  # fmt: skip
    return Alert(key=key, **given)


def test_documents_come_back_and_count_once(store: Store) -> None:
    assert store.opinions.add_documents(documents("a", "b")) == 2
    changed = documents("b", "c").with_columns(title=pl.lit("Other"))
    assert store.opinions.add_documents(changed) == 1
    found = store.opinions.documents()
    assert found["document"].to_list() == ["b", "c", "a"]  # b and c: both the newest, by key
    assert found.row(0, named=True)["title"] == "On b"
    assert store.opinions.documents(since=101)["document"].to_list() == ["b", "c"]
    assert store.opinions.documents(keys=["a", "x"])["document"].to_list() == ["a"]


def test_what_is_unread_is_read_once_by_each_reader(store: Store) -> None:
    store.opinions.add_documents(documents("a", "b", "copy"))
    assert store.opinions.unread("m1")["document"].to_list() == ["a", "b", "copy"]
    found = readings(("a", "Nokia", 100, 0.5), ("a", "SAP", 100, -0.5), ("b", "SAP", 101, 0.1))
    store.opinions.put_readings(found, {"a": "a", "b": "b", "copy": "a"}, "m1")
    assert store.opinions.unread("m1").is_empty()
    kept = store.opinions.readings()
    assert kept.schema == pl.Schema(READING)
    assert kept["spread"].to_list() == [2, 2, 1]
    assert store.opinions.originals(0) == {"a": "a", "b": "b", "copy": "a"}
    assert store.opinions.originals(101, 101, "m1") == {"b": "b"}
    assert store.opinions.originals(0, reader="m2") == {}
    assert store.opinions.originals_of(["copy", "x"]) == {"copy": "a"}
    assert store.opinions.documents(entity="SAP")["document"].to_list() == ["b", "a"]
    assert store.opinions.readings(entities=["SAP"], since=101)["document"].to_list() == ["b"]
    assert store.opinions.readings_in(["a", "x"])["entity"].to_list() == ["Nokia", "SAP"]
    whole = readings(("b", "", 101, 0.1), ("b", "SAP", 101, 0.1))
    store.opinions.put_readings(whole, {"b": "b"}, "m1")
    assert store.opinions.readings_in(["b"])["entity"].to_list() == ["", "SAP"]
    assert store.opinions.readings().height == 3 and store.opinions.entities() == ["Nokia", "SAP"]
    # Another reader replaces what the first one found.
    assert store.opinions.unread("m2").height == 3
    store.opinions.put_readings(readings(("a", "SAP", 100, 0.9)), {"a": "a"}, "m2")
    assert store.opinions.readings()["sentiment"].to_list() == [0.9, 0.1]
    assert store.opinions.unread("m2")["document"].to_list() == ["b", "copy"]


def test_labels(store: Store) -> None:
    store.opinions.add_documents(documents("a"))
    assert store.opinions.label("a", "Nokia", "negative", "ann", 5)
    assert store.opinions.label("a", "Nokia", "positive", "bob", 6)
    assert store.opinions.label("a", "", "neutral", "", 7)
    assert not store.opinions.label("x", "", "neutral", "", 7)
    assert store.opinions.labels().rows() == [("a", "Nokia", "positive"), ("a", "", "neutral")]
    assert store.opinions.labels_of("a") == {"": "neutral", "Nokia": "positive"}
    with pytest.raises(DataError, match="sentiment 'good': must be one of negative, neutral"):
        store.opinions.label("a", "", "good", "", 7)


def test_of_prices_the_last_counts(store: Store) -> None:
    rows = [("SAP", 10, 5.0, 100.0), ("SAP", 20, 6.0, 90.0), ("Nokia", 10, 1.0, 5.0)]
    store.opinions.add_prices(pl.DataFrame(rows, schema=PRICE, orient="row"))
    store.opinions.add_prices(pl.DataFrame([("SAP", 20, 7.0, 91.0)], schema=PRICE, orient="row"))
    assert store.opinions.prices().rows() == [rows[2], rows[0], ("SAP", 20, 7.0, 91.0)]
    assert store.opinions.prices(entities=["SAP"], since=11)["close"].to_list() == [7.0]
    assert store.opinions.entities() == ["Nokia", "SAP"]
    assert store.opinions.newest() == 20 and store.opinions.newest(9) is None


def test_watch_lists_keep_their_order_and_go_with_the_user(store: Store) -> None:
    store.add_events([event("ann"), event("bob")])
    store.opinions.set_watch_list("ann", ["SAP", "Nokia", "SAP"])
    assert store.opinions.watch_list("ann") == ["SAP", "Nokia"]
    store.opinions.add_documents(documents("a"))
    store.opinions.label("a", "", "neutral", "ann", 7)
    store.merge_users("ann", "bob")
    assert store.opinions.watch_list("bob") == ["SAP", "Nokia"]
    assert store.delete_user("bob")["watched"] == 2
    assert store.opinions.watch_list("bob") == []
    assert store.opinions.labels().height == 1  # what was said of the document stays


def test_reports_are_replaced_together(store: Store) -> None:
    store.opinions.put_reports({"SAP": ({"last": 0.5}, [1]), "Nokia": ({}, [2])}, 7)
    assert store.opinions.summaries() == {"Nokia": {}, "SAP": {"last": 0.5}}
    assert store.opinions.report("Nokia") == (7, [2])
    store.opinions.put_reports({"SAP": ({}, "价")}, 8)
    assert store.opinions.report("Nokia") is None and store.opinions.report("SAP") == (8, "价")
    assert store.opinions.size() == (0, 0, 0, 0, 0)


def test_one_watches_at_a_time(store: Store) -> None:
    assert store.opinions.take_turn("a", 100, 30)
    assert not store.opinions.take_turn("b", 129, 30)
    assert store.opinions.take_turn("a", 120, 30)
    assert store.opinions.take_turn("b", 150, 30)
    assert not store.opinions.take_turn("a", 160, 30)


def test_alerts_count_once_and_are_acknowledged_once(store: Store) -> None:
    assert store.alerts.add([alert(), alert("a2", time=60), alert()]) == 2
    assert store.alerts.add([alert(text="other")]) == 0
    assert [a.key for a in store.alerts.find()] == ["a2", "a1"]
    assert store.alerts.get("a1") == alert() and store.alerts.get("x") is None
    assert store.alerts.acknowledge("a1", "ann", 70)
    assert store.alerts.acknowledge("a1", "bob", 80)
    assert not store.alerts.acknowledge("x", "ann", 80)
    assert store.alerts.get("a1") == alert(acknowledged=70)
    assert [a.key for a in store.alerts.find(open_only=True)] == ["a2"]
    assert store.alerts.find(entity="SAP") == []


def test_a_delivery_is_tried_until_it_is_made(store: Store) -> None:
    store.alerts.add([alert()], sinks=["https://a", "https://b"])
    store.alerts.add([alert()], sinks=["https://a"])  # known: it is not told again
    assert store.alerts.claim(49) == []
    first = store.alerts.claim(50, lease=60)
    assert [(d.alert.key, d.sink, d.attempts) for d in first] == [
        ("a1", "https://a", 1), ("a1", "https://b", 1),
    ]  # fmt: skip
    assert store.alerts.claim(60) == []  # somebody has them
    store.alerts.delivered("a1", "https://a", 61)
    store.alerts.failed("a1", "https://b", 90, "503")
    assert store.alerts.claim(89) == []
    assert [w["error"] for w in store.alerts.waiting()] == ["503"]
    assert [d.attempts for d in store.alerts.claim(90, lease=10)] == [2]
    # Who claimed it died: it is due again when the lease has ended.
    assert [d.attempts for d in store.alerts.claim(100)] == [3]
    store.alerts.delivered("a1", "https://b", 101)
    assert store.alerts.waiting() == [] and store.alerts.claim(10**6) == []


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (documents("a").drop("url"), 'documents: the column "url" is missing'),
        (documents("a").with_columns(time=pl.lit(-1)), "document 1: time -1 is not usable"),
        (documents("a").with_columns(title=pl.lit(None, pl.String)), "document 1: title None"),
        (documents(""), "document '': must be text that is not empty"),
        (documents("a").with_columns(text=pl.lit("x\0")), "must be without NUL"),
        (documents("a" * 513), "has 513 characters"),
    ],
)
def test_what_cannot_be_kept_is_one_sentence(
    store: Store, frame: pl.DataFrame, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        store.opinions.add_documents(frame)
    assert store.opinions.documents().is_empty()


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_the_first_version_is_brought_up_to_date(kind: str, tmp_path: Path) -> None:

    with place(kind, tmp_path) as url:
        Store.open(url).close()
        store = Store.open(url)
        names = ("documents", "readings", "labels", "prices", "reports", "alerts", "outbox",
                 "watched")  # fmt: skip
        with store._database.transaction() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP TABLE m6rec_{name}")
            connection.exec_driver_sql("update m6rec_version set version_num = '0001'")
        store.add_events([event("ann")])
        store.close()
        again = Store.open(url)
        assert again.opinions.add_documents(documents("a")) == 1
        assert len(again.events()[0]) == 1
        again.close()
