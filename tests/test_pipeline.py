"""From files to a published run and back: training, evaluation, requests, tuning, comparison."""

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

import m6rec
from m6rec import artifacts, comparison, config, pipeline, report, tune
from m6rec.errors import ConfigError, DataError, QueryError, RunError
from m6rec.experiment import load
from m6rec.learned import learned
from m6rec.models.default import M6Rec, default_parts
from m6rec.models.pct_model import PctModel
from m6rec.pipeline import Trained
from m6rec.recommender import Recommender
from m6rec.report import verdict
from shop import write_shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    def page(trained: Trained, draft: Path) -> None:
        report.write(trained, draft)

    return pipeline.save(load(folder / "shop.toml"), folder / "runs", extras=page)


@pytest.fixture(scope="module")
def run(trained: Trained) -> Recommender:
    assert trained.fitted.path is not None
    return m6rec.open(trained.fitted.path)


def test_a_run_is_whole(trained: Trained, folder: Path) -> None:
    path = trained.fitted.path
    assert path is not None
    assert artifacts.resolve("current", folder / "runs") == path
    names = {file.name for file in path.iterdir()}
    assert names >= {*artifacts.NEEDED, "manifest.json", "metrics.json", "drops.json"}
    assert names >= {"log.jsonl", "report.html", "plots", "evaluation.parquet"}
    assert (path / "plots" / "models.png").stat().st_size > 1000
    metrics = json.loads((path / "metrics.json").read_text())
    own, baseline = (metrics["models"][kind]["slices"]["all"] for kind in ("neighbours", "popular"))
    assert own["ndcg@10"]["value"] > baseline["ndcg@10"]["value"]
    page = (path / "report.html").read_text()
    assert "neighbours" in page
    assert "http://" not in page and "https://" not in page


def test_evaluation_of_a_saved_run_repeats_training(trained: Trained, run: Recommender) -> None:
    before = trained.evaluations["neighbours"]
    again = m6rec.evaluate(run)
    assert again["ndcg@10"] == before["ndcg@10"]
    assert m6rec.evaluate(run, metrics=["mrr@5"], by=[])["mrr@5"] > 0
    with pytest.raises(ConfigError, match="did you mean"):
        m6rec.evaluate(run, protocl="full")


def test_verdict_says_when_there_is_no_difference(trained: Trained) -> None:
    own = trained.evaluations["neighbours"]
    popular = trained.evaluations["popular"]
    assert "a is better than b" in verdict({"a": own, "b": popular})
    assert "b is worse than a" in verdict({"b": popular, "a": own})
    assert "a is level with b, the best of the others (95 %" in verdict({"a": own, "b": own})


def test_refitted_model_has_seen_everything(trained: Trained, run: Recommender) -> None:
    split, left_out = trained.stage.split, trained.stage.left_out
    assert len(run.dataset) == len(split.train) + len(split.test) + left_out


def test_recommend_known_user(run: Recommender) -> None:
    found = run.recommend("u0", k=5, explain=True)
    assert found.columns == ["rank", "item", "domain", "title", "score", "because"]
    assert found["rank"].to_list() == [1, 2, 3, 4, 5]
    assert found["score"].is_sorted(descending=True)
    known = set(run.dataset.items.decode(run.dataset.query(np.array([0])).history.indices))
    assert not known & set(found["item"])
    lists = run.recommend([f"u{u}" for u in range(120)], k=3)
    groups = lists.join(run.fitted.items, left_on="item", right_on="key")
    taste = pl.col("user").str.slice(1).cast(pl.Int64) % 4  # the taste group of each user
    assert groups.select((pl.col("group") == pl.format("g{}", taste)).mean()).item() > 0.8
    assert "because you liked" in found["because"][0]
    chinese = run.recommend("u0", k=5, explain=True, language="zh")["because"]
    assert chinese[0].startswith("因为你喜欢「") and chinese[0].endswith("。")


def test_recommend_new_user_by_titles(run: Recommender) -> None:
    titles = run.fitted.items.filter(pl.col("group") == "g1")["title"].to_list()
    liked = [titles[0].upper(), *titles[1:3]]
    found = run.recommend(history=liked, k=3)
    groups = found.join(run.fitted.items, left_on="item", right_on="key")["group"]
    assert set(groups) == {"g1"}
    by_key = run.recommend(history=run.dataset.items.decode(run.items(liked)), k=3)
    assert by_key.equals(found)


def test_recommend_many_users_in_batches(run: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"u{i}" for i in range(10)]
    whole = run.recommend(keys, k=3)
    assert whole["user"].unique(maintain_order=True).to_list() == keys
    monkeypatch.setattr("m6rec.recommender.BATCH", 4)
    assert run.recommend(keys, k=3).equals(whole)
    assert pl.concat(run.export(keys, k=3)).equals(whole)
    alone = run.recommend("u7", k=3)
    assert whole.filter(pl.col("user") == "u7").drop("user").equals(alone)


def test_domain_filter_and_pages(run: Recommender) -> None:
    books = run.recommend("u0", domain="books", k=6)
    assert set(books["domain"]) == {"books"}
    second = run.recommend("u0", domain="books", k=3, offset=3)
    assert second["item"].to_list() == books["item"].to_list()[3:]
    assert second["rank"].to_list() == [4, 5, 6]
    late = run.recommend("u0", filter='year > 2000 and group != "g0"', k=40)
    items = late.join(run.fitted.items, left_on="item", right_on="key")
    assert items["year"].min() > 2000  # type: ignore[operator]
    assert "g0" not in items["group"]


def test_unknown_names_are_explained(run: Recommender) -> None:
    with pytest.raises(QueryError, match='"bookz" is unknown; did you mean "books"'):
        run.recommend("u0", domain="bookz")
    with pytest.raises(QueryError, match="no item has the key or title"):
        run.recommend(history=["Nothing like it"])
    with pytest.raises(QueryError, match='attribute "agee" is unknown; did you mean "age"'):
        run.recommend(attributes={"agee": 30})
    with pytest.raises(QueryError, match='language "fr" is unknown'):
        run.recommend("u0", language="fr")
    with pytest.raises(QueryError, match="either for a known user or"):
        run.recommend("u0", history=["films/i1"])


def test_similar_score_explain(run: Recommender) -> None:
    similar = run.similar("films/i1", domain="books", k=2)
    assert set(similar.join(run.fitted.items, left_on="item", right_on="key")["group"]) == {"g1"}
    scores = run.score(["books/i21", "films/i3"], history=["films/i1"])
    assert scores["item"].to_list() == ["books/i21", "films/i3"]
    (reason,) = run.explain(["books/i21"], history=["films/i1"])
    assert reason.score == pytest.approx(scores["score"][0])
    assert sum(c.value for c in reason.contributions) == pytest.approx(reason.score, rel=1e-4)


def test_frames_in_frames_out(folder: Path, tmp_path: Path) -> None:
    log, items = pl.read_csv(folder / "log.csv"), pl.read_csv(folder / "items.csv")
    run = m6rec.fit(log, items=items, model={"kind": "neighbours", "k": 10}, seed=3)
    from_pandas = m6rec.fit(log.to_pandas(), items=items.to_pandas(), model="neighbours")
    assert from_pandas.recommend("u1", k=5)["item"].len() == 5
    path = m6rec.save(run, tmp_path / "mine")
    again = m6rec.open(path)
    assert again.recommend("u1").equals(run.recommend("u1"))
    assert m6rec.evaluate(again)["ndcg@10"] > 0.2
    with pytest.raises(ConfigError, match="in the TOML"):
        m6rec.fit(folder / "shop.toml", items=items)


def test_a_run_that_was_not_measured_is_measured_as_in_training(folder: Path) -> None:
    """Its λ were learned on a holdout of all events, those of the test among them."""
    parts = '[{kind="neighbours", k=5}, {kind="popular"}, {kind="window"}]'
    for refit in ("true", "false"):
        changes = ['model.kind="blend"', f"model.parts={parts}", f"run.refit={refit}"]
        whole = load(folder / "shop.toml", ["model={}", *changes])
        trained = pipeline.train(whole).evaluations["blend"]
        assert m6rec.evaluate(m6rec.fit(whole, evaluate=False))["ndcg@10"] == trained["ndcg@10"]


def test_given_test_file(folder: Path, trained: Trained, run: Recommender, tmp_path: Path) -> None:
    """Held-out events given as a file count the same as held out by the split."""
    log = pl.read_csv(folder / "log.csv").with_row_index()
    newest = log.filter(pl.col("time") == pl.col("time").max().over("user")).sort("user")
    log.join(newest, on="index", how="anti").drop("index").write_csv(folder / "train.csv")
    newest.drop("index").write_csv(folder / "test.csv")
    experiment = load(folder / "shop.toml", ['data.interactions="train.csv"', 'test="test.csv"'])
    found = pipeline.train(experiment)
    assert found.evaluations["neighbours"]["ndcg@10"] == pytest.approx(
        trained.evaluations["neighbours"]["ndcg@10"]
    )
    saved = artifacts.load(artifacts.save(found.fitted, tmp_path / "run"))
    by_split = found.evaluations["neighbours"]["ndcg@10"]
    assert pipeline.evaluate(saved)["ndcg@10"] == by_split
    log = pl.read_csv(folder / "test.csv")
    stranger = log.head(1).with_columns(user=pl.lit("nobody"))
    pl.concat([log, stranger]).write_csv(folder / "stranger.csv")
    assert pipeline.evaluate(saved, test=folder / "stranger.csv")["ndcg@10"] < by_split
    by_file = pipeline.evaluate(saved, test=folder / "test.csv")
    assert by_file["ndcg@10"] == by_split
    own = {"path": "train.csv", "columns": {"user": "who"}}
    log.rename({"user": "who"}).write_csv(folder / "who.csv")
    table = saved.config | {"data": saved.config["data"] | {"interactions": [own]}}
    renamed = dataclasses.replace(saved, config=table)
    assert pipeline.evaluate(renamed, test=folder / "who.csv")["ndcg@10"] == by_split
    with pytest.raises(
        DataError, match=r'called as in the log of the run: "who", "item" … .*: user'
    ):
        pipeline.evaluate(renamed, test=folder / "test.csv")


def test_linked_twins_are_not_recommended(folder: Path, tmp_path: Path) -> None:
    """The same product under two keys: whoever had one is not shown the other."""
    log = pl.read_csv(folder / "log.csv")
    double = log.filter(pl.col("item") == "i1").with_columns(
        item=pl.lit("again"), domain=pl.lit("books"), time=pl.col("time") + 1
    )
    both = pl.concat([log, double])
    kept, linked = (
        m6rec.fit(both, model="neighbours").recommend(history=["films/i1"], k=50)["item"]
        for both in (log, both)
    )
    assert "books/again" not in linked
    assert set(linked) <= set(kept)


def test_baselines_have_names_of_their_own(folder: Path) -> None:
    kinds = ["{kind='neighbours'}", "{kind='neighbours', by='user'}", "{kind='neighbours', k=5}"]
    baselines = f"evaluate.baselines=[{', '.join([*kinds, kinds[-1]])}]"
    found = pipeline.train(load(folder / "shop.toml", [baselines]))
    assert list(found.evaluations) == [
        "neighbours",  # the model itself
        "neighbours 2",
        "neighbours by=user",
        "neighbours k=5",
        "neighbours 3",
    ]


def test_compare_runs(folder: Path, trained: Trained) -> None:
    other = pipeline.save(load(folder / "shop.toml", ["model={kind='popular'}"]), folder / "runs")
    first, second = trained.fitted.path, other.fitted.path
    assert first is not None and second is not None
    found = comparison.compare_runs([first, second], "ndcg@10")
    lines = {line.slice: line for line in found.differences[second.name]}
    assert lines["all"].difference < 0
    assert lines["all"].a == pytest.approx(other.evaluations["popular"]["ndcg@10"])
    assert {"films", "books"} <= set(lines)
    third = pipeline.save(load(folder / "shop.toml", ["data.clean.core_items=24"]), folder / "runs")
    assert third.fitted.path is not None
    with pytest.raises(RunError, match="other data"):
        comparison.compare_runs([first, third.fitted.path])


def test_tune_finds_and_writes(folder: Path) -> None:
    experiment = load(folder / "shop.toml", ["tune.space={'model.k'={choices=[1, 10]}}"])
    best = tune.tune(experiment, 4)
    assert len(best.trials) == 4
    assert best.score == max(trial["score"] for trial in best.trials)
    tune.write(experiment, best, folder / "shop.toml", folder / "best.toml")
    again = load(folder / "best.toml")
    assert again.model == best.model
    assert again.data == experiment.data
    with pytest.raises(ConfigError, match="is not an option"):
        tune.tune(load(folder / "shop.toml", ["tune.space={'model.kk'={choices=[1]}}"]), 2)


def test_tune_knows_the_parts_of_the_default_model(trained: Trained) -> None:
    parts = default_parts(trained.stage.split.train)
    ranges = tune.space(config.to_table(M6Rec(parts=parts)), {})
    assert {"model.parts.0.dim", "model.parts.1.k", "model.parts.2.reg"} <= set(ranges)
    with pytest.raises(ConfigError, match="no default range"):
        tune.space({"kind": "seeds"}, {})


def test_learned_weights_are_shown(folder: Path, tmp_path: Path) -> None:
    model = "model={kind='blend', parts=[{kind='pct', dim=8}, {kind='popular'}]}"
    trained = pipeline.train(load(folder / "shop.toml", [model]))
    weights, omega, ridge = learned(trained.fitted.model, ["films", "books"])
    assert weights.frame.columns == ["domain", "history", "pct", "popular"]
    for row in weights.frame.iter_rows(named=True):
        assert float(row["pct"]) + float(row["popular"]) == pytest.approx(1, abs=0.011)
    assert omega.frame.columns == ["domain", "from films", "from books", "for"]
    assert omega.frame.row(0)[1] == "–"
    assert ridge.frame["domain"].to_list() == ["films", "books"]
    assert all(float(found) >= 1 for found in ridge.frame["ridge"])
    pct = trained.fitted.model.parts[0]  # type: ignore[attr-defined]
    some = {"omega": np.array([[0, 0.5], [0, 0]]), "warm": np.array([False, True])}
    cold = PctModel(pct.recipe, pct.state() | some, "log", True)
    omega, _ = learned(cold, ["films", "books"])
    assert omega.frame["for"].to_list() == ["only users without history there", "–"]
    assert repr(trained.evaluations["blend"]).startswith("Evaluation(ndcg@10 0.")
    page = report.write(trained, tmp_path).read_text()
    assert "λ: how much each part counts" in page
    assert "A: how far attributes alone tell a taste" in page
    assert "blend is better than popular" in page


def test_configuration_errors_name_the_key(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r'model\.kk is not an option of "neighbours"'):
        load(folder / "shop.toml", ["model.kk=3"])
    with pytest.raises(ConfigError, match=r"run\.thread is not an option.*threads"):
        load(folder / "shop.toml", ["run.thread=3"])
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        pipeline.train(load(folder / "shop.toml", ['data.interactions="nowhere.csv"']))


def test_a_saved_configuration_imports_no_code(run: Recommender) -> None:
    forged = {**run.fitted.config, "evaluate": {"baselines": [{"kind": "evil:Evil"}]}}
    fitted = dataclasses.replace(run.fitted, config=forged)
    with pytest.raises(RunError, match="never imports code"):
        pipeline.evaluate(fitted)


def test_killed_training_leaves_current_valid(folder: Path, trained: Trained) -> None:
    """SIGKILL at many moments of `m6rec train`: CURRENT always names a run that loads."""
    runs = folder / "runs"
    command = [sys.executable, "-m", "m6rec", "train", str(folder / "shop.toml")]
    command += ["--out", str(runs), "--json"]
    for wait in (0.5, 1.3, 1.9, 2.6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
        artifacts.load(artifacts.resolve("current", runs))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    left = [path.name for path in runs.iterdir() if artifacts.DRAFT.fullmatch(path.name)]
    assert left == []
    for path in runs.iterdir():
        if path.is_dir():
            artifacts.load(path)
