"""Runs compared by the rows that they keep: only where they were asked the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from m6rec import comparison, pipeline
from m6rec.errors import ConfigError
from m6rec.experiment import load
from m6rec.pipeline import Trained
from shop import write_shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


def saved(folder: Path, *options: str, old: bool = False) -> Path:
    """Train and save a run. old: as it was before runs kept what was asked."""

    def forget(trained: Trained, draft: Path) -> None:
        if old:
            rows = pl.read_parquet(draft / comparison.FILE)
            rows.drop("protocol", "asked").write_parquet(draft / comparison.FILE)

    experiment = load(folder / "shop.toml", ["evaluate.baselines=[]", *options])
    path = pipeline.save(experiment, folder / "runs", extras=forget).fitted.path
    assert path is not None
    return path


def test_runs_are_compared_where_they_were_asked_the_same(folder: Path) -> None:
    base = saved(folder)
    other = saved(folder, "model={kind='popular'}", "evaluate.metrics=['ndcg@10']", "seed=9")
    found = comparison.compare_runs([base, other])
    assert found.evaluations[base.name].protocol == "full"
    assert found.differences[other.name][0].difference < 0
    for option in ('evaluate.protocol="sampled:9"', "split={kind='leave-last', n=2}"):
        with pytest.raises(ConfigError, match="did not ask the same"):
            comparison.compare_runs([base, saved(folder, option)])


def test_older_runs_are_compared_as_before(folder: Path) -> None:
    old, new = saved(folder, old=True), saved(folder)
    for runs in ([old, new], [new, old], [old, saved(folder, old=True)]):
        lines = comparison.compare_runs(runs, "ndcg@10").differences[runs[1].name]
        assert lines[0].difference == 0
