"""Export: onnxruntime scores alike, without torch; int8 says what it loses; clear sentences."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import m6rec
from m6rec import pipeline
from m6rec.cli.app import app
from m6rec.errors import ConfigError, M6RecError, RunError
from m6rec.experiment import load
from m6rec.export import export
from m6rec.models.onnx_graph import converted
from m6rec.models.towers import Towers
from m6rec.tracking import Run
from m6rec.training.loop import Training
from shop import write_shop
from world import world

SMALL = '{kind = "towers", dim = 16, epochs = 2, text_dim = 8, heads = 2}'
FUSED = f'{{kind = "m6rec", parts = [{{kind = "neighbours", k = 10}}, {SMALL}]}}'
TORCHLESS = """\
import sys
sys.modules["torch"] = None
import m6rec
run = m6rec.open(sys.argv[1])
print(run.recommend("u5", k=3, explain=True).write_json())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


def trained(folder: Path, model: str) -> Path:
    toml = load(folder / "shop.toml", [f"model={model}", "evaluate.baselines=[]"])
    path = pipeline.save(toml, folder / "runs").fitted.path
    assert path is not None
    return path


@pytest.mark.parametrize("encoder", ["mlp", "cnn", "gru", "attention"])
@pytest.mark.parametrize("head", ["dot", "additive"])
def test_onnxruntime_scores_alike(encoder: str, head: str) -> None:
    data = world()
    options = {"encoder": encoder, "head": head, "dim": 16, "epochs": 3}
    training = Training(lr=0.01, batch=16)
    model = Towers(**options, training=training).fit(data, Run(threads=1))  # type: ignore[arg-type]
    made = converted(model)
    query = data.query(np.arange(-1, 40))  # one of whom nothing is known, all lengths
    want, got = model.score(query), made.score(query)
    assert (np.isnan(want) == np.isnan(got)).all()
    np.testing.assert_allclose(np.nan_to_num(got), np.nan_to_num(want), atol=1e-4)
    np.testing.assert_allclose(made.embed_items(0), model.embed_items(0))
    rough = converted(model, int8=True)
    one = np.vstack([rough.score(query.take(np.array([i]))) for i in range(41)])
    assert np.nanmax(np.abs(rough.score(query) - one)) < 1e-5  # nobody changes another's answer
    scale = np.nanmax(np.abs(want))
    assert 0 < np.nanmax(np.abs(rough.score(query) - want)) < 0.1 * scale


def test_a_fused_run_opens_without_torch_and_recommends_alike(folder: Path) -> None:
    path = trained(folder, FUSED)
    before, out = m6rec.open(path), folder / "small"
    (report,) = export(before.fitted, out)
    assert report.difference <= 1e-4
    assert (out / report.file).is_file()
    assert json.loads((out / "export.json").read_text())[0]["part"] == report.part
    after = m6rec.open(out)
    assert after.model.recipe.kind == "m6rec"
    users = before.dataset.users.keys.to_list()
    a, b = (each.recommend(users, k=5) for each in (before, after))
    np.testing.assert_allclose(a["score"].to_numpy(), b["score"].to_numpy(), atol=1e-4)
    assert (a["item"] == b["item"]).mean() > 0.99
    found = subprocess.run(
        [sys.executable, "-c", TORCHLESS, str(out)], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert [row["item"] for row in json.loads(found.stdout)] == after.recommend("u5", k=3)[
        "item"
    ].to_list()
    m6rec.evaluate(after, metrics=["ndcg@10"])  # fits it again, exported


def test_the_files_are_enough_for_any_onnxruntime(folder: Path) -> None:
    path = trained(folder, SMALL)
    run, out = m6rec.open(path), folder / "plain"
    export(run.fitted, out)
    arrays = load_file(out / "state.safetensors")
    session = onnxruntime.InferenceSession(out / "towers.onnx")
    codes = run.items(["films/i1", "films/i5", "films/i9"])
    feed = {
        "vectors": arrays["model/vectors"][codes][None],
        "count": np.array([3]),
        "gap": np.zeros((1, 3), np.int64),
        "attributes": np.zeros((1, arrays["model/sizes"][0]), np.float32),
        "latent": np.zeros((1, *arrays["model/sizes"][[2, 1]]), np.float32),
    }
    feed = {each.name: feed[each.name] for each in session.get_inputs()}
    (user,) = session.run(["user"], feed)
    scores = user[:, 0] @ arrays["model/vectors"].T + arrays["model/item_bias"].T
    asked = run.query([None], history=["films/i1", "films/i5", "films/i9"])
    np.testing.assert_allclose(scores, run.model.score(asked), atol=1e-4)


def test_the_command_says_what_int8_loses(folder: Path) -> None:
    path = trained(folder, SMALL)
    arguments = ["export", str(path), "--onnx", "--int8", "--out", str(folder / "eight"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (part,) = json.loads(result.stdout)["parts"]
    assert part["int8"] and 0 < part["difference"] < 0.1
    assert load_file(folder / "eight" / "state.safetensors")["model/vectors"].dtype == np.int8
    assert abs(part["after"] - part["before"]) < 0.1
    text = CliRunner().invoke(app, ["export", str(path), "--onnx"]).stdout
    assert "Greatest difference" in text
    assert path.with_name(f"{path.name}-onnx").is_dir()


def test_bad_input_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: type[M6RecError], match: str, *more: str) -> None:
        with pytest.raises(kind, match=match):
            CliRunner().invoke(app, ["export", *more], catch_exceptions=False)

    bare = str(trained(folder, '{kind = "neighbours"}'))
    refused(RunError, '"neighbours" has no towers', bare, "--onnx")
    refused(ConfigError, "--onnx", bare)
    refused(RunError, "exists already", bare, "--onnx", "--out", str(folder))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "onnx" else find(n))
    refused(RunError, "needs onnx: pip install", bare, "--onnx", "--out", str(folder / "x"))
