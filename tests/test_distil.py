"""Distillation: product codes against the plain formula; a small student near its teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m6rec.models.distil import Distilled
from m6rec.models.tables import decoded, from_codes, product_codes, to_int8
from m6rec.models.towers import Towers
from m6rec.tracking import Run
from m6rec.training.loop import Training
from world import own_group_share, world


def test_codes_name_the_nearest_centroid() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 6)).astype(np.float32)
    codes, book = product_codes(table, 3, 16, rng)
    assert codes.dtype == np.uint8 and codes.shape == (300, 3) and book.shape == (3, 16, 2)
    for row in range(0, 300, 7):
        for p in range(3):
            distance = ((book[p] - table[row, 2 * p : 2 * p + 2]) ** 2).sum(axis=1)
            assert distance[codes[row, p]] <= distance.min() + 1e-5
    assert ((from_codes(codes, book) - table) ** 2).mean() < 0.25 * (table**2).mean()


def test_few_rows_are_kept_exactly() -> None:
    table = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    codes, book = product_codes(table, 2, 32, np.random.default_rng(1))
    np.testing.assert_allclose(from_codes(codes, book), table, atol=1e-6)


def test_int8_rows_are_within_half_a_step() -> None:
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    table[3] = 0
    state = to_int8("x", table)
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(decoded("x", state) - table) <= step / 2 + 1e-6).all()


def test_a_student_of_few_parameters_keeps_the_taste() -> None:
    data = world(n_users=400, n_items=1000)
    options = {"dim": 16, "layers": 1, "epochs": 12, "training": Training(lr=0.01, batch=32)}
    small = Distilled(pieces=8, levels=16, student=Training(epochs=8, lr=0.01, batch=32), **options)  # type: ignore[arg-type]
    model = small.fit(data, Run(threads=1))
    teacher = Towers(**options).fit(data, Run(threads=1))  # type: ignore[arg-type]
    count = [sum(p.numel() for p in each.network.items.parameters()) for each in (model, teacher)]
    assert count[0] < 0.1 * count[1]
    users, seen = np.arange(400), data.positives.toarray() > 0
    shares = [
        own_group_share(each.score(data.query(users)), users, seen) for each in (model, teacher)
    ]
    assert shares[0] > 0.8 * shares[1] > 0.4


def test_without_a_teacher_to_follow_the_student_still_learns() -> None:
    data = world()
    training = Training(lr=0.01, batch=16)
    for soft in (0.0, 1.0):
        model = Distilled(
            dim=16, pieces=4, levels=8, kept_layers=1, soft=soft, epochs=15,
            training=training, student=Training(epochs=6, lr=0.01, batch=16),
        ).fit(data, Run(threads=1))  # fmt: skip
        users = np.arange(data.n_users)
        seen = data.positives.toarray() > 0
        assert own_group_share(model.score(data.query(users)), users, seen) > 0.8


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pieces": 7}, "multiple"),
        ({"levels": 300}, "256"),
        ({"kept_layers": 3}, "kept_layers"),
        ({"soft": 2.0}, "soft"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Distilled(**options)  # type: ignore[arg-type]


def test_the_scope_that_was_trained_is_the_one_that_scores() -> None:
    data = replace(world(ordered=False), ordered=True)  # of one domain after the other
    options = {"dim": 16, "epochs": 1, "student": Training(epochs=1)}
    model = Distilled(**options).fit(data, Run(threads=1))  # type: ignore[arg-type]
    assert model.recipe.scope == "domain"  # type: ignore[attr-defined]
    given = Distilled(scope="domain", **options).fit(data, Run(threads=1))  # type: ignore[arg-type]
    query = data.query(np.arange(9))
    np.testing.assert_array_equal(model.score(query), given.score(query))


def test_the_student_has_batches_of_its_own() -> None:
    data, found = world(), []
    for batch in (8, 500):
        options = {"dim": 16, "epochs": 1, "training": Training(batch=32)}
        student = Training(epochs=2, batch=batch)
        model = Distilled(student=student, **options).fit(data, Run(threads=1))  # type: ignore[arg-type]
        found.append(model.score(data.query(np.arange(9))))
    assert not np.allclose(*found)
