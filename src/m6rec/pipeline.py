"""One straight page: prepare → split → fit → evaluate → refit on everything → save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from m6rec import artifacts, checkpoint, comparison, config, trackers
from m6rec.arrays import Ids
from m6rec.artifacts import Fitted
from m6rec.data.attributes import Attributes
from m6rec.data.columns import resolve
from m6rec.data.dataset import Dataset
from m6rec.data.delimited import ROW
from m6rec.data.drops import Drops
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.readers import read
from m6rec.data.schema import Columns, Table, Tables
from m6rec.data.splits import Split, SplitConfig, given, make_split, without_repeats
from m6rec.data.twins import Twins, drop_twins, find_twins
from m6rec.errors import DataError
from m6rec.evaluation import evaluate as evaluate_model
from m6rec.experiment import EvaluateConfig, Experiment
from m6rec.models.base import Model, Recipe
from m6rec.pool import HERE, Pool
from m6rec.results import Evaluation
from m6rec.tracking import Run


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
    """Handle twins, split (or read the given test), and fit the features on the train part."""
    prepared, twins = untwinned(experiment, prepared)
    if experiment.test:
        attributes = Attributes.fit(prepared, prepared.dataset)
        known = attributes.attach(prepared.dataset, prepared)
        split = without_repeats(given(known, _answers(experiment, run)))
    else:
        default = SplitConfig(kind="leave-last" if prepared.dataset.ordered else "random")
        bare = make_split(prepared.dataset, experiment.split or default, run.rng("split"))
        attributes = Attributes.fit(prepared, bare.train)
        split = Split(
            train=attributes.attach(bare.train, prepared),
            test=bare.test,
            context=attributes.attach(bare.context, prepared),
        )
    test, left_out = split.test, 0
    if experiment.twins.action == "link" and len(twins):
        linked = split.context.positives @ twins.partners(split.train.n_items)
        keep = np.asarray(linked[test.user, test.item]) == 0
        test, left_out = test.take(keep), int((~keep).sum())
    return Stage(
        prepared=prepared,
        attributes=attributes,
        split=replace(split, test=test),
        twins=twins,
        left_out=left_out,
    )


def untwinned(experiment: Experiment, prepared: Prepared) -> tuple[Prepared, Twins]:
    """Find the twins of the data; drop their events where the TOML says so."""
    twins = find_twins(prepared.dataset, experiment.twins)
    if experiment.twins.action != "drop":
        return prepared, twins
    kept = drop_twins(prepared.dataset, twins, experiment.twins.target)
    return replace(prepared, dataset=kept), twins


def evaluate_on(stage: Stage, model: Model, options: EvaluateConfig, run: Run) -> Evaluation:
    """Evaluate a model that was fitted on the train part of a stage."""
    return evaluate_model(
        model,
        stage.split,
        metrics=options.metrics,
        protocol=options.protocol,
        seeds=options.seeds,
        by=options.by,
        run=run,
    )


def reopened(fitted: Fitted) -> Experiment:
    """Return the experiment of a saved run; RunError where it names code."""
    return config.from_table(Experiment, artifacts.without_code(fitted.config, fitted.path))


def evaluate(
    fitted: Fitted,
    options: EvaluateConfig | None = None,
    *,
    test: Path | None = None,
    bars: bool = False,
    pool: Pool = HERE,
) -> Evaluation:
    """Evaluate a run on the test part of its split, with the options of its TOML by default.

    A run that was fitted on everything has seen the test, so its recipe is first fitted again on
    the train part alone: with the choices that were made there, or, where ``fit`` made them on
    everything, as the experiment gives it. test: a file of newer events instead; the model is
    asked as it is, with all that it knows as history; it is read as the log of the run that has
    its columns. pool: where the work is done, by default here.
    """
    experiment, model = reopened(fitted), fitted.model
    run = experiment.tracking(bars=bars, pool=pool)
    if test is not None:
        experiment = replace(experiment, test=Tables([_as_the_log(test.absolute(), experiment)]))
    ready = stage(experiment, fitted.prepared, run)
    measured = bool(fitted.metrics)  # then choices were made on the train part
    if (experiment.run.refit or not measured) and not experiment.test:
        recipe = model.recipe if measured else experiment.model
        model = recipe.fit(ready.split.train, run.child("train"))  # as in training
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
    evaluations: dict[str, Evaluation] = {}

    def measure(name: str, model: Model) -> None:
        found = evaluations[name] = evaluate_on(ready, model, experiment.evaluate, run)
        for metric in found.metrics:
            run.child("test").scalar(f"{metric}/{name}", found[metric], 0)

    measure(experiment.model.kind, model)
    for baseline in experiment.evaluate.baselines:
        name = _free_name(baseline, evaluations)
        say(f"training {name}")
        rival = baseline.fit(ready.split.train, run.child("baselines").child(name))
        measure(name, rival)
    if experiment.run.refit and not experiment.test:
        say(f"training {experiment.model.kind} on all events")
        chosen = replace(experiment, model=model.recipe)
        fitted = _on_everything(chosen, ready.prepared, ready.twins, run)
    else:
        fitted = _fitted(experiment, ready.prepared, ready.attributes, model, ready.twins)
    result = replace(
        fitted, config=config.to_table(experiment), metrics=metrics_table(evaluations, ready)
    )
    return Trained(fitted=result, evaluations=evaluations, stage=ready)


def fit(
    experiment: Experiment, prepared: Prepared | None = None, *, run: Run | None = None
) -> Fitted:
    """Prepare (unless given) and fit on every event, without an evaluation."""
    run = run or experiment.tracking()
    if prepared is None:
        prepared = prepare(experiment.data, Path(experiment.base), run)
    return _on_everything(experiment, *untwinned(experiment, prepared), run)


def save(
    experiment: Experiment,
    out: Path | None = None,
    *,
    prepared: Prepared | None = None,
    bars: bool = False,
    pool: Pool = HERE,
    say: Callable[[str], None] = lambda text: None,
    extras: Callable[[Trained, Path], None] = lambda trained, folder: None,
) -> Trained:
    """Train and publish the run in ``out`` (by default [run] out), and make it the current one.

    prepared: the data, where it is at hand. pool: where the work is done, by default here.
    extras: writes more files, such as a report, into the run before it is published; if it
    raises, nothing is. Killed at any moment, there is either no new run or a whole one, and the
    same command goes on from checkpoints.
    """
    out = out or Path(experiment.run.out)
    with artifacts.draft(out) as folder:
        table = config.to_table(experiment)
        name = artifacts.run_name(experiment.name, table)
        run = experiment.tracking(bars=bars, log_file=folder / "log.jsonl", pool=pool)
        with trackers.opened(experiment.run.track, folder, name, table) as found:
            run.log(event="start", model=experiment.model.kind)
            run = replace(run, trackers=found, checkpoints=[])
            trained = train(experiment, prepared, run=run, say=say)
        comparison.write(trained.evaluations, folder)
        extras(trained, folder)
        run.log(event="end")
        artifacts.write(trained.fitted, folder)
        path = artifacts.publish(folder, out / name)
    artifacts.set_current(path)
    checkpoint.remove(run.checkpoints or ())
    return replace(trained, fitted=replace(trained.fitted, path=path))


def metrics_table(evaluations: Mapping[str, Evaluation], stage: Stage) -> dict[str, Any]:
    """Return plain data for metrics.json: sizes, and every figure by model and slice."""
    return {
        "train_events": len(stage.split.train),
        "test_events": len(stage.split.test),
        "left_out_twins": stage.left_out,
        "models": {name: found.to_json() for name, found in evaluations.items()},
    }


def _as_the_log(test: Path, experiment: Experiment) -> Table:
    """A file of events, to be read as those logs of the run are whose columns it has."""
    data, bare = experiment.data, Table(path=str(test))
    schema = read(bare, Path(), Drops()).collect_schema()
    names = [name for name in schema if name != ROW]
    logs = data.tables("interactions")
    fits = [log for log in logs if _fits(names, log.columns, data.columns)]
    if not fits and logs:
        wanted = [
            f'"{getattr(logs[0].columns, part) or getattr(data.columns, part) or part}"'
            for part in ("user", "item")
        ]
        raise DataError(
            f"{test}: its columns must be called as in the log of the run: {', '.join(wanted)} … "
            f"(columns: {', '.join(names)})"
        )
    domains = {log.domain for log in fits}
    like = fits[0] if fits else bare
    return replace(
        bare,
        columns=like.columns,
        decimal=like.decimal,
        time_format=like.time_format,
        event=like.event,
        domain=like.domain if len(domains) == 1 else "",
    )


def _fits(names: Sequence[str], own: Columns, general: Columns) -> bool:
    try:
        resolve(names, own, general, "interactions", "")
    except DataError:
        return False
    return True


def _answers(experiment: Experiment, run: Run) -> Dataset:
    """The events of the given test tables, read as the data is."""
    data = experiment.data
    domains = {name: replace(d, interactions=Tables()) for name, d in data.domains.items()}
    clean = replace(data.clean, core_users=0, core_items=0)
    asked = replace(data, interactions=experiment.test, domains=domains, clean=clean)
    return prepare(asked, Path(experiment.base), run).dataset


def _on_everything(experiment: Experiment, prepared: Prepared, twins: Twins, run: Run) -> Fitted:
    attributes = Attributes.fit(prepared, prepared.dataset)
    whole = attributes.attach(prepared.dataset, prepared)
    model = experiment.model.fit(whole, run.child("fit"))
    return _fitted(experiment, prepared, attributes, model, twins)


def _fitted(
    experiment: Experiment,
    prepared: Prepared,
    attributes: Attributes,
    model: Model,
    twins: Twins,
) -> Fitted:
    return Fitted(
        model=model,
        prepared=prepared,
        attributes=attributes,
        twins=_products(twins, experiment, prepared.dataset.n_items),
        config=config.to_table(experiment),
        drops=prepared.drops.to_json(),
    )


def _products(twins: Twins, experiment: Experiment, n_items: int) -> Ids:
    """(n_items,) code of the product where the TOML links twins, -1 without a twin."""
    group = np.full(n_items, -1, np.int32)
    if experiment.twins.action == "link" and len(twins):
        _, code = connected_components(twins.partners(n_items), directed=False)
        paired = np.r_[twins.first, twins.second]
        group[paired] = code[paired]
    return group


def _free_name(recipe: Recipe, taken: Mapping[str, object]) -> str:
    """The kind with the options that say what sort it is, such as "pct transfer=false"; where
    that is taken, with its numbers too."""
    options = config.to_table(recipe)
    kind = str(options.pop("kind"))
    plain = {n: str(v).lower() for n, v in options.items() if not isinstance(v, (dict, list))}
    sorts = {n: v for n, v in plain.items() if isinstance(options[n], (bool, str))}
    names = [" ".join([kind, *(f"{n}={v}" for n, v in of.items())]) for of in (sorts, plain)]
    names += [f"{kind} {i}" for i in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)
