"""The filter language against Python's own semantics, and its errors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec.errors import QueryError
from m6rec.filters import Filter

ITEMS = pl.DataFrame(
    {
        "key": ["a1", "b2", "c3", "d4", "e5"],
        "domain": ["films", "films", "books", "books", "books"],
        "price": [5, 50, 12, 99, 5],
        "score": [4.5, 3.0, -1.0, 0.0, 2.25],
        "new": [True, False, True, False, False],
        "genres": [["comedy"], ["drama", "comedy"], [], ["war"], ["drama"]],
        "sizes": [[1, 2], [3], [], [2], [40]],
        "title": ['It\'s "so"', "Ünder", "中文 书", "", "so what"],
    }
)
ROWS = [{**row, "true": True, "false": False} for row in ITEMS.to_dicts()]

numbers = st.one_of(
    st.sampled_from(["price", "score"]), st.sampled_from(["5", "12.0", "-1", "2.25", "1e1", ".5"])
)
strings = st.one_of(
    st.sampled_from(["key", "domain", "title"]),
    st.sampled_from(['"films"', "'a1'", '"so"', "'\\''", '"中文"', "''", '"it\\"s"']),
)
signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
within = st.sampled_from(["in", "not in"])


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda v: f"[{', '.join(v)}]")


plain = st.one_of(
    st.tuples(numbers, signs, numbers),
    st.tuples(numbers, signs, numbers, signs, numbers),
    st.tuples(strings, signs, strings),
    st.tuples(numbers, within, listed(st.sampled_from(["5", "-1", "99", "2.25"]))),
    st.tuples(strings, within, listed(st.sampled_from(['"films"', "'b2'", "''"]))),
    st.tuples(strings, within, st.sampled_from(["genres", "title", '"so films"'])),
    st.tuples(numbers, within, st.just("sizes")),
    st.tuples(st.sampled_from(['"comedy"', "'war'", "domain"]), within, st.just("genres")),
    st.tuples(st.sampled_from(["new", "true", "false"])),
).map(" ".join)
expressions = st.recursive(
    plain,
    lambda inner: st.one_of(
        inner.map(lambda e: f"not {e}"),
        inner.map(lambda e: f"({e})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(expressions)
def test_means_what_python_means(expression: str) -> None:
    expected = [bool(eval(expression, {"__builtins__": {}}, row)) for row in ROWS]
    assert Filter.parse(expression).mask(ITEMS).tolist() == expected, expression


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1.<>=!()[]\"'`,-\\ \nnotrdi中", max_size=30))
def test_any_text_is_a_mask_or_one_sentence(text: str) -> None:
    try:
        mask = Filter.parse(text).mask(ITEMS)
    except QueryError as error:
        assert str(error).startswith("filter")
    else:
        assert mask.shape == (5,) and mask.dtype == np.bool_


def test_a_missing_value_equals_nothing() -> None:
    items = pl.DataFrame(
        {
            "price": [1.0, None, float("nan")],
            "title": ["x", None, None],
            "genres": [["a"], None, [None]],
            "new": [True, None, False],
        }
    )

    def held(text: str) -> list[bool]:
        return Filter.parse(text).mask(items).tolist()

    assert held("price < 5") == [True, False, False]
    assert held("not price < 5") == [False, True, True]
    assert held("price != 1") == [False, True, True]
    assert held("price not in [1, 2]") == [False, True, True]
    assert held('"x" in title') == [True, False, False]
    assert held('"a" in genres') == [True, False, False]
    assert held("new") == [True, False, False]


def test_other_columns_read_as_text() -> None:
    items = pl.DataFrame(
        {
            "a day": pl.Series(["1999-12-31", "2004-02-01"]).str.to_date(),
            "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
            "small": pl.Series([0, 200], dtype=pl.UInt8),
        }
    )
    assert Filter.parse('`a day` >= "2000-01-01"').mask(items).tolist() == [False, True]
    assert Filter.parse('kind == "x"').mask(items).tolist() == [True, False]
    assert Filter.parse("small > -1").mask(items).tolist() == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prize < 5", 'character 1: there is no attribute "prize"; did you mean "price"'),
        ("price < ", "character 9: an attribute or a value is expected, not the end"),
        ("price = 5", 'character 7: write "=="'),
        ('price < "5"', "character 1: a number and a string cannot be compared"),
        ("(price < 5", 'character 11: a "\\)" is missing'),
        ("price < 5 price", 'character 11: "price" does not fit here'),
        ('title == "abc', "character 10: an unfinished string"),
        ("price < 5 & new", 'character 11: "&" is not understood'),
        ("price and new", "character 1: this is a number, not a condition"),
        ("price", "character 1: this is a number, not a condition"),
        ('genres == "war"', 'use "in"'),
        ('price in ["a"]', "character 11: a number is expected in this list"),
        ("5 in genres", '"genres" holds strings'),
        ("price in title", 'a number cannot be "in" a string'),
        ("[1] == price", 'only stands after "in"'),
        ("price not 5", '"in" must follow "not"'),
        ("price in [1 2]", 'a "," or "]" is missing'),
        ("", "an attribute or a value is expected"),
        ("(" * 100 + "new" + ")" * 100, "levels of nesting"),
        ("not " * 100 + "new", "levels of nesting"),
        ("new or " * 1000 + "new", "characters long"),
    ],
)
def test_what_does_not_fit_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Filter.parse(text).mask(ITEMS)


def test_nothing_is_ever_executed() -> None:
    for text in (
        "__import__('os')",
        "price.__class__",
        "open('x')",
        "lambda: 1",
        "1 if new else 2",
    ):
        with pytest.raises(QueryError):
            Filter.parse(text).mask(ITEMS)


def test_a_number_that_was_read_as_text_is_said() -> None:
    items = pl.DataFrame({"Preis": ["3", None, "k.A.", "4,5"]})
    with pytest.raises(QueryError, match=r'"Preis" was read as text, such as "k\.A\."; see docs'):
        Filter.parse("Preis < 10").mask(items)
