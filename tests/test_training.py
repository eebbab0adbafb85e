"""Pieces of sequences, losses against their formulas, and the loop: stopping and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError
from m6rec.tracking import Run
from m6rec.training import loop
from m6rec.training.loop import Training, train
from m6rec.training.losses import ranking_loss
from m6rec.training.place import place
from m6rec.training.sequences import Pieces, gaps, histories


def sequences() -> Dataset:
    """Users of 1, 2, 7 and 0 events; user 2 has seven items in the order 0 … 6."""
    user = np.array([0, 1, 1, *[2] * 7])
    item = np.array([5, 3, 4, *range(7)])
    return Dataset.build(user=user, item=item, users=4, items=8, ordered=True)


@pytest.mark.parametrize("length", [1, 2, 3, 6, 50])
def test_pieces_hold_every_target_once_with_what_came_before(length: int) -> None:
    data = sequences()
    pieces = Pieces.of(data, length)
    found = []
    for batch in pieces.batches(2, np.random.default_rng(0)):
        assert batch.item.shape[1] <= length
        row, column = np.nonzero(batch.target >= 0)
        target = batch.target[row, column]
        user = data.user[pieces.row[target]]
        pairs = zip(user, batch.item[row, column], pieces.item[target], strict=True)
        found += [(int(u), int(i), int(t)) for u, i, t in pairs]
        assert ((batch.item >= 0) == (batch.target >= 0)).all()
    assert sorted(found) == [(1, 3, 4), *((2, i, i + 1) for i in range(6))]


def test_histories_are_the_newest_liked_items_padded_on_the_right() -> None:
    data = sequences()
    item, _, count = histories(data.query(np.array([2, 1, 3])), 3, np.ones(8, np.bool_))
    assert count.tolist() == [3, 2, 0]
    assert item.tolist() == [[4, 5, 6], [3, 4, -1], [-1, -1, -1]]
    known = np.ones(8, np.bool_)
    known[5] = False
    item, _, count = histories(data.query(np.array([2])), 3, known)
    assert item.tolist() == [[3, 4, 6]]


def test_gaps_double_from_a_minute_on() -> None:
    time = np.array([[0, 0, 60, 240, 240 + 86_400, -1], [-1, 5, 10**10, -1, -1, -1]])
    assert gaps(time).tolist() == [[0, 1, 2, 3, 11, 0], [0, 0, 21, 0, 0, 0]]


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    positive, bias = torch.randn(5, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    users, items = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    for tensor in (positive, bias, users, items):
        tensor.requires_grad_()
    return positive, users, items, bias, torch.tensor([-1, 2, -1, 6, 0])


def test_softmax_and_its_gradient_are_those_of_the_formula() -> None:
    positive, users, items, bias, same = parts()
    found = ranking_loss("softmax", positive, users, items, bias, same)
    mine = torch.autograd.grad(found, (positive, users, items, bias))
    scores = users @ items.T + bias
    rows = []
    for p in range(5):
        others = [scores[p, n] for n in range(7) if n != same[p]]
        rows.append(torch.logsumexp(torch.stack([positive[p], *others]), 0) - positive[p])
    expected = torch.stack(rows).mean()
    theirs = torch.autograd.grad(expected, (positive, users, items, bias))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mine, theirs)


def test_bce_and_bpr_are_those_of_the_formulas() -> None:
    positive, users, items, bias, same = parts()
    scores = users @ items.T + bias
    pairs = [(p, n) for p in range(5) for n in range(7) if n != same[p]]
    bce = -torch.log(torch.sigmoid(positive)).mean()
    bce = bce - torch.stack([torch.log(1 - torch.sigmoid(scores[p, n])) for p, n in pairs]).mean()
    torch.testing.assert_close(ranking_loss("bce", positive, users, items, bias, same), bce)
    bpr = torch.stack([-torch.log(torch.sigmoid(positive[p] - scores[p, n])) for p, n in pairs])
    torch.testing.assert_close(ranking_loss("bpr", positive, users, items, bias, same), bpr.mean())


class Line(nn.Module):
    """y = w x, with dropout so that random state matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.w = nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.3)

    def loss(self, x: Tensor) -> Tensor:
        x = x.to(self.w.weight.device)
        return ((self.w(self.dropout(x))[:, 0] - x.sum(dim=1)) ** 2).mean()


def batches(epoch: int) -> Iterator[Tensor]:
    rng = np.random.default_rng(epoch)
    for _ in range(4):
        yield torch.from_numpy(rng.standard_normal((16, 3)).astype(np.float32))


@pytest.mark.parametrize(
    ("n", "size"), [(10, 32), (1_024, 32), (1_883, 59), (8_000, 250), (1_000_000, 256)]
)
def test_few_data_are_learned_in_small_batches(n: int, size: int) -> None:
    assert Training().rows(n) == size
    assert Training(batch=500).rows(n) == 500


@pytest.mark.parametrize(
    ("optimiser", "average"), [("adam", 0.0), ("adam", 0.9), ("adamw", 0.0), ("sgd", 0.0)]
)
def test_a_killed_training_resumes_to_the_same_result(
    tmp_path: Path, optimiser: str, average: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "EVERY", 0.0)
    options = Training(
        epochs=5,
        lr=0.02,
        warmup=3,
        optimiser=optimiser,
        schedule="cosine",
        average=average,  # type: ignore[arg-type]
    )
    whole = Line()
    train(whole, batches, whole.loss, options, Run(seed=3))

    class Killed(Exception):
        pass

    def until_third(epoch: int) -> Iterator[Tensor]:
        if epoch == 3:
            raise Killed
        return batches(epoch)

    part, file = Line(), tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(part, until_third, part.loss, options, Run(seed=3), checkpoint=file)
    torch.manual_seed(99)
    rest = Line()
    train(rest, batches, rest.loss, options, Run(seed=3), checkpoint=file)
    torch.testing.assert_close(rest.w.weight, whole.w.weight, rtol=0, atol=0)
    assert not file.exists()


def test_a_damaged_checkpoint_is_none(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_bytes(b"damaged")
    whole = Line()
    train(whole, batches, whole.loss, Training(epochs=2), Run())
    other = Line()
    train(other, batches, other.loss, Training(epochs=2), Run(), checkpoint=file)
    torch.testing.assert_close(other.w.weight, whole.w.weight, rtol=0, atol=0)
    assert not file.exists()


def test_early_stopping_returns_to_the_best_epoch() -> None:
    line, seen = Line(), []
    values = iter([0.1, 0.5, 0.4, 0.3, 0.9])

    def judge() -> float:
        seen.append(line.w.weight.detach().clone())
        return next(values)

    options = Training(epochs=10, patience=2, lr=0.1)
    found = train(line, batches, line.loss, options, Run(), judge)
    assert (found.epochs, found.value, len(seen)) == (2, 0.5, 4)
    torch.testing.assert_close(line.w.weight, seen[1], rtol=0, atol=0)


def test_the_mean_of_the_weights_is_judged_and_kept() -> None:
    steps: list[torch.Tensor] = []

    def after(rate: float) -> None:
        steps.append(line.w.weight.detach().clone())

    def judge() -> float:
        judged.append(line.w.weight.detach().clone())
        return float(len(judged))

    for judges in (judge, None):
        line, judged = Line(), []
        steps.clear()
        mean = line.w.weight.detach().clone()
        options = Training(epochs=3, lr=0.1, average=0.7)
        train(line, batches, line.loss, options, Run(), judges, after=after)
        for n, weight in enumerate(steps, 1):
            mean += (weight - mean) * (1 - min(0.7, (1 + n) / (10 + n)))
        assert len(steps) == 12
        torch.testing.assert_close(line.w.weight, mean)
        assert not torch.allclose(line.w.weight, steps[-1])
        assert not judged or torch.equal(judged[-1], line.w.weight)


def test_the_loss_falls_and_bf16_learns_too() -> None:
    for precision in ("float32", "bf16"):
        line = Line()
        before = line.eval().loss(next(batches(0))).item()
        train(line, batches, line.loss, Training(epochs=30, lr=0.05, precision=precision), Run())  # type: ignore[arg-type]
        assert line.loss(next(batches(0))).item() < before / 5


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place("auto") == place("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match='device = "cuda": torch finds none here; use "auto"'):
        place("cuda")


@pytest.mark.parametrize("name", ["warmup", "clip", "weight_decay"])
def test_what_would_climb_the_loss_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Training(**{name: -1})  # type: ignore[arg-type]


def test_a_far_worse_score_is_a_great_loss_and_not_infinite() -> None:
    positive, users = torch.tensor([-200.0]), torch.ones(1, 1)
    items, bias, same = torch.zeros(3, 1), torch.zeros(3), torch.tensor([-1])
    found = ranking_loss("softmax", positive, users, items, bias, same)
    assert float(found) == pytest.approx(200 + np.log(3), rel=1e-5)
