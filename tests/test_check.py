"""The figures of a small world counted by hand."""

from __future__ import annotations

import json

import polars as pl

from m6rec.data.check import check
from m6rec.data.frames import from_frames
from m6rec.data.twins import TwinsConfig

LOG = pl.DataFrame(
    [
        ("ann", "1", "films", "view", 5),
        ("ann", "1", "books", "view", 6),
        ("bob", "1", "films", "hide", 7),
        ("bob", "2", "films", "view", 8),
        ("cat", "9", "music", "view", 9),
    ],
    schema=["user", "item", "domain", "event", "time"],
    orient="row",
)
ITEMS = pl.DataFrame(
    {
        "item": ["1", "2", "3"],
        "domain": ["films"] * 3,
        "title": ["a", None, "c"],
        "year": [1, None, None],
        "hidden": [False, False, True],
    }
)


def test_counts() -> None:
    events = {"view": {}, "hide": {"sign": "negative"}}
    users = pl.DataFrame({"user": ["ann", "zoe"], "age": [3, 4]})
    report = check(from_frames(LOG, ITEMS, users, events=events))
    assert (report.users, report.items, report.events, report.cold_users) == (4, 5, 5, 1)
    assert report.span == (5, 9)
    assert report.users_with_attributes == 0.5
    assert report.event_types == {"view": 4, "hide": 1}
    films = next(d for d in report.domains if d.name == "films")
    assert (films.users, films.items, films.events, films.negative) == (2, 3, 3, 1)
    assert films.density == 3 / 6
    assert (films.cold_items, films.hidden) == (1, 1)
    assert (films.with_text, films.with_attributes) == (2 / 3, 1 / 3)
    assert films.values is None
    shared = {(o.first, o.second): (o.users, o.share) for o in report.overlaps}
    assert shared[("books", "films")] == (1, 1.0)
    assert shared[("films", "music")] == (0, 0.0)
    assert any("films and music share no user" in note for note in report.notes)
    json.dumps(report.to_json())


def test_attributes_are_listed_as_they_were_read() -> None:
    n = 40
    items = pl.DataFrame(
        {
            "item": [str(i) for i in range(n)],
            "price": ["28,76", *["3"] * (n - 2), None],
            "year": [1990 + i for i in range(n)],
            "studio": ["a", "b"] * (n // 2),
            "tags": [["x"]] * n,
            "plot": [f"some words {i}" for i in range(n)],
        }
    )
    log = pl.DataFrame({"user": ["a", "b"], "item": ["1", "2"]})
    found = {a.name: a for a in check(from_frames(log, items)).attributes}
    kinds = {name: a.kind for name, a in found.items()}
    assert kinds | {"price": ""} == {
        "price": "", "year": "number", "studio": "category", "tags": "list", "plot": "text",
    }  # fmt: skip
    assert (found["price"].missing, found["price"].odd) == (1 / n, "28,76")
    assert found["plot"].odd == ""


def test_ratings_and_no_times() -> None:
    log = pl.DataFrame({"user": ["a", "b"], "item": ["1", "1"], "rating": [2, 5]})
    report = check(from_frames(log, feedback="explicit"))
    assert report.span is None
    assert report.domains[0].values == (2.0, 3.5, 5.0)
    assert report.overlaps == ()
    assert any("no times" in note for note in report.notes)


def test_notes_say_what_will_happen() -> None:
    log = pl.DataFrame(
        [(f"u{n}", "same", name) for n in range(4) for name in ("films", "books")],
        schema=["user", "item", "domain"],
        orient="row",
    )
    prepared = from_frames(log)
    said = {
        "link": check(prepared).notes,
        "report": check(prepared, TwinsConfig(action="report")).notes,
    }
    assert any("whoever had one is not recommended the other" in note for note in said["link"])
    assert any("link or drop them" in note for note in said["report"])
    assert any("they have no attributes either" in note for note in said["link"])
