"""Towers of several tasks: event types, values, scales, attacks, and PCT's score inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from m6rec.data.dataset import Dataset
from m6rec.data.schema import EventType
from m6rec.models import tower_objective
from m6rec.models.distil import Distilled
from m6rec.models.onnx_graph import converted
from m6rec.models.pct import Pct
from m6rec.models.tower_objective import Step, objective
from m6rec.models.towers import Learner, Towers, make_network
from m6rec.tracking import Run
from m6rec.training.adversarial import attacked
from m6rec.training.loop import Training
from world import own_group_share, world

N = 12  # items of the circle; two more come between


def recipe(**options: object) -> Towers:
    chosen = {"dim": 16, "dropout": 0.1, "epochs": 25, "training": Training(lr=0.01, batch=16)}
    return Towers(**{**chosen, **options})  # type: ignore[arg-type]


def errands(strong: float = 1.0, weak: float = 0.001) -> Dataset:
    """Users buy around a circle of items; after most purchases they look at one of two others."""
    rng = np.random.default_rng(0)
    user, item, event = [], [], []
    for u in range(120):
        at = int(rng.integers(N))
        for _ in range(14):
            if rng.random() < 0.75:
                item.append(N + int(rng.integers(2)))
                event.append(0)
            else:
                at = (at + 1) % N
                item.append(at)
                event.append(1)
            user.append(u)
    event_ = np.array(event, np.int16)
    return Dataset.build(
        user=np.array(user), item=np.array(item), event=event_, users=120, items=N + 2,
        weight=np.where(event_ == 1, 5, 1).astype(np.float32), ordered=True,
        events=(EventType(name="look", weight=weak), EventType(name="buy", weight=strong)),
    )  # fmt: skip


def bought_next(model: object, data: Dataset) -> float:
    """Return the share of users whose first recommendation is the next item on the circle."""
    query = data.query(np.arange(data.n_users))
    bought = np.where(query.event == 1, query.sequence, -1)
    newest = [row[row >= 0][-1] if (row >= 0).any() else -1 for row in bought]
    some = np.array(newest) >= 0
    found = model.score(query).argmax(axis=1)  # type: ignore[attr-defined]
    return float((found[some] == (np.array(newest)[some] + 1) % N).mean())


def test_a_request_is_answered_by_the_event_type_that_weighs_most() -> None:
    data = errands()
    one = recipe(event_heads=False).fit(data, Run(threads=1))
    several = recipe(event_heads=True).fit(data, Run(threads=1))
    assert bought_next(one, data) < 0.1  # three of four next events are looks
    assert bought_next(several, data) > 0.7
    looks = recipe(event_heads=True).fit(errands(strong=0.001, weak=1.0), Run(threads=1))
    assert bought_next(looks, data) < 0.1


def test_values_are_learned_as_a_further_task() -> None:
    data = errands()
    learner = Learner(recipe(value_head=True), data, Run(threads=1))
    before = learner.network.variance
    assert before is not None and before.tolist() == [0, 0]
    learner.learn(Training(lr=0.01, batch=16, epochs=25))
    assert learner.network.variance is not None
    assert (learner.network.variance.abs() > 0.05).all()
    assert learner.network.value_bias is not None
    bias = learner.network.value_bias.weight[:, 0]
    assert bias[:N].min() > bias[N:].max()  # purchases have the greater values


def test_variances_weigh_the_tasks() -> None:
    network = make_network(
        recipe(value_head=True), np.zeros((5, 0), np.float32), np.ones(5, np.bool_),
        np.array([0, 0, 1, 1]),
    )  # fmt: skip
    network.eval()
    none = torch.zeros(3, 0)
    step = Step(
        domain=0, trunk=torch.randn(3, 16), latent=none, event=torch.zeros(3, dtype=torch.int16),
        value=torch.tensor([1.0, -1.0, 0.5]), own=torch.tensor([0, 1, 2]),
        others=torch.tensor([3, 4]), shift=torch.zeros(2), same=torch.tensor([-1, -1, -1]),
    )  # fmt: skip
    codes = torch.arange(5)
    losses = []
    for s in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0]):
        assert network.variance is not None
        network.variance.data = torch.tensor(s)
        found = objective(network, [step], codes, network.items(codes), "softmax", 0.0)
        losses.append(float(found.detach()))
    whole = (losses[0] - losses[1] + 0.5) + (losses[0] - losses[2] + 0.5)  # Σ (1 - 1/e) L
    assert whole / (1 - np.exp(-1)) == pytest.approx(losses[0], rel=1e-5)


def test_an_attack_raises_the_loss_more_than_noise_of_its_length() -> None:
    torch.manual_seed(0)
    given = [torch.randn(6, 4), torch.randn(5, 4)]

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(a @ b.T, torch.arange(6) % 5)

    moved = attacked(loss, given, 0.2)
    for before, after in zip(given, moved, strict=True):
        length = (after - before).norm(dim=1) / before.norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 0.2))
    noise = [torch.randn_like(x) for x in given]
    shaken = [
        x + 0.2 * x.norm(dim=1, keepdim=True) * n / n.norm(dim=1, keepdim=True)
        for x, n in zip(given, noise, strict=True)
    ]
    assert loss(*moved) > loss(*given) + 2 * abs(loss(*shaken) - loss(*given))


def test_training_under_attack_adds_the_attacked_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = world(), []
    real = tower_objective.attacked

    def watched(*given: object) -> list[torch.Tensor]:
        seen.append(given[2])
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tower_objective, "attacked", watched)
    model = recipe(adversarial=0.3, epochs=12).fit(data, Run(threads=1))
    assert seen and set(seen) == {0.3}
    users = np.arange(data.n_users)
    known = data.positives.toarray() > 0
    assert own_group_share(model.score(data.query(users)), users, known) > 0.8
    recipe(adversarial=0.0, epochs=1).fit(data, Run(threads=1))
    assert set(seen) == {0.3}


@pytest.mark.parametrize(
    "options",
    [
        {"scales": True},
        {"event_heads": True, "value_head": True},
        {"pct": Pct(dim=4), "hybrid": "residual"},
        {"pct": Pct(dim=4), "hybrid": "tuned", "scales": True},
    ],
    ids=["scales", "tasks", "residual", "tuned"],
)
def test_every_form_restores_explains_and_exports(options: dict[str, object]) -> None:
    data = world()
    half = (np.arange(len(data)) % 2).astype(np.int16)
    types = (EventType(name="look", weight=0.5), EventType(name="buy"))
    data = replace(data, event=half, events=types)
    model = recipe(epochs=3, **options).fit(data, Run(threads=1))
    query = data.query(np.arange(6))
    scores = model.score(query)
    again = model.recipe.restore(model.state())
    np.testing.assert_allclose(again.score(query), scores, atol=1e-6)
    np.testing.assert_allclose(converted(model).score(query), scores, atol=1e-4)
    items = np.array([[3, 30]] * 6)
    for b, row in enumerate(model.explain(query, items)):
        for c, reasons in enumerate(row):
            total = sum(reason.value for reason in reasons)
            assert total == pytest.approx(scores[b, items[b, c]], abs=1e-3)


def test_the_residual_keeps_the_vectors_of_pct_and_tuning_moves_them() -> None:
    data = world()
    known = {}
    for hybrid in ("residual", "tuned"):
        model = recipe(epochs=3, pct=Pct(dim=4), hybrid=hybrid).fit(data, Run(threads=1))
        assert model.keys.shape[1] == 16 + 4
        known[hybrid] = np.abs(model.keys[:, 16:] - model.state()["phi"][:, -4:]).max()
        alpha = model.network.alpha.detach().numpy()
        with_pct = model.users(data.query(np.arange(5)))[:, :, 16:]
        assert (alpha != 0).all() and np.abs(with_pct).max() > 0
    assert known["residual"] == 0
    assert known["tuned"] > 1e-3


def test_scales_tell_the_newest_items_and_all() -> None:
    network = make_network(
        recipe(scales=True), np.zeros((3, 0), np.float32), np.ones(3, np.bool_),
        np.array([0, 0, 1, 1]),
    ).eval()  # fmt: skip
    torch.manual_seed(0)
    v, gap = torch.randn(1, 6, 16), torch.zeros(1, 6, dtype=torch.int64)
    with torch.inference_mode():
        plain = network.sequence(v, gap)
        x = v * 4.0 + network.gaps(gap)  # type: ignore[misc]
        network.scales[0].weight.copy_(torch.eye(16))
        newest = network.sequence(v, gap) - plain
        torch.testing.assert_close(newest[0, 5], x[0, 3:].mean(dim=0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(newest[0, 1], x[0, :2].mean(dim=0), rtol=1e-4, atol=1e-4)
        network.scales[0].weight.zero_()
        network.scales[1].weight.copy_(torch.eye(16))
        whole = network.sequence(v, gap) - plain
        torch.testing.assert_close(whole[0, 4], x[0, :5].mean(dim=0), rtol=1e-4, atol=1e-4)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="needs pct"):
        recipe(hybrid="tuned")
    with pytest.raises(ValueError, match="adversarial"):
        recipe(adversarial=-1.0)
    with pytest.raises(ValueError, match="no item vectors"):
        Distilled(dim=16, pieces=4, pct=Pct(), hybrid="residual")
