"""Hyper-parameter search (optuna) on a holdout inside train; the test part is never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from m6rec import config
from m6rec.data.holdout import holdout
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.splits import Split
from m6rec.errors import ConfigError
from m6rec.evaluation import evaluate
from m6rec.experiment import Experiment, Range
from m6rec.metrics import RATING, parse
from m6rec.models.base import Recipe
from m6rec.models.default import M6Rec, default_parts
from m6rec.pipeline import stage
from m6rec.tracking import Run

# Searched by default: kind → option → range. [tune.space] adds to these or replaces them.
SPACES: dict[str, dict[str, Range]] = {
    "popular": {"half_life": Range(low=1.0, high=1000.0, log=True)},
    "neighbours": {
        "k": Range(low=20, high=400, log=True),
        "shrink": Range(low=0.1, high=300.0, log=True),
    },
    "linear": {"reg": Range(low=5.0, high=5000.0, log=True)},
    "graph": {
        "dim": Range(low=64, high=1024, log=True),
        "low_pass": Range(low=0.0, high=1.0),
    },
    "rp3beta": {"alpha": Range(low=0.3, high=1.2), "beta": Range(low=0.0, high=0.8)},
    "window": {
        "width": Range(low=2, high=40, log=True),
        "decay": Range(low=0.0, high=2.0),
        "backward": Range(low=0.0, high=1.0),
    },
    "pct": {
        "dim": Range(low=16, high=128, log=True),
        "ridge": Range(low=0.1, high=100.0, log=True),
    },
}


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best setting found.

    model: with values = dotted option → value, which scored ``score`` on the holdout.
    trials: every setting that was tried, the experiment as it stands first.
    """

    model: Recipe
    values: dict[str, Any]
    metric: str
    score: float
    trials: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "metric": self.metric,
            "score": self.score,
            "values": self.values,
            "model": config.to_table(self.model),
            "trials": list(self.trials),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What a search tries, and on what.

    split: train and holdout. table: {"model": options}. ranges: dotted option → its range.
    metric: of the holdout; lower: whether less of it is better.
    """

    split: Split
    table: Mapping[str, Any]
    ranges: Mapping[str, Range]
    metric: str
    lower: bool
    run: Run

    @classmethod
    def of(cls, experiment: Experiment, prepared: Prepared | None = None) -> Search:
        """Carve the holdout and settle what is searched; ConfigError where there is nothing."""
        run = experiment.tracking()
        if prepared is None:
            prepared = prepare(experiment.data, Path(experiment.base), run)
        split = holdout(stage(experiment, prepared, run).split.train, run.rng("tune"))
        explicit = all(domain.feedback == "explicit" for domain in split.train.domains)
        metric = experiment.tune.metric or ("rmse" if explicit else "ndcg@10")
        model = experiment.model
        if isinstance(model, M6Rec) and not model.parts:
            model = replace(model, parts=default_parts(split.train, model.deep))
        table = {"model": config.to_table(model)}
        ranges = space(table["model"], experiment.tune.space)
        lower = parse(metric)[0] in RATING
        return cls(split=split, table=table, ranges=ranges, metric=metric, lower=lower, run=run)

    def study(self) -> Any:
        """Return a new optuna study."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            direction="minimize" if self.lower else "maximize",
            sampler=optuna.samplers.TPESampler(seed=self.run.seed),
        )

    def values(self, trial: Any) -> dict[str, Any]:
        """Return dotted option → value for an optuna trial; none for the first, which is the
        experiment as it stands."""
        if not trial.number:
            return {}
        return {name: each.suggest(trial, name) for name, each in self.ranges.items()}

    def score(self, values: Mapping[str, Any]) -> float:
        """Fit with these options and return the metric on the holdout."""
        fitted = with_values(self.table, values).fit(self.split.train, self.run.child("tune"))
        found = evaluate(fitted, self.split, metrics=(self.metric,), by=(), run=self.run)
        return found[self.metric]

    def best(self, tried: Sequence[dict[str, Any]]) -> Best:
        """Return the best of {"values": …, "score": …} in the order of the trials."""
        worst = np.inf if self.lower else -np.inf
        best = (min if self.lower else max)(
            tried, key=lambda each: worst if np.isnan(each["score"]) else each["score"]
        )
        return Best(
            model=with_values(self.table, best["values"]),
            values=best["values"],
            metric=self.metric,
            score=best["score"],
            trials=tuple(tried),
        )


def tune(
    experiment: Experiment,
    trials: int,
    prepared: Prepared | None = None,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> Best:
    """Try settings of the model's options and return the best on a holdout carved from train.

    The first trial is the experiment as it stands. Raises ConfigError where there is nothing
    to search or an option does not exist.
    """
    search = Search.of(experiment, prepared)
    study = search.study()
    tried: list[dict[str, Any]] = []
    for _ in range(trials):
        trial = study.ask()
        values = search.values(trial)
        score = search.score(values)
        study.tell(trial, score)
        tried.append({"values": values, "score": score})
        advance(1)
    return search.best(tried)


def space(model: Mapping[str, Any], more: Mapping[str, Range]) -> dict[str, Range]:
    """Return dotted option → range: the defaults of every part's kind, and [tune.space]."""
    found = dict(_of_parts(model, "model")) | dict(more)
    if not found:
        raise ConfigError(
            f'tune: there is no default range for "{model["kind"]}"; say some, such as '
            '[tune.space] "model.reg" = { low = 1, high = 100, log = true }'
        )
    for name in found:
        if not name.startswith("model."):
            raise ConfigError(f'tune.space."{name}": must name an option of the model')
    return found


def with_values(table: Mapping[str, Any], values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of {"model": table} with dotted options set."""
    assignments = [f"{name}={_toml(value)}" for name, value in values.items()]
    return Recipe.from_table(config.override(table, assignments)["model"])


def write(experiment: Experiment, best: Best, source: Path, target: Path) -> None:
    """Write the experiment of ``source`` with the best values as a TOML that trains them."""
    text = config.dumps(replace(experiment, model=best.model))
    head = f"# Found by `m6rec tune {source.name}`: {best.metric} {best.score:.4f} on a holdout.\n"
    target.write_text(head + text, encoding="utf-8")


def _of_parts(table: Mapping[str, Any], where: str) -> list[tuple[str, Range]]:
    found = [(f"{where}.{n}", r) for n, r in SPACES.get(table.get("kind", ""), {}).items()]
    for key, value in table.items():
        for i, part in enumerate(value if isinstance(value, list) else ()):
            if isinstance(part, Mapping):
                found += _of_parts(part, f"{where}.{key}.{i}")
    return found


def _toml(value: Any) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()
