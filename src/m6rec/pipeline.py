"""One straight page: prepare → split → fit → evaluate → refit on everything → save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse.csgraph import connected_components

from m6rec import artifacts, config
from m6rec.arrays import Ids
from m6rec.artifacts import Fitted
from m6rec.data.attributes import Attributes
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.data.splits import Split, SplitConfig, make_split
from m6rec.data.twins import Twins, TwinsConfig, drop_twins, find_twins
from m6rec.evaluate import SLICES, Evaluation
from m6rec.evaluate import evaluate as evaluate_model
from m6rec.models.base import Model, Recipe
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The ``[evaluate]`` table: how the model is measured on the test part of the split.

    metrics: such as "ndcg@10"; by default some that fit the feedback. protocol: "full", or
    "sampled:N" with ``seeds`` draws. by: slices. baselines: models to compare with.
    """

    metrics: tuple[str, ...] = ()
    protocol: str = "full"
    seeds: int = 1
    by: tuple[str, ...] = SLICES
    baselines: tuple[Recipe, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The ``[run]`` table.

    out: where runs are written. refit: after the evaluation, fit on all events, the test part
    too, with every choice fixed. threads: None = all cores.
    """

    out: str = "runs"
    refit: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads = {self.threads}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole TOML file.

    name: stands in the name of the run. base: folder that relative data paths start from; by
    default the folder of the TOML. split: how the test is held out; by default the newest event
    of each user, or a random fifth where the data has no order.
    """

    name: str = "run"
    seed: int = 0
    base: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    twins: TwinsConfig = field(default_factory=TwinsConfig)
    split: SplitConfig | None = None
    model: Recipe = field(default_factory=lambda: Recipe.from_table({"kind": "popular"}))
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()

    def tracking(self, *, bars: bool = False, log_file: Path | None = None) -> Run:
        """Return the Run of this experiment."""
        run = Run(seed=self.seed, bars=bars, log_file=log_file)
        return run if self.run.threads is None else replace(run, threads=self.run.threads)


def load(path: str | Path, assignments: Sequence[str] = ()) -> Experiment:
    """Read an experiment; ``assignments`` such as "model.reg=0.1" override the file.

    Raises ConfigError that names the key, the value and the fix.
    """
    table = config.override(config.read_toml(path), assignments)
    table["base"] = str((Path(path).parent / table.get("base", "")).absolute())
    return config.from_table(Experiment, table)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Prepared data, split for evaluation, with the twins found and feature blocks attached.

    left_out: test events that are a twin of something in the user's history.
    """

    prepared: Prepared
    attributes: Attributes
    split: Split
    twins: Twins
    left_out: int = 0


def stage(experiment: Experiment, prepared: Prepared, run: Run) -> Stage:
    """Handle twins, split, and fit the features on the train part."""
    twins = find_twins(prepared.dataset, experiment.twins)
    if experiment.twins.action == "drop":
        kept = drop_twins(prepared.dataset, twins, experiment.twins.target)
        prepared = replace(prepared, dataset=kept)
    how = experiment.split or SplitConfig(
        kind="leave-last" if prepared.dataset.ordered else "random"
    )
    split, left_out = make_split(prepared.dataset, how, run.rng("split")), 0
    if experiment.twins.action == "link" and len(twins):
        linked = split.context.positives @ twins.partners(split.train.n_items)
        keep = np.asarray(linked[split.test.user, split.test.item]).ravel() == 0
        left_out = int((~keep).sum())
        split = replace(split, test=split.test.take(keep))
    attributes = Attributes.fit(prepared, split.train)
    split = Split(
        train=attributes.attach(split.train, prepared),
        test=split.test,
        context=attributes.attach(split.context, prepared),
    )
    return Stage(
        prepared=prepared, attributes=attributes, split=split, twins=twins, left_out=left_out
    )


def evaluate_on(
    stage: Stage, model: Model, options: EvaluateConfig, run: Run, by: Sequence[str] | None = None
) -> Evaluation:
    """Evaluate a model that was fitted on the train part of a stage."""
    return evaluate_model(
        model,
        stage.split,
        metrics=options.metrics,
        protocol=options.protocol,
        seeds=options.seeds,
        by=options.by if by is None else by,
        run=run,
    )


def reopened(fitted: Fitted) -> tuple[Experiment, Stage]:
    """Return the experiment and the stage, split as it was in training, of a saved run.

    Raises RunError where the run names code.
    """
    table = artifacts.without_code(fitted.config, fitted.path)
    experiment = config.from_table(Experiment, table)
    return experiment, stage(experiment, fitted.prepared, experiment.tracking())


def evaluate(
    fitted: Fitted, options: EvaluateConfig | None = None, *, bars: bool = False
) -> Evaluation:
    """Evaluate a run on the test part of its split, with the options of its TOML by default.

    A run that was refitted on everything has seen the test, so its recipe, choices fixed, is
    first fitted again on the train part alone.
    """
    experiment, ready = reopened(fitted)
    run, model = experiment.tracking(bars=bars), fitted.model
    if experiment.run.refit:
        model = model.recipe.fit(ready.split.train, run.child("evaluate"))
    return evaluate_on(ready, model, options or experiment.evaluate, run)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What training gives. evaluations: by name, the model first, then the baselines."""

    fitted: Fitted
    evaluations: Mapping[str, Evaluation]
    stage: Stage


def train(
    experiment: Experiment,
    prepared: Prepared | None = None,
    *,
    run: Run | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Prepare (unless given), split, fit, evaluate beside the baselines, and refit.

    say: is told what happens, step by step.
    """
    run = run or experiment.tracking()
    if prepared is None:
        say("reading")
        prepared = prepare(experiment.data, Path(experiment.base), run)
    ready = stage(experiment, prepared, run)
    say(f"training {experiment.model.kind}")
    model = experiment.model.fit(ready.split.train, run.child("train"))
    say("evaluating")
    evaluations = {experiment.model.kind: evaluate_on(ready, model, experiment.evaluate, run)}
    for baseline in experiment.evaluate.baselines:
        say(f"training {baseline.kind}")
        name = _free_name(baseline, evaluations)
        rival = baseline.fit(ready.split.train, run.child("baselines").child(name))
        evaluations[name] = evaluate_on(ready, rival, experiment.evaluate, run)
    attributes, data = ready.attributes, ready.prepared.dataset
    if experiment.run.refit:
        say(f"training {experiment.model.kind} on all events")
        attributes = Attributes.fit(ready.prepared, data)
        model = model.recipe.fit(attributes.attach(data, ready.prepared), run.child("refit"))
    result = Fitted(
        model=model,
        prepared=ready.prepared,
        attributes=attributes,
        twins=_products(ready.twins, experiment, data.n_items),
        config=config.to_table(experiment),
        metrics=metrics_table(evaluations, ready),
        drops=ready.prepared.drops.to_json(),
    )
    return Trained(fitted=result, evaluations=evaluations, stage=ready)


def save(
    experiment: Experiment,
    out: Path | None = None,
    *,
    bars: bool = False,
    say: Callable[[str], None] = lambda text: None,
    extras: Callable[[Trained, Path], None] = lambda trained, folder: None,
) -> Trained:
    """Train and publish the run in ``out`` (by default [run] out), and make it the current one.

    extras: writes more files, such as a report, into the run before it is published. Killed at
    any moment, there is either no new run or a whole one.
    """
    out = out or Path(experiment.run.out)
    with artifacts.draft(out) as folder:
        run = experiment.tracking(bars=bars, log_file=folder / "log.jsonl")
        run.log(event="start", model=experiment.model.kind)
        trained = train(experiment, run=run, say=say)
        rows_frame(trained).write_parquet(folder / "evaluation.parquet")
        extras(trained, folder)
        run.log(event="end")
        artifacts.write(trained.fitted, folder)
        name = artifacts.run_name(experiment.name, trained.fitted.config)
        path = artifacts.publish(folder, out / name)
    artifacts.set_current(path)
    return replace(trained, fitted=replace(trained.fitted, path=path))


def metrics_table(evaluations: Mapping[str, Evaluation], stage: Stage) -> dict[str, Any]:
    """Return plain data for metrics.json: sizes, and by model and slice the means."""
    split = stage.split
    return {
        "train_events": len(split.train),
        "test_events": len(split.test),
        "left_out_twins": stage.left_out,
        "models": {
            name: {
                part: {"rows": len(rows), **{m: rows.mean(m) for m in found.metrics}}
                for part, rows in found.slices.items()
            }
            for name, found in evaluations.items()
        },
    }


def rows_frame(trained: Trained) -> pl.DataFrame:
    """Return one row per model, test user and domain, with its metrics, for later comparison."""
    data = trained.stage.split.train
    domains = np.array([domain.name for domain in data.domains])
    frames = []
    for name, found in trained.evaluations.items():
        rows = found.slices["all"]
        frames.append(
            pl.DataFrame(
                {
                    "model": pl.Series([name] * len(rows), dtype=pl.String),
                    "user": data.users.keys.gather(rows.user),
                    "domain": domains[rows.domain],
                    "activity": rows.activity,
                    "pairs": rows.pairs,
                    **rows.values,
                }
            )
        )
    return pl.concat(frames)


def _products(twins: Twins, experiment: Experiment, n_items: int) -> Ids:
    """(n_items,) code of the product where the TOML links twins, -1 without a twin."""
    group = np.full(n_items, -1, np.int32)
    if experiment.twins.action == "link" and len(twins):
        _, code = connected_components(twins.partners(n_items), directed=False)
        paired = np.r_[twins.first, twins.second]
        group[paired] = code[paired]
    return group


def _free_name(recipe: Recipe, taken: Mapping[str, object]) -> str:
    """The kind, with a number where several models of that kind are compared."""
    names = (recipe.kind, *(f"{recipe.kind} {i}" for i in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)
