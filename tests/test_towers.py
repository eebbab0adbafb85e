"""Towers: each encoder learns an order; causality; heads; items and users without a past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain
from m6rec.models import towers
from m6rec.models.encoders import make_encoder
from m6rec.models.networks import Additive
from m6rec.models.onnx_graph import converted
from m6rec.models.pct import Pct
from m6rec.models.tower_inputs import latent, latents
from m6rec.models.towers import Towers
from m6rec.models.transfer import Local
from m6rec.models.two_towers import TASTE
from m6rec.tracking import Run
from m6rec.training import loop
from m6rec.training.loop import Training
from world import own_group_share, world

ENCODERS = ("mlp", "cnn", "gru", "attention")


def circle(n: int = 12, users: int = 80) -> Dataset:
    """Users walk around a circle of items in steps of one, from different starts."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, n, users)
    item = (start[:, None] + np.arange(7)) % n
    user = np.repeat(np.arange(users), 7)
    return Dataset.build(user=user, item=item.ravel(), users=users, items=n, ordered=True)


def recipe(**options: object) -> Towers:
    chosen = {"dim": 16, "dropout": 0.1, "epochs": 40, "training": Training(lr=0.01, batch=16)}
    return Towers(**{**chosen, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_learns_what_comes_next(encoder: str) -> None:
    data = circle()
    model = recipe(encoder=encoder).fit(data, Run(threads=1))
    query = data.query(np.arange(40))
    last = query.sequence[:, -1]
    assert (model.score(query).argmax(axis=1) == (last + 1) % 12).mean() > 0.9


@pytest.mark.parametrize("options", [{}, {"loss": "bce"}, {"adversarial": 0.1}])
def test_towers_learn_in_mixed_precision(options: dict[str, object]) -> None:
    data, training = circle(), Training(lr=0.01, batch=16, precision="bf16")
    model = recipe(training=training, **options).fit(data, Run(threads=1))
    query = data.query(np.arange(40))
    last = query.sequence[:, -1]
    assert (model.score(query).argmax(axis=1) == (last + 1) % 12).mean() > 0.9


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_do_not_look_ahead(encoder: str) -> None:
    torch.manual_seed(0)
    network = make_encoder(encoder, 8, 2, 2, 0.0).eval()  # type: ignore[arg-type]
    x = torch.randn(3, 6, 8)
    changed = x.clone()
    changed[:, 4:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[:, :4], network(changed)[:, :4])
        torch.testing.assert_close(network(x)[:, :4], network(x[:, :4]), rtol=1e-5, atol=1e-5)


def test_the_additive_head_is_the_formula_of_the_source() -> None:
    torch.manual_seed(0)
    head = Additive(5)
    u, v = torch.randn(4, 5), torch.randn(6, 5)
    w1, b1, w2, b2 = head.outer.weight, head.outer.bias, head.inner.weight, head.inner.bias
    w3, b3 = head.last.weight, head.last.bias
    for i in range(4):
        for j in range(6):
            f_u = w1 @ torch.sigmoid(w2 @ u[i] + b2) + b1
            f_v = w1 @ torch.sigmoid(w2 @ v[j] + b2) + b1
            g = w3 @ (f_u + f_v) + b3
            torch.testing.assert_close((head.users(u[i]) @ head.items(v[j])).reshape(1), g)


def test_the_additive_head_trains_and_ranks_alike_for_all() -> None:
    data = world()
    model = recipe(head="additive", epochs=3).fit(data, Run(threads=1))
    order = np.argsort(-model.score(data.query(np.arange(9))), axis=1)
    assert (order == order[0]).all()


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr"])
@pytest.mark.parametrize("negatives", [4, 500])
def test_every_loss_finds_the_taste(loss: str, negatives: int) -> None:
    data = world()
    model = recipe(loss=loss, negatives=negatives, epochs=15).fit(data, Run(threads=1))
    users = np.arange(data.n_users)
    scores = model.score(data.query(users))
    seen = data.positives.toarray() > 0
    assert own_group_share(scores, users, seen) > 0.8


def test_an_item_without_events_is_scored_by_what_is_known_of_it() -> None:
    data = world()
    unseen = np.arange(data.n_items) >= data.n_items - 4
    train = data.take(~unseen[data.item])
    model = recipe(epochs=15, id_dropout=0.3).fit(train, Run(threads=1))
    users = np.arange(data.n_users)
    scores = model.score(train.query(users), np.flatnonzero(unseen))
    best = np.flatnonzero(unseen)[scores.argmax(axis=1)]
    assert (best % 4 == users % 4).mean() > 0.6
    bare = recipe(epochs=2, attributes=False, text_dim=0).fit(train, Run(threads=1))
    assert np.isnan(bare.score(train.query(users))[:, unseen]).all()


def test_a_user_is_scored_by_attributes_alone_and_nobody_by_nothing() -> None:
    data = world()
    model = recipe(epochs=15).fit(data, Run(threads=1))
    empty = data.take(np.zeros(len(data), np.bool_)).query(np.arange(8))
    scores = model.score(empty)
    assert own_group_share(scores, np.arange(8), np.zeros(scores.shape, np.bool_)) > 0.6
    assert np.isnan(model.score(data.query(np.array([-1])))).all()


def test_the_epochs_are_found_on_a_holdout_and_kept() -> None:
    data = world()
    model = recipe(epochs=None, training=Training(epochs=4, lr=0.01)).fit(data, Run(threads=1))
    assert 1 <= model.recipe.epochs <= 4


def test_the_towers_are_told_of_pct_as_it_was_before_each_event() -> None:
    data = world()
    pct = Pct(dim=4).fit(data, Run(threads=1))
    last = data.start[1:] - 1  # the newest event of each user
    told = latents(pct, data, last)
    before = data.take(~np.isin(np.arange(len(data)), last)).query(np.arange(data.n_users))
    for d in range(2):
        mine = data.item_domain[data.item[last]] == d
        np.testing.assert_allclose(told[mine], latent(pct, before, d)[mine], atol=1e-6)
    assert told.any(axis=1).all()


def test_with_pct_a_domain_says_of_another_what_the_sequence_cannot() -> None:
    data = world()
    given = recipe(epochs=3, pct=Pct(dim=4), domain_heads=True)
    model = given.fit(data, Run(threads=1))
    query = data.query(np.arange(6))
    users = model.users(query)
    assert users.shape[1] == 2
    assert np.abs(users[:, 0] - users[:, 1]).max() > 1e-3
    again = model.recipe.restore(model.state())
    np.testing.assert_allclose(again.score(query), model.score(query), atol=1e-6)
    items = np.array([[3, 30]] * 6)
    for b, row in enumerate(model.explain(query, items)):
        for c, reasons in enumerate(row):
            assert any(reason.name == TASTE for reason in reasons)
            score = model.score(query)[b, items[b, c]]
            assert sum(r.value for r in reasons) == pytest.approx(score, abs=1e-3)
    scored = converted(model)
    np.testing.assert_allclose(scored.score(query), model.score(query), atol=1e-4)
    for row in scored.explain(query, items)[0]:
        assert any(reason.name == TASTE for reason in row)


def test_domains_without_a_common_order_have_sequences_of_their_own() -> None:
    data = world(ordered=False)
    data = replace(data, ordered=True)  # an order, but no times: of one domain after the other
    model = recipe(epochs=4).fit(data, Run(threads=1))
    assert model.recipe.scope == "domain"
    assert recipe(epochs=1).fit(world(), Run(threads=1)).recipe.scope == "all"
    films = data.item_domain[data.item] == 0
    whole, half = data.query(np.arange(9)), data.take(films).query(np.arange(9))
    scores = model.score(whole)
    np.testing.assert_allclose(scores[:, :20], model.score(half)[:, :20], atol=1e-5)
    assert np.abs(scores[:, 20:] - model.score(half)[:, 20:]).max() > 1e-3
    np.testing.assert_allclose(model.score(whole, np.arange(25, 30)), scores[:, 25:30], atol=1e-5)
    again = model.recipe.restore(model.state())
    np.testing.assert_allclose(again.score(whole), scores, atol=1e-6)
    np.testing.assert_allclose(converted(model).score(whole), scores, atol=1e-4)
    items = np.array([[3, 30]] * 9)
    for b, row in enumerate(model.explain(whole, items)):
        for c, reasons in enumerate(row):
            total = sum(reason.value for reason in reasons)
            assert total == pytest.approx(scores[b, items[b, c]], abs=1e-3)


def test_the_time_between_events_is_told() -> None:
    data = world()
    model = recipe(epochs=8).fit(data, Run(threads=1))
    query = data.query(np.arange(6))
    rare = replace(query, times=np.where(query.times >= 0, query.times * 7, -1))
    assert np.abs(model.score(query) - model.score(rare)).max() > 1e-4
    blind = recipe(epochs=2, gaps=False).fit(data, Run(threads=1))
    np.testing.assert_array_equal(blind.score(query), blind.score(rare))


def test_explicit_domains_are_left_to_others() -> None:
    data = circle()
    rated = Domain(name="items", feedback="explicit")
    both = Dataset.build(
        user=np.r_[data.user, data.user], item=np.r_[data.item, data.item + 12],
        users=80, items=24, ordered=True, item_domain=np.repeat([0, 1], 12),
        domains=(Domain(name="walk"), rated),
    )  # fmt: skip
    model = recipe(epochs=2).fit(both, Run(threads=1))
    assert np.isnan(model.score(both.query(np.arange(3)))[:, 12:]).all()


def test_a_killed_training_goes_on_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = circle(), Run(threads=1)
    whole = recipe(epochs=4).fit(data, run)
    monkeypatch.setattr(loop, "EVERY", 0.0)
    batches = towers.Learner.batches

    def killed(self: towers.Learner, epoch: int) -> object:
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(self, epoch)

    monkeypatch.setattr(towers.Learner, "batches", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe(epochs=4).fit(data, run)
    asked: list[int] = []

    def watched(self: towers.Learner, epoch: int) -> object:
        asked.append(epoch)
        return batches(self, epoch)

    monkeypatch.setattr(towers.Learner, "batches", watched)
    rest = recipe(epochs=4).fit(data, run)
    assert asked == [2, 3]
    np.testing.assert_array_equal(rest.vectors, whole.vectors)


def test_a_domain_without_items_stands_in_nobodys_way() -> None:
    data = world()
    data = replace(data, domains=(*data.domains, Domain(name="zines")))
    local = {d.name: Local() for d in data.domains}
    for options in ({"domain_heads": True}, {"pct": Pct(dim=4, sweeps=2, domains=local)}):
        model = recipe(epochs=1, **options).fit(data, Run(threads=1))
        query = data.query(np.arange(5))
        scores = model.score(query)
        assert not np.isnan(scores).any()
        np.testing.assert_allclose(converted(model).score(query), scores, atol=1e-4)
        again = model.recipe.restore(model.state())
        np.testing.assert_allclose(again.score(query), scores, atol=1e-5)


def test_more_events_than_a_request_carries_are_refused() -> None:
    with pytest.raises(ValueError, match="length = 101: a request carries the newest 100"):
        recipe(length=101)
