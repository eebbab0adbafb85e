"""Each cleaning step, on rows whose fate is known; cleaning twice is cleaning once."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec.data.clean import Cleaner, repeated, sessions
from m6rec.data.drops import Drops
from m6rec.data.schema import Clean

DAY = 86_400
COLUMNS = {
    "user": pl.UInt32, "item": pl.Int32, "domain": pl.Int16, "event": pl.Int16,
    "value": pl.Float32, "time": pl.Int64,
}  # fmt: skip
Row = tuple[int, int, int, int, float, int]


def cleaner(explicit: tuple[bool, ...] = (False, False), **options: Any) -> Cleaner:
    return Cleaner(
        Clean(**options), np.array(explicit), lambda part, code: f"{part}{code}", Drops()
    )


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


REPEATS = frame(
    [
        (0, 1, 0, 0, 2.0, 20),
        (0, 1, 0, 0, 3.0, 10),
        (0, 1, 0, 1, 9.0, 10),
        (0, 1, 0, 0, 2.0, 20),
        (1, 1, 0, 0, 1.0, 5),
    ]
)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("all", [(0, 2.0, 20), (0, 3.0, 10), (0, 9.0, 10), (0, 2.0, 20), (1, 1.0, 5)]),
        ("auto", [(0, 3.0, 10), (0, 9.0, 10), (0, 2.0, 20), (1, 1.0, 5)]),
        ("last", [(0, 9.0, 10), (0, 2.0, 20), (1, 1.0, 5)]),
        ("sum", [(0, 7.0, 20), (0, 9.0, 10), (1, 1.0, 5)]),
        ("max", [(0, 3.0, 20), (0, 9.0, 10), (1, 1.0, 5)]),
    ],
)
def test_duplicates(how: str, expected: list[tuple[int, float, int]]) -> None:
    clean = cleaner(duplicates=how)
    kept = clean.apply(REPEATS).select("user", "value", "time").rows()
    assert sorted(kept) == sorted(expected)
    assert clean.drops.count("duplicates") == 5 - len(expected)


def test_sum_counts_events_without_values() -> None:
    kept = cleaner(duplicates="sum").apply(REPEATS.drop("value"))
    assert sorted(kept["value"].to_list()) == [1.0, 1.0, 3.0]


def test_explicit_ratings_keep_the_newest() -> None:
    clean = cleaner(explicit=(True, False))
    rated = [(0, 1, 0, 0, 2.0, 20), (0, 1, 0, 1, 3.0, 30)]
    viewed = [(0, 7, 1, 0, 1.0, 10), (0, 7, 1, 0, 1.0, 10), (0, 7, 1, 0, 1.0, 11)]
    kept = clean.apply(frame(rated + viewed))
    assert kept["time"].to_list() == [30, 10, 11]
    only = cleaner(explicit=(True,)).apply(frame(rated))
    assert only["value"].to_list() == [3.0]


def test_untimed_repeats_stay() -> None:
    rows = [(0, 1, 0, 0, 1.0, -1), (0, 1, 0, 0, 1.0, -1)]
    assert cleaner().apply(frame(rows)).height == 2
    assert cleaner(explicit=(True,)).apply(frame(rows)).height == 1


def test_bots() -> None:
    burst = [(0, i, 0, 0, 1.0, 100 + i) for i in range(5)]
    calm = [(1, i, 0, 0, 1.0, DAY * (i + 1)) for i in range(5)]
    log = frame(burst + calm)
    clean = cleaner(max_per_day=4)
    assert set(clean.apply(log)["user"]) == {1}
    assert clean.drops.count("bots") == 5
    assert clean.drops.entries[0].samples[0]["user"] == "user0"
    assert cleaner(max_events=5).apply(log).height == 10
    with_more = frame([*burst, *calm, (1, 9, 0, 0, 1.0, 9)])
    assert set(cleaner(max_events=5).apply(with_more)["user"]) == {0}


def test_near_copies() -> None:
    rng = np.random.default_rng(0)
    own = [rng.choice(1000, 20, replace=False) for _ in range(60)]
    script = rng.choice(1000, 20, replace=False)
    for fake in range(3):  # each changes two of twenty: likeness .67 to .9
        own[fake] = np.r_[script[:18], 1000 + 2 * fake, 1001 + 2 * fake]
    own[10] = own[11].copy()  # two accounts of one person
    own[20] = own[21] = own[22] = np.arange(3)  # too few items to tell
    log = frame([(u, int(i), 0, 0, 1.0, -1) for u, items in enumerate(own) for i in items])
    clean = cleaner(near_copies=0.6)
    kept = set(clean.apply(log)["user"])
    assert kept == set(range(60)) - {0, 1, 2}
    assert clean.drops.count("bots") == 60
    assert clean.drops.entries[0].reason == "user whose items are nearly those of others"
    assert cleaner(near_copies=0.95).apply(log).height == log.height
    assert cleaner(near_copies=0.6).apply(log.head(0)).height == 0
    with pytest.raises(ValueError, match="near_copies = 2"):
        Clean(near_copies=2)


def test_sessions() -> None:
    rows = [(0, i, 0, 0, 1.0, t) for i, t in enumerate([0, 60, 120, 10_000, 50_000, 50_060])]
    log = frame([*rows, (1, 0, 0, 0, 1.0, 50_070)])
    number, _ = sessions(log, 1800.0)
    assert number.tolist() == [0, 0, 0, 1, 2, 2, 3]
    clean = cleaner(min_session=2, max_session=2)
    assert clean.apply(log)["item"].to_list() == [1, 2, 4, 5]
    assert clean.drops.count("sessions") == 3
    untimed = log.with_columns(time=pl.lit(-1, pl.Int64))
    clean = cleaner(min_session=2, duplicates="all")
    assert clean.apply(untimed).height == 7
    assert "sessions need times" in clean.drops.notes[0]


def test_k_core_is_iterative_and_per_domain() -> None:
    chain = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 1)]  # item 2 falls, then user 1, …
    rows = [(u, i, 0, 0, 1.0, n) for n, (u, i) in enumerate(chain)]
    rows += [(0, 8, 1, 0, 1.0, 90)]  # one event of user 0 in another domain does not count here
    clean = cleaner(core_users=2, core_items=2)
    kept = clean.apply(frame(rows))
    assert kept.select("user", "item").rows() == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert clean.drops.count("k-core") == 3


logs = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(0, 5), st.just(0), st.integers(0, 1),
        st.sampled_from([1.0, 2.0]), st.integers(0, 6).map(lambda n: n * 1000),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    rows=logs,
    how=st.sampled_from(["auto", "last", "max", "sum"]),
    core=st.integers(0, 3),
    explicit=st.booleans(),
)
def test_cleaning_is_idempotent(rows: list[Row], how: str, core: int, explicit: bool) -> None:
    options = {"duplicates": how, "core_users": core, "core_items": core}
    once = cleaner(explicit=(explicit,), **options).apply(frame(rows))
    again = cleaner(explicit=(explicit,), **options)
    assert again.apply(once).equals(once)
    assert again.drops.count() == 0


@settings(max_examples=60, deadline=None)
@given(rows=logs)
def test_core_leaves_no_one_below(rows: list[Row]) -> None:
    kept = cleaner(core_users=2, core_items=3, duplicates="all").apply(frame(rows))
    assert all(n >= 2 for n in kept["user"].value_counts()["count"])
    assert all(n >= 3 for n in kept["item"].value_counts()["count"])


@settings(max_examples=60, deadline=None)
@given(rows=logs)
def test_repeated_equals_the_plain_definition(rows: list[Row]) -> None:
    log = frame(rows)
    expected = [
        any(
            (other[0], other[1]) == (row[0], row[1]) and (other[5], m) > (row[5], n)
            for m, other in enumerate(rows)
        )
        for n, row in enumerate(rows)
    ]
    assert repeated(log, ["user", "item"]).tolist() == expected
