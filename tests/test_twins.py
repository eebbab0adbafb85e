"""Twins: found by audience and by text, linked or dropped, never across one domain."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec.config import from_table
from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain
from m6rec.data.twins import TwinsConfig, drop_twins, find_twins
from m6rec.errors import ConfigError

DOMAINS = (Domain(name="a"), Domain(name="b"), Domain(name="c"))


def dataset(pairs: list[tuple[int, int]], n_items: int = 9, texts: object = None) -> Dataset:
    """Events of 20 users; item i belongs to domain i // 3."""
    user, item = np.array(pairs).T if pairs else np.zeros((2, 0), int)
    return Dataset.build(
        user=user, item=item, users=20, items=n_items, domains=DOMAINS,
        item_domain=np.arange(n_items) // 3, item_text=texts,  # type: ignore[arg-type]
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 8)), min_size=20, max_size=150),
       st.integers(1, 4), st.floats(0.1, 1.0))  # fmt: skip
def test_equals_the_definition(pairs: list[tuple[int, int]], shared: int, jaccard: float) -> None:
    twins = find_twins(dataset(pairs), TwinsConfig(min_shared=shared, jaccard=jaccard))
    users = [{u for u, i in pairs if i == item} for item in range(9)]
    expected = {}
    for i, j in product(range(9), range(9)):
        both, either = len(users[i] & users[j]), len(users[i] | users[j])
        if i // 3 < j // 3 and both >= shared and both >= jaccard * either:
            expected[i, j] = (both, np.float32(both / either))
    found = {
        (int(i), int(j)): (int(s), x)
        for i, j, s, x in zip(twins.first, twins.second, twins.shared, twins.jaccard, strict=True)
    }
    assert found == expected
    assert (np.diff(twins.jaccard) <= 0).all()


def same_people(*items: int) -> list[tuple[int, int]]:
    return [(u, i) for u in range(5) for i in items]


def test_text_as_a_further_condition() -> None:
    texts = ("The Lamp!", "", "x", "the  lamp", "a table", "", "", "", "")
    data = dataset([*same_people(0, 3), *[(u + 6, i) for u in range(5) for i in (2, 4)]], 9, texts)
    assert len(find_twins(data, TwinsConfig(text="ignore"))) == 2
    must = find_twins(data, TwinsConfig(text="must"))
    assert list(zip(must.first, must.second, strict=True)) == [(0, 3)]
    vectors = np.eye(9, 2, dtype=np.float32)
    vectors[2] = vectors[4] = [0.6, 0.8]
    both = find_twins(data, TwinsConfig(text="must"), vectors)
    assert len(both) == 2 and both.similarity == pytest.approx(np.ones(2))


def test_text_without_a_shared_audience() -> None:
    texts = ("Red Lamp", "Card", "Card", "RED-LAMP", "card", "", "red lamp", "", "")
    data = dataset([(0, 0), (1, 3)], 9, texts)
    assert len(find_twins(data)) == 0
    twins = find_twins(data, TwinsConfig(text="also"))
    # "card" stands twice in domain a, so that it names no product
    assert sorted(zip(twins.first, twins.second, strict=True)) == [(0, 3), (0, 6), (3, 6)]
    assert twins.shared.tolist() == [0, 0, 0]


def test_an_item_without_text_passes_the_text_condition() -> None:
    data = dataset(same_people(0, 3), 9, ("lamp", *[""] * 8))
    twins = find_twins(data, TwinsConfig(text="must"))
    assert len(twins) == 1 and np.isnan(twins.similarity[0])


def test_history_at_partners_marks_the_other_listing() -> None:
    data = dataset([*same_people(0, 3), (7, 3), (8, 1)])
    twins = find_twins(data)
    marked = (data.query(np.array([7, 8])).history @ twins.partners(9)).toarray()
    assert np.argwhere(marked).tolist() == [[0, 0]]


def test_drop_keeps_the_target() -> None:
    data = dataset([*same_people(0, 3, 6), (9, 1), (9, 4)])
    left = drop_twins(data, find_twins(data), "b")
    assert sorted(set(left.item.tolist())) == [1, 3, 4]
    assert (left.item == 3).sum() == 5
    with pytest.raises(ConfigError, match="no such domain"):
        drop_twins(data, find_twins(data), "d")


def test_negative_feedback_is_no_audience() -> None:
    data = dataset(same_people(0, 3))
    disliked = dataclasses.replace(data, weight=np.where(data.item == 3, -1, 1).astype(np.float32))
    assert len(find_twins(disliked)) == 0


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match='action = "drop" needs target'):
        from_table(TwinsConfig, {"action": "drop"}, "twins")
    with pytest.raises(ConfigError, match="min_shared"):
        from_table(TwinsConfig, {"min_shared": 0}, "twins")
