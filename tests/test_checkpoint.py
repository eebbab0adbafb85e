"""What a killed training goes on from: named by all that decides, whole, gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m6rec import checkpoint, pipeline
from m6rec.checkpoint import NOWHERE, Checkpoint, Saved
from m6rec.data.holdout import holdout
from m6rec.experiment import load
from m6rec.models import judges, transfer
from m6rec.models.blocks import Side
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.tracking import Run
from shop import write_shop
from world import world

STATE = {"vectors": np.arange(6, dtype=np.float32).reshape(2, 3), "sweeps": np.array([2])}
OPTIONS = {name: Local(reg=0.5, nu=0.5) for name in ("films", "books")}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("M6REC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    return tmp_path / "cache" / "checkpoints"


def saved(run: Run | None = None, about: str = "a recipe", data: int = 1) -> Saved:
    return Saved(Checkpoint(run or Run(), about, np.array([data]))).part("own").part("0")


def test_what_was_kept_is_read_by_the_same_training_alone() -> None:
    saved().write(STATE)
    found = saved().read()
    assert found.keys() == STATE.keys()
    np.testing.assert_array_equal(found["vectors"], STATE["vectors"])
    others = (saved(Run(seed=1)), saved(Run().child("x")), saved(about="another"), saved(data=2))
    for other in (*others, NOWHERE):
        assert not other.read()


def test_arrays_are_told_apart_by_more_than_their_bytes() -> None:
    one, two, three = np.int32([1]), np.int32([2]), np.int32([3])
    pair, nothing = np.r_[one, two], np.zeros((0, 3), np.float32)
    groups = (
        [pair, three], [one, np.r_[two, three]], [pair[:, None], three], [pair[None], three],
        [pair.view(np.uint32), three], [pair.view(np.int64), three], [pair, three, nothing],
    )  # fmt: skip
    assert len({checkpoint.hash_of("about", *arrays) for arrays in groups}) == len(groups)


def test_it_is_written_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 60.0)
    saved().write(STATE)
    assert not saved().read()


def test_a_damaged_file_is_none_and_one_that_cannot_be_written_no_error(cache: Path) -> None:
    saved().write(STATE)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert not saved().read()
    file.unlink()
    cache.rmdir()
    cache.write_text("not a folder")
    saved().write(STATE)


def test_a_fit_removes_its_own_and_a_command_those_of_all_fits(cache: Path) -> None:
    Pct(dim=2, sweeps=1, domains=OPTIONS).fit(world(n_users=20), Run())
    assert not list(cache.iterdir())
    run = Run(checkpoints=[])
    Pct(dim=2, sweeps=1, domains=OPTIONS).fit(world(n_users=20), run)
    assert list(cache.iterdir()) == run.checkpoints


@pytest.mark.parametrize("explicit", [False, True])
def test_a_fit_that_was_killed_goes_on_to_the_same_result(explicit: bool) -> None:
    data, recipe = world(n_users=30, explicit=explicit), Pct(dim=4, sweeps=3, domains=OPTIONS)
    whole = Dying(10**9)
    wanted = recipe.fit(data, Run(pool=whole)).state()
    third = (10**9 - whole.left) // 3
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            recipe.fit(data, Run(pool=Dying(third)))
    rest = Dying(10**9)
    found = recipe.fit(data, Run(pool=rest)).state()
    assert rest.left > whole.left
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_options_that_were_tried_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", transfer.STRENGTHS[:3])
    monkeypatch.setattr(judges, "HOLDOUTS", 1)
    data, recipe = world(n_users=24), Pct(dim=2, sweeps=1, attributes=False)
    whole = Dying(10**9)
    wanted = recipe.choose(holdout(data, Run().rng()), Run(pool=whole))
    with pytest.raises(KeyboardInterrupt):
        recipe.choose(holdout(data, Run().rng()), Run(pool=Dying((10**9 - whole.left) // 2)))
    rest = Dying(10**9)
    assert recipe.choose(holdout(data, Run().rng()), Run(pool=rest)) == wanted
    assert rest.left > whole.left


def test_a_command_that_was_killed_goes_on_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sets = ["model={kind='pct', dim=4, sweeps=2}", "evaluate.baselines=[]"]
    sets[0] = sets[0].replace("}", ", domains={films={}, books={}}}")
    experiment = load(write_shop(tmp_path), sets)
    evaluate_on = pipeline.evaluate_on

    def killed(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "evaluate_on", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.save(experiment, tmp_path / "runs")
    assert list(cache.iterdir())
    monkeypatch.setattr(pipeline, "evaluate_on", evaluate_on)
    fits: list[int] = []
    solve = Side.solve

    def counted(self: Side, *given: Any) -> Any:
        fits.append(1)
        return solve(self, *given)

    monkeypatch.setattr(Side, "solve", counted)
    pipeline.save(experiment, tmp_path / "runs")
    assert len(fits) == 2 * 2 * 2  # domains × sweeps × sides, of the fit on all events alone
    assert not list(cache.iterdir())


class Dying:
    """A pool of one process that is killed at its n-th call of ``map``."""

    size = 1

    def __init__(self, n: int) -> None:
        self.left = n

    def share(self, value: Any) -> Any:
        return value

    def map(self, function: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return (function(*piece) for piece in pieces)
