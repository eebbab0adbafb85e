"""DeepFM: its formula, what the penalties do, new items by attributes, and exact reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from m6rec.data.dataset import Dataset
from m6rec.metrics import ranked
from m6rec.models.deepfm import DeepFM, Learner
from m6rec.models.interactions import second_order
from m6rec.models.popular import Popular
from m6rec.tracking import Run
from m6rec.training.loop import Training
from m6rec.training.losses import scored_loss
from m6rec.training.negatives import draw
from world import world

FAST = Training(lr=0.01, batch=64)
RUN = Run(threads=1)


def recipe(**options: object) -> DeepFM:
    chosen = {"dim": 8, "hidden": (16,), "epochs": 15, "training": FAST}
    return DeepFM(**{**chosen, **options})  # type: ignore[arg-type]


def test_the_second_order_is_the_sum_over_pairs() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 5, 4, dtype=torch.float64)
    literal = [sum(float(v[f] @ v[g]) for f in range(5) for g in range(f + 1, 5)) for v in vectors]
    np.testing.assert_allclose(second_order(vectors), literal)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_the_score_is_the_formula(explicit: bool, hidden: tuple[int, ...]) -> None:
    """The fitted arrays give what the network gives for all fields of a pair, written plainly."""
    data = world(explicit=explicit)
    learner = Learner(recipe(hidden=hidden, user_ids=True), data, RUN)
    learner.learn(Training(lr=0.01, epochs=1))
    model, network = learner.model(), learner.network
    query = data.query(np.array([5]))
    u = model.users(query)
    own = torch.from_numpy(u.fields[0])
    for i in (2, 31):
        fields = torch.cat([own, network.item_fields(torch.tensor([i]))[0]])
        vectors, weights = fields.detach()[:, :8], fields.detach()[:, 8]
        literal = float(weights.sum())
        for f in range(len(vectors)):
            for g in range(f + 1, len(vectors)):
                literal += float(vectors[f] @ vectors[g])
        if hidden:
            first = torch.cat([network.of_user, network.of_item], dim=1)
            h = first @ vectors.flatten() + network.of_item_bias
            for layer in network.layers:
                h = layer(torch.relu(h))
            literal += float(h.detach())
        if explicit:
            literal = model.scale.mean[i] + model.scale.scale[i] * (literal + u.deviation[0])
            literal = min(max(literal, 1), 5)
        assert abs(model.score(query)[0, i] - literal) < 1e-4


def test_in_training_a_history_leaves_out_the_answer() -> None:
    """The user side of a cell is that of a query without the cell's item."""
    data = world(explicit=True)
    learner = Learner(recipe(user_ids=True), data, RUN)
    learner.network.eval()
    model = learner.model()
    for at in (0, 50, 400):
        user, item = learner.user[at], learner.item[at]
        bags = learner.bags(np.array([at]))
        told = torch.from_numpy(learner.blocks[[user]])
        found = learner.network.users(bags, told, torch.tensor([user]))
        rest = data.take(~((data.user == user) & (data.item == item)))
        asked = model.users(rest.query(np.array([user])))
        np.testing.assert_allclose(found.total.detach(), asked.total, atol=1e-5)
        np.testing.assert_allclose(bags.deviation, asked.deviation, atol=1e-6)


def taste(seed: int = 0, new: int = 20) -> tuple[Dataset, np.ndarray]:
    """Users choose items of their own kind; the last ``new`` items have no events.

    Item block "kind" says it; "noise" says nothing. Returns the data and each item's kind.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items = 200, 100
    kind = np.arange(n_items) % 4
    old = np.arange(n_items - new)
    user = np.repeat(np.arange(n_users), 12)
    item = np.concatenate(
        [
            rng.choice(old[(kind[old] == u % 4) if u % 10 else (old >= 0)], 12, replace=False)
            for u in range(n_users)
        ]
    )
    noise = np.eye(5, dtype=np.float32)[rng.integers(0, 5, n_items)]
    blocks = {"kind": np.eye(4, dtype=np.float32)[kind], "noise": noise}
    data = Dataset.build(user=user, item=item, users=n_users, items=n_items, item_attributes=blocks)
    return data, kind


def test_group_lasso_zeroes_noise_and_keeps_what_is_true() -> None:
    data, _ = taste()
    lasso = recipe(penalty="group", reg=0.4, epochs=30, id_dropout=0.5)
    learner = Learner(lasso, data, RUN)
    learner.learn(replace(FAST, epochs=30))
    rows = learner.network.tables["item_attributes"].detach().norm(dim=1).numpy()
    assert (rows[4:] == 0).mean() >= 0.8
    assert rows[:4].min() > 20 * rows[4:].max()
    free = Learner(recipe(), data, RUN)
    free.learn(replace(FAST, epochs=3))
    assert set(free.zero_rows().values()) == {0.0}


def test_the_share_of_zero_rows_is_told() -> None:
    class Told:
        def __init__(self) -> None:
            self.names: set[str] = set()

        def scalar(self, name: str, value: float, step: int) -> None:
            self.names.add(name)

        def close(self) -> None: ...

    told = Told()
    recipe(penalty="group", epochs=1).fit(world(), replace(RUN, trackers=(told,)))
    assert {"zero rows/item", "zero rows/user_attributes"} <= told.names


def test_a_penalty_by_frequency_shrinks_rare_rows_more() -> None:
    data, _ = taste()
    sizes = []
    for reg in (0.0, 20.0):
        learner = Learner(recipe(penalty="frequency", reg=reg, power=0.0), data, RUN)
        learner.learn(replace(FAST, epochs=10))
        sizes.append(learner.network.tables["history"].norm(dim=1)[learner.count > 0].mean())
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr"])
def test_new_items_are_found_by_their_attributes(loss: str) -> None:
    """Above popularity among items that training never saw."""
    data, kind = taste()
    model = recipe(loss=loss, epochs=20, id_dropout=0.3).fit(data, RUN)
    users, new = np.arange(1, 9), np.arange(80, 100)
    wanted = np.zeros((8, 100), np.float32)
    wanted[:, new] = kind[new] == users[:, None] % 4
    targets = csr_array(wanted[:, new])
    query = data.query(users)
    found = ranked(model.score(query, new), targets).metric("ndcg@5").mean()
    popular = Popular().fit(data, RUN).score(query, new)
    assert found > 0.8
    assert found > ranked(popular, targets).metric("ndcg@5").mean() + 0.3


def test_an_item_of_which_nothing_is_known_abstains() -> None:
    data, _ = taste()
    bare = {
        name: np.where(np.arange(100)[:, None] < 99, b, 0)
        for name, b in data.item_attributes.items()
    }
    model = recipe(epochs=1).fit(replace(data, item_attributes=bare), RUN)
    known = ~np.isnan(model.score(data.query(np.arange(3))))
    assert known[:, :99].all() and not known[:, 99].any()


def test_no_request_is_no_score_and_no_new_item_changes_nothing() -> None:
    """A judge asks nobody where all that a domain holds is unknown to the model."""
    data = world(n_users=20)
    model = recipe().fit(data, Run())
    assert model.score(data.query(np.zeros(0))).shape == (0, data.n_items)
    query = data.query(np.arange(3))
    np.testing.assert_array_equal(model.update(data).score(query), model.score(query))


def test_ratings_beat_item_means_by_far() -> None:
    data = world(explicit=True, n_users=200)
    held = np.random.default_rng(1).random(len(data)) < 0.1
    train, test = data.take(~held), data.take(held)
    model = recipe(epochs=30).fit(train, RUN)
    found = model.pairs(train.query(test.user), np.arange(len(test)), test.item)
    means = Popular().fit(train, RUN).score(train.query(test.user))
    plain = means[np.arange(len(test)), test.item]
    errors = [float(np.sqrt(np.mean(np.square(x - test.weight)))) for x in (found, plain)]
    assert errors[0] < 0.75 * errors[1]


def test_reasons_of_a_history_name_the_items_that_matter() -> None:
    data = world()
    model = recipe(epochs=20).fit(data, RUN)
    query = data.query(np.array([1]))
    item = int(np.nanargmax(model.score(query)[0]))
    (reasons,) = model.explain(query, np.array([[item]]))[0]
    seen = [r for r in reasons if r.kind == "history"]
    assert {r.item for r in seen} == set(query.history.indices.tolist())
    assert {r.name for r in reasons if r.kind == "attribute"} == {"taste", "group"}
    best = max(seen, key=lambda r: r.value)
    assert best.item % 4 == 1


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("hidden", [(), (16, 8)])
def test_reasons_add_up_with_ids_and_any_depth(explicit: bool, hidden: tuple[int, ...]) -> None:
    data = world(explicit=explicit)
    model = recipe(hidden=hidden, user_ids=True, epochs=5).fit(data, RUN)
    query, items = data.query(np.arange(4)), np.tile(np.arange(40), (4, 1))
    sums = [[sum(r.value for r in cell) for cell in row] for row in model.explain(query, items)]
    np.testing.assert_allclose(sums, model.score(query), atol=1e-4)


def test_losses_on_scores_are_those_on_vectors() -> None:
    torch.manual_seed(0)
    positive, scores = torch.randn(4), torch.randn(4, 6)
    same = torch.tensor([-1, 2, 5, -1])
    left = scores.clone()
    left[1, 2] = left[2, 5] = -torch.inf
    every = torch.cat([positive[:, None], left], dim=1)
    expected = -torch.log_softmax(every, dim=1)[:, 0].mean()
    torch.testing.assert_close(scored_loss("softmax", positive, scores, same), expected)


def test_negatives_are_distinct_and_as_often_as_is_said() -> None:
    pool, weight = np.arange(10, 20), np.arange(1.0, 11.0)
    total = np.zeros(20)
    for seed in range(4000):
        codes, expected = draw(pool, weight, 3, np.random.default_rng(seed), True)
        assert len(set(codes.tolist())) == 3
        total[codes] += 1 / expected
    np.testing.assert_allclose(total[10:] / 4000, 1, atol=0.2)  # unbiased
    whole, ones = draw(pool, weight, 10, np.random.default_rng(0), True)
    assert (whole == pool).all() and (ones == 1).all()


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"hidden": (0,)}, {"dropout": 1.0}, {"reg": -1.0}, {"negatives": 0}]
)
def test_options_without_a_meaning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        recipe(**options)
