"""Verbs that fit and measure: train, evaluate, compare, tune."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m6rec import artifacts, comparison, pipeline
from m6rec.cli import show
from m6rec.cli.ask import Which
from m6rec.cli.data import Config, Json, Machines, Set, show_drops
from m6rec.errors import ConfigError
from m6rec.experiment import load
from m6rec.learned import learned
from m6rec.metrics import RANKING, parse
from m6rec.pool import HERE, Pool
from m6rec.report import NOT_DOMAINS, evaluation_frame, figure, selection_frame, verdict
from m6rec.report import write as write_report
from m6rec.results import Difference, Evaluation

TRAIN = show.examples(
    "m6rec train shop.toml",
    "m6rec train shop.toml --set model.kind=linear --set model.reg=200 --out /srv/runs",
    "m6rec train shop.toml --track tensorboard,wandb",
    "m6rec train shop.toml --cluster ray://host:10001",
)
EVALUATE = show.examples(
    "m6rec evaluate current",
    "m6rec evaluate current --protocol sampled:999 --seeds 5 --by domain,activity,cold",
    "m6rec evaluate current --test december.csv --json",
)
COMPARE = show.examples("m6rec compare runs/20261124-… runs/20261125-… --metric ndcg@10")
TUNE = show.examples(
    "m6rec tune shop.toml --trials 50",
    "m6rec tune shop.toml --set tune.metric=recall@20",
    "m6rec tune shop.toml --trials 200 --cluster auto",
)


def train(
    config: Config,
    set: Set = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where runs are written; by default [run] out."),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            "--track", metavar="tensorboard,wandb", help="Show scalars there; as [run] track."
        ),
    ] = None,
    cluster: Machines = None,
    json: Json = False,
) -> None:
    """Fit and evaluate a model, publish the run.

    Reads, cleans and splits the data, fits, evaluates beside the baselines, fits again on all
    events, and writes a run with a report.
    """
    names = _words(track)
    chosen = [] if names is None else [f"run.track={list(names)}"]
    experiment = load(config, [*(set or []), *chosen])
    pool = joined(cluster)
    if json:
        trained = pipeline.save(experiment, out, pool=pool, extras=_report)
        show.as_json({"run": str(trained.fitted.path), **trained.fitted.metrics})
        return
    say = show.teller()
    trained = pipeline.save(experiment, out, bars=show.bars(), pool=pool, say=say, extras=_report)
    say("done")
    show_drops(trained.stage.prepared.drops.rows())
    show_selection(trained)
    show_evaluations(trained.evaluations)
    show_learned(trained)
    show.heading("Run")
    path = trained.fitted.path
    if path is not None:
        show.whole(f'{path}  (now also called "{artifacts.current_name(path)}")')


def evaluate(
    run: Which,
    test: Annotated[
        Path | None,
        typer.Option(
            "--test", metavar="FILE", help="Test events of your own instead of the split."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", metavar="full|sampled:N", help="Rank all items, or N drawn ones."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, metavar="N", help="Draws, if sampled.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="domain,activity,cold", help="Slices to show.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="ndcg@10,…", help="What to measure.")
    ] = None,
    cluster: Machines = None,
    json: Json = False,
) -> None:
    """Measure a run on held-out events.

    These are the test part of its split, or events of your own. A run that was fitted on
    everything is first fitted again without them.
    """
    fitted = artifacts.load(artifacts.resolve(run))
    options = pipeline.reopened(fitted).evaluate
    changes: dict[str, Any] = {"protocol": protocol, "seeds": seeds}
    changes |= {"by": _words(by), "metrics": _words(metrics)}
    if protocol not in (None, "full") and metrics is None:  # the run's own, as far as they apply
        changes["metrics"] = tuple(m for m in options.metrics if parse(m)[0] in RANKING)
    options = replace(options, **{k: v for k, v in changes.items() if v is not None})
    found = pipeline.evaluate(
        fitted, options, test=test, bars=show.bars(json), pool=joined(cluster)
    )
    if json:
        show.as_json(found.to_json())
    else:
        show_slices(found, fitted.model.recipe.kind)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="The first is the base.")],
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="METRIC", help="Only this metric.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare runs, with paired significance."""
    if len(runs) < 2:
        raise ConfigError("compare: name at least two runs")
    paths = [artifacts.resolve(run) for run in runs]
    found = comparison.compare_runs(paths, metric)
    if json:
        differences = {
            name: [each._asdict() for each in lines] for name, lines in found.differences.items()
        }
        show.as_json({"base": paths[0].name, "differences": differences})
        return
    for name, lines in found.differences.items():
        show.heading(f"{name} against {paths[0].name}")
        told = [d for d in lines if not math.isnan(d.difference)]  # a domain has not every metric
        for each in dict.fromkeys(d.metric for d in told):
            show.table(
                (each, "base", "this", "difference", "95 % interval", "p (Holm)"),
                [_difference(d) for d in told if d.metric == each],
            )


def tune(
    config: Config,
    trials: Annotated[
        int, typer.Option("--trials", min=1, metavar="N", help="How many settings.")
    ] = 20,
    set: Set = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write; by default NAME.best.toml."),
    ] = None,
    cluster: Machines = None,
    json: Json = False,
) -> None:
    """Search options, write the best TOML.

    The search uses a holdout inside train; the test part is never seen. On a cluster several
    trials are done at once, and those that are done are kept beside the best TOML, so that a
    search that was killed, or is given more trials, goes on.
    """
    from m6rec import tune as search
    from m6rec.tracking import Run

    experiment = load(config, set or [])
    target = out or config.with_suffix(".best.toml")
    run = Run(bars=show.bars(json))
    with run.progress("tune", trials) as advance:
        if cluster is None:
            best = search.tune(experiment, trials, advance=advance)
        else:
            from m6rec.cluster.tune import tune as search_there

            journal = target.with_suffix(".trials.jsonl")
            best = search_there(cluster, experiment, trials, journal, advance=advance)
    search.write(experiment, best, config, target)
    if json:
        show.as_json({"out": str(target), **best.to_json()})
        return
    show.heading(f"Best of {trials} by {best.metric} on a holdout inside train")
    if best.values:
        rows = [(name, value) for name, value in best.values.items()]
        show.table(("option", "value"), [*rows, (best.metric, best.score)])
    else:
        show.line(f"The options as they stand are the best: {best.metric} {best.score:.4f}.")
    show.whole(f"{target}: written; m6rec train {shlex.quote(str(target))}")


def joined(cluster: str | None) -> Pool:
    """Return the pool of the cluster at an address, or of this process where there is none."""
    if cluster is None:
        return HERE
    from m6rec.cluster.nodes import RayPool, connect

    connect(cluster)
    return RayPool()


def show_evaluations(found: Mapping[str, Evaluation]) -> None:
    """Print models by metrics with 95 % intervals, and the first metric by domain."""
    first = next(iter(found.values()))
    show.heading(f"How good: {len(first.slices['all']):,} test rows, protocol {first.protocol}")
    show.frame(evaluation_frame(found))
    if sentence := verdict(found):
        show.line(sentence)
    domains = [n for n in first.slices if n != "all" and not n.startswith(NOT_DOMAINS)]
    if domains:
        metric = first.metrics[0]
        tables = {name: each.to_json()["slices"] for name, each in found.items()}
        rows = [
            (name, *(figure(table[d][metric]) if d in table else "–" for d in domains))
            for name, table in tables.items()
        ]
        show.heading(f"{metric} by domain")
        show.table(("model", *domains), rows)


def show_selection(trained: pipeline.Trained) -> None:
    """Print what feature selection measured and kept, if it was asked for."""
    if figures := trained.fitted.attributes.figures:
        kept = sum(figure.kept for figure in figures)
        show.heading(f"Features: {kept} of {len(figures)} columns kept")
        show.caption("information: with the target, in nats, on the events that the model knows.")
        show.frame(selection_frame(figures))


def show_learned(trained: pipeline.Trained) -> None:
    """Print the weights that the model learned."""
    names = [domain.name for domain in trained.stage.prepared.dataset.domains]
    for found in learned(trained.fitted.model, names):
        show.heading(found.heading)
        show.caption(found.text)
        show.frame(found.frame)


def show_slices(found: Evaluation, name: str) -> None:
    """Print the slices of one evaluation."""
    table = found.to_json()
    rows = [
        (part, line["rows"], *(figure(line[m]) for m in found.metrics))
        for part, line in table["slices"].items()
    ]
    show.heading(f"{name}, protocol {found.protocol}")
    show.table(("slice", "rows", *found.metrics), rows)
    if found.dropped:
        show.note(f"{found.dropped:,} test events could not be shown (in the history, or hidden)")


def _difference(d: Difference) -> tuple[str | float, ...]:
    few = math.isnan(d.p)
    interval = "too few users" if few else f"{d.low:+.4f} … {d.high:+.4f}"
    p = "–" if few else f"{d.p_holm:.3f}"
    return d.slice, d.b, d.a, f"{d.difference:+.4f}", interval, p


def _report(trained: pipeline.Trained, folder: Path) -> None:
    write_report(trained, folder)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(w.strip() for w in text.split(",") if w.strip())
