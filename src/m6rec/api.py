"""The verbs in Python: load, fit, evaluate, recommend, explain, save, open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from m6rec import config, experiment, pipeline
from m6rec.data.frames import from_frames
from m6rec.data.prepare import Prepared
from m6rec.data.splits import SplitConfig
from m6rec.errors import ConfigError
from m6rec.experiment import EvaluateConfig, Experiment
from m6rec.explanation import Explanation
from m6rec.models.base import Recipe
from m6rec.recommender import Recommender
from m6rec.results import Evaluation


def load(path: str | Path, set: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a TOML file; ``set`` such as ["model.reg=0.1"] overrides it."""
    return experiment.load(path, set)


def fit(
    data: Any,
    items: Any = None,
    users: Any = None,
    links: Any = None,
    *,
    model: str | Mapping[str, Any] | Recipe | None = None,
    split: Mapping[str, Any] | SplitConfig | None = None,
    evaluate: bool | None = None,
    seed: int | None = None,
    bars: bool = False,
    **options: Any,
) -> Recommender:
    """Fit a model and return what answers requests.

    data: an Experiment, the path of a TOML file, or a polars or pandas frame of interactions,
    with frames of items, users and links beside it. model: a kind such as "pct", a table
    {"kind": …}, or a recipe. split: how the test is held out. evaluate: measure on that test
    before the fit on all events; by default only for an Experiment or a TOML. options: entries
    of the ``[data]`` table for frames, such as ``columns={"user": "buyer"}``.
    Raises ConfigError or DataError in one sentence.
    """
    changes: dict[str, Any] = {}
    if model is not None:
        table = {"kind": model} if isinstance(model, str) else model
        changes["model"] = config.from_table(Experiment, {"model": table}).model
    if split is not None:
        wrapped = split if isinstance(split, SplitConfig) else dict(split)
        changes["split"] = config.from_table(Experiment, {"split": wrapped}).split
    if seed is not None:
        changes["seed"] = seed
    prepared: Prepared | None = None
    if isinstance(data, (str, Path, Experiment)):
        if options or any(frame is not None for frame in (items, users, links)):
            raise ConfigError("fit: say items, users and options in the TOML, or pass data frames")
        whole = data if isinstance(data, Experiment) else load(data)
        evaluate = True if evaluate is None else evaluate
    else:
        prepared = from_frames(data, items, users, links, **options)
        whole = Experiment(data=prepared.config)
    whole = replace(whole, **changes)
    run = whole.tracking(bars=bars)
    if evaluate:
        return Recommender(pipeline.train(whole, prepared, run=run).fitted)
    return Recommender(pipeline.fit(whole, prepared, run=run))


def evaluate(
    run: Recommender, *, test: str | Path | None = None, bars: bool = False, **options: Any
) -> Evaluation:
    """Evaluate a run on the test part of its split, or on a file of newer events.

    options: entries of ``[evaluate]``, such as ``metrics=["ndcg@20"], protocol="sampled:999"``.
    """
    chosen = pipeline.reopened(run.fitted).evaluate
    if options:
        chosen = config.from_table(EvaluateConfig, config.to_table(chosen) | options, "evaluate")
    return pipeline.evaluate(run.fitted, chosen, test=Path(test) if test else None, bars=bars)


def recommend(
    run: Recommender, user: str | Sequence[str] | None = None, **options: Any
) -> pl.DataFrame:
    """Return the best items for a user or a history; see ``Recommender.recommend``."""
    return run.recommend(user, **options)


def explain(
    run: Recommender, items: Sequence[str], user: str | None = None, **options: Any
) -> list[Explanation]:
    """Return why each of the items has its score; see ``Recommender.explain``."""
    return run.explain(items, user, **options)


def save(run: Recommender, path: str | Path) -> Path:
    """Save as a new run directory, whole or not at all; returns it."""
    return run.save(path)


def open(path: str | Path, recipe: Recipe | None = None) -> Recommender:
    """Open a run directory, or "current"; recipe: of a model of your own."""
    return Recommender.open(path, recipe)
