"""Seeds: predefined, from seed users, or chosen for coverage."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError
from m6rec.models.seeds import Seeds
from m6rec.tracking import Run
from world import world


def test_predefined_items_come_first_in_their_order() -> None:
    data = world()
    model = Seeds(items=("films/i7", "i2", "books/i30"), n=5).fit(data, Run())
    scores = model.score(data.query(np.array([-1])))[0]
    films = np.flatnonzero(data.item_domain == 0)
    assert films[np.argsort(-scores[films])][:2].tolist() == [7, 2]
    books = np.flatnonzero(data.item_domain == 1)
    assert books[scores[books].argmax()] == 30


def test_coverage_prefers_new_people_to_popularity() -> None:
    # item 0 and 1 have the same three fans; item 2 has two others
    user = np.array([0, 1, 2, 0, 1, 2, 3, 4])
    item = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    data = Dataset.build(user=user, item=item, users=5, items=4)
    assert Seeds(n=2).choose_seeds(data, 0).tolist() == [0, 2]
    assert Seeds(n=9).choose_seeds(data, 0).tolist() == [0, 2]  # everybody is covered


def test_seed_users_bring_what_they_like() -> None:
    data = world()
    liked = set(data.item[data.user == 5].tolist())
    chosen = Seeds(users=("u5",), n=3).choose_seeds(data, 0)
    assert set(chosen.tolist()) <= liked


def test_an_unknown_seed_is_named() -> None:
    with pytest.raises(ConfigError, match=r'item "films/i777" is not in the data'):
        Seeds(items=("films/i777",)).fit(world(), Run())
    with pytest.raises(ConfigError, match='no user "nobody"'):
        Seeds(users=("nobody",)).fit(world(), Run())
