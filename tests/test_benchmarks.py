"""benchmarks/run.py: no number without its spread, nothing run twice, every command exists."""

import json
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split
from m6rec.significance import Paired

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import environments  # noqa: E402
import figures  # noqa: E402
import peers  # noqa: E402
import quality  # noqa: E402
import quality_tables  # noqa: E402
import run  # noqa: E402

LINEAR = """
from peers import Space, neighbours
import numpy as np
MODELS = {
    "near": Space({"k": (1, 2)}),
    "random": Space(random=True),
    "slow": Space({"k": (1, 2)}),
    "ill": Space(),
}
def fit(model, train, options, seed):
    assert set(train.user) <= set(range(30)), "more than train was given"
    while model == "slow":
        pass
    if model == "ill":
        raise MemoryError("too large")
    return neighbours(train.matrix, (train.matrix.T @ train.matrix).toarray() * options.get("k", 1))
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A set of two tastes, as one of the tasks."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(30), 6)
    item = np.concatenate([rng.permutation(8)[:6] + 8 * (u % 2) for u in range(30)])
    data = Dataset.build(user=user, item=item, users=30, items=16)
    split = Split.by_mask(data, np.arange(len(data)) % 6 == 0)
    task = quality.Task(split=lambda: split, metrics=("ndcg@5", "recall@5"))
    monkeypatch.setitem(quality.TASKS, "small", task)
    monkeypatch.setattr(quality_tables, "METRICS", {"ndcg_5": "NDCG@5", "recall_5": "recall@5"})
    quality.staged.cache_clear()
    return "small"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A peer of that name, whose process finds it as it finds the others."""
    home = tmp_path / "scripts"
    (home / "peers").mkdir(parents=True)
    for name in ("peer.py", "peers/__init__.py"):
        (home / name).write_text((BENCHMARKS / name).read_text())
    (home / "peers" / "stranger.py").write_text(LINEAR)
    monkeypatch.setattr(quality, "HERE", home)
    monkeypatch.setattr(peers, "__path__", [str(home / "peers")])
    monkeypatch.delitem(sys.modules, "peers.stranger", raising=False)
    return "stranger"


def test_a_number_needs_seeds_or_an_interval():
    assert str(figures.Figure((0.25, 0.35))) == ".3000 ± .0707"
    assert str(figures.Figure((0.25,), 0.2, 0.3)) == ".2500 [.2000, .3000]"
    assert str(figures.Figure((-0.5, -0.5), -1.0, 1.5)) == "-.5000 ± .0000 [-1.0000, 1.5000]"
    for alone in (figures.Figure((0.25,)), figures.Figure(()), figures.Figure((0.1, np.nan))):
        with pytest.raises(figures.NoSpread, match="with its spread"):
            str(alone)


def test_a_table_refuses_a_bare_number():
    with pytest.raises(figures.NoSpread, match=r'"NDCG@10" = 0\.25'):
        figures.table(["model", "NDCG@10"], [["pct", 0.25]])
    with pytest.raises(figures.NoSpread):
        figures.table(["model", "NDCG@10"], [["pct", figures.Figure((0.25,))]])
    with pytest.raises(figures.NoSpread, match="interval"):
        figures.gain(Paired(0.1, np.nan, np.nan, np.nan))
    assert figures.seconds([1.0]) == "one fit"
    assert figures.table(["a"], [["b"]]) == "| a |\n| --- |\n| b |"


def test_every_command_is_a_script_and_every_script_has_one():
    scripts = {table.command.split()[0] for table in run.TABLES.values()}
    assert all((BENCHMARKS / name).is_file() for name in scripts)
    parts = {
        "datasets.py", "environments.py", "figures.py", "peer.py", "quality.py",
        "quality_tables.py", "run.py", "recbole_peer.py", "recbole_quick.py", "together.py",
    }  # fmt: skip
    assert {file.name for file in BENCHMARKS.glob("*.py")} == scripts | parts
    assert {peer for table in run.TABLES.values() for peer in table.peers} <= {*environments.PINS}
    files = {file.stem for file in (BENCHMARKS / "peers").glob("[a-z]*.py")}
    assert files == {*quality.PEERS} == {*environments.PINS, "ours"}


def test_words_name_tables_sets_and_peers():
    assert run.chosen(["ratings"]) == (["ratings"], {})
    assert run.chosen(["quality/ml-1m/implicit"]) == ([], {"ml-1m": ["implicit"]})
    scripts, sets = run.chosen([])
    assert {*scripts} == {*run.TABLES} and {*sets} == {*quality.TASKS}
    for wrong in ("rating", "quality/ml-2m", "quality/ml-1m/spotlight"):
        with pytest.raises(ValueError, match=f'"{wrong}" names no'):
            run.chosen([wrong])


def test_trials_are_different_and_begin_with_the_defaults():
    space = peers.Space({"dim": (64, 32), "reg": (1.0, 0.1, 10.0)})
    trials = space.trials(4, np.random.default_rng(0))
    assert trials[0] == {"dim": 64, "reg": 1.0} and len({str(t) for t in trials}) == 4
    assert len(space.trials(99, np.random.default_rng(0))) == 6
    assert peers.Space().fits(10**6) and not peers.Space(largest=10).fits(11)
    assert peers.Space().trials(5, np.random.default_rng(0)) == [{}]


def test_answers_leave_out_train_and_fall_back_to_popularity():
    user, item = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2])
    train = peers.Train(user, item, np.ones(4), 3, 4, "", "")
    shown = lambda users, items: np.where(users[:, None] == 2, np.nan, [[4, 3, 2, 1]])  # noqa: E731
    (found,) = peers.scores(shown, train, np.array([0, 2]), np.arange(4))
    assert peers.lists(found, 3).tolist() == [[2, 3, -1], [1, 0, 2]]


def test_a_peer_is_searched_tested_kept_and_shown(
    small: str, stranger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    go = partial(
        quality.measure, small, stranger, Path(sys.executable), tmp_path, trials=2, seeds=(0, 1)
    )
    go(only="near", limit=60)
    go(only="random", limit=60)
    go(only="ill", limit=60)
    go(only="slow", limit=1)
    records = {
        str(file.relative_to(tmp_path / small / stranger)): json.loads(file.read_text())
        for file in tmp_path.glob("small/*/*/*.json")
    }
    assert records["near/test-0.json"]["status"] == "done"
    assert "near/test-1.json" not in records  # nothing in it is random
    assert records["random/test-1.json"]["seed"] == 1
    assert records["slow/trial-01.json"]["status"] == "over budget"
    assert "MemoryError: too large" in records["ill/test-0.json"]["error"]
    text = quality_tables.shown(tmp_path / small)
    assert "| stranger/near | ." in text and "[" in text.split("stranger/near")[1]
    assert "| stranger/random | ." in text and "± .0000 [" in text
    assert "- stranger/slow: not run: > 1 s of the processor in trial" in text
    assert "- stranger/ill: failed: MemoryError: too large" in text
    said = capsys.readouterr().err
    assert said.count("near / trial") == 2
    go(limit=1)
    assert not capsys.readouterr().err  # all of it was there


def test_peers_get_train_alone_and_lists_are_judged_as_scores_are(small: str, tmp_path: Path):
    job = quality.Job(
        set=small, peer="", model="", stage="test", options={}, seed=0, limit=1, python=tmp_path
    )
    split = job.write(tmp_path)
    given = np.load(tmp_path / "train.npz")
    assert np.array_equal(given["user"], split.train.user)
    assert np.array_equal(given["item"], split.train.item)
    users = np.unique(split.test.user)
    scores = np.random.default_rng(1).random((len(users), 16)).astype(np.float32)
    scores[split.train.matrix[users].nonzero()] = -np.inf
    np.savez(tmp_path / "answers.npz", lists=peers.lists(scores, 12))
    by_list = job.judged(tmp_path, split).values["ndcg@5"]
    np.save(tmp_path / "scores.npy", scores)
    assert np.array_equal(job.judged(tmp_path, split).values["ndcg@5"], by_list)


def test_a_script_is_kept_with_the_machine_and_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "hello.py").write_text("import sys; print('4 of', sys.argv[1])")
    monkeypatch.setitem(run.TABLES, "hello", run.Table("hello.py {out}", "a greeting", 1))
    for _ in range(2):
        run.script("hello", tmp_path, None)
    assert (tmp_path / "hello.txt").read_text() == f"4 of {tmp_path}\n"
    record = json.loads((tmp_path / "hello.json").read_text())
    assert record["status"] == 0 and record["machine"]["cores"] >= 1
    assert any(line.startswith("numpy==") for line in record["machine"]["packages"])
    assert capfd.readouterr().out.count("4 of") == 1
    (tmp_path / "hello.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "hello.json").unlink()
    with pytest.raises(RuntimeError, match="hello ended with 3"):
        run.script("hello", tmp_path, None)


def test_without_an_environment_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "implicit"
    home.mkdir()
    (home / "m6rec-pins.txt").write_text("\n".join(environments.PINS["implicit"]) + "\n")
    assert environments.python("implicit", tmp_path) == home / "bin" / "python"
    failed = Namespace(returncode=1, stderr="no matching distribution")
    monkeypatch.setattr(environments.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(RuntimeError, match="of lightfm cannot be made: no matching"):
        environments.python("lightfm", tmp_path)
