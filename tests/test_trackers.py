"""Scalars of a training in TensorBoard event files, offline W&B runs and the log."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m6rec import artifacts, pipeline, trackers
from m6rec.errors import ConfigError
from m6rec.experiment import Experiment, load
from m6rec.tracking import Run
from shop import write_shop

MODEL = ["run.refit=false", "model={kind='blend', parts=[{kind='pct', dim=4}, {kind='popular'}]}"]
Scalars = dict[str, list[tuple[int, float]]]


def events(folder: Path) -> Scalars:
    """Tag → steps and values, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = folder.iterdir()
    found: Scalars = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def offline(folder: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """The rows logged to the one offline W&B run below a folder, and its other records."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its process writes the file a moment after a run has finished
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows, others = [], []
    for data in chunks(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            keys = ("/".join(i.nested_key) or i.key for i in record.history.item)
            values = (json.loads(i.value_json) for i in record.history.item)
            rows.append(dict(zip(keys, values, strict=True)))
        else:
            others.append(record)
    return rows, others


def chunks(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, each chunk with checksum,
    length and type (1 whole, 2 first, 3 middle, 4 last); W&B begins it with 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


@pytest.fixture
def _without_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B as on a machine that has never seen it; its process ends with the test."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return load(write_shop(tmp_path), [*MODEL, "run.track=['tensorboard', 'wandb']"])


def test_a_tracked_training(
    experiment: Experiment, tmp_path: Path, _without_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained = pipeline.save(experiment, tmp_path / "runs")
    path = trained.fitted.path
    assert path is not None
    artifacts.load(path)  # verifies every hash
    (file,) = (path / "tensorboard").iterdir()
    assert f"tensorboard/{file.name}" in json.loads((path / "manifest.json").read_text())["files"]

    shown = events(path / "tensorboard")
    logged: Scalars = {}
    for line in map(json.loads, (path / "log.jsonl").read_text().splitlines()):
        if "scalar" in line:
            name = f"{line['scope']}/{line['scalar']}"
            logged.setdefault(name, []).append((line["step"], line["value"]))
    assert shown.keys() == logged.keys()
    for name, points in shown.items():
        assert points == [(s, pytest.approx(v)) for s, v in logged[name]], name

    for kind, found in trained.evaluations.items():
        assert shown[f"test/ndcg@10/{kind}"] == [(0, pytest.approx(found["ndcg@10"]))]
    weights = trained.fitted.model.recipe.weights  # type: ignore[attr-defined]
    for domain, rows in weights.items():
        for i, kind in enumerate(("pct", "popular")):
            expected = [(b, pytest.approx(row[i])) for b, row in enumerate(rows)]
            assert shown[f"train/lambda/{domain}/{i}-{kind}"] == expected
    tried = [step for step, _ in shown["train/0-pct/holdout/films"]]
    assert len(tried) > 5
    assert tried == sorted(set(tried))

    rows, records = offline(tmp_path / "runs")
    sent: Scalars = {}
    for row in rows:
        (name,) = (key for key in row if not key.startswith("_") and not key.endswith("step"))
        sent.setdefault(name, []).append((row[f"{name.rpartition('/')[0]}/step"], row[name]))
    assert sent == logged
    (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.display_name == path.name
    assert run.project == "m6rec"
    assert {"name", "seed", "model"} <= {each.key for each in run.config.update}
    assert not {"data", "base", "test"} & {each.key for each in run.config.update}
    (end,) = (r.exit for r in records if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 0


def test_trackers_end_when_training_fails(
    tmp_path: Path, _without_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    draft = tmp_path / "draft"
    draft.mkdir()
    with (
        pytest.raises(RuntimeError, match="diverged"),
        trackers.opened(("tensorboard", "wandb"), draft, "name", {}) as found,
    ):
        run = Run(trackers=found, log_file=draft / "log.jsonl").child("fit")
        run.scalar("loss", math.nan, 3)
        run.scalar("lr", 0.5, 3)
        raise RuntimeError("diverged")
    shown = events(draft / "tensorboard")
    assert shown["fit/lr"] == [(3, 0.5)]
    assert math.isnan(shown["fit/loss"][0][1])
    assert json.loads((draft / "log.jsonl").read_text().splitlines()[0])["value"] is None
    _, records = offline(tmp_path)
    (end,) = (r.exit for r in records if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 1
    with pytest.raises(OSError, match="closed"):
        run.scalar("lr", 0.5, 4)


def test_online_without_a_key_is_said(
    experiment: Experiment, tmp_path: Path, _without_key: None
) -> None:
    with pytest.raises(ConfigError, match=r"set WANDB_API_KEY, or WANDB_MODE=offline"):
        pipeline.save(experiment, tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_said_first(
    name: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    said: list[str] = []
    with pytest.raises(ConfigError, match=rf"{name} is not installed; install it with `pip"):
        pipeline.save(experiment, tmp_path / "runs", say=said.append)
    assert said == []
    assert not list((tmp_path / "runs").iterdir())


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.track.*tensorbord.*tensorboard"):
        load(write_shop(tmp_path), ["run.track=['tensorbord']"])


def test_tensorboard_needs_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    """In a fresh interpreter with both hidden and warnings as errors."""
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\n"
        "from m6rec.trackers import TensorBoard\n"
        "with TensorBoard(Path(sys.argv[1])) as board: board.scalar('loss', 0.25, 7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "board")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert events(tmp_path / "board") == {"loss": [(7, 0.25)]}


def test_scalars_do_not_change_the_model(experiment: Experiment, tmp_path: Path) -> None:
    """Tracking draws nothing from the random streams."""
    quiet = dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, track=()))
    board = dataclasses.replace(
        experiment, run=dataclasses.replace(experiment.run, track=("tensorboard",))
    )
    first, second = (
        pipeline.save(e, tmp_path / "runs").fitted.model.state() for e in (quiet, board)
    )
    assert all((first[name] == second[name]).all() for name in first)
