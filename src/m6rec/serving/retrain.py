"""Training on what the store holds now, published only if it is not worse than what serves."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from m6rec import pipeline
from m6rec.arrays import Ids, Scores, State
from m6rec.artifacts import Fitted
from m6rec.data.arrivals import typed
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.features import Features
from m6rec.data.frames import lazy
from m6rec.data.prepare import Prepared, encode
from m6rec.data.query import Query
from m6rec.data.schema import Columns, DataConfig, DomainOptions, Names, Role, Table, Tables
from m6rec.data.splits import SplitConfig
from m6rec.errors import M6RecError
from m6rec.models.base import Model
from m6rec.recommender import Recommender
from m6rec.serving.live import MICRO
from m6rec.serving.schedule import alone
from m6rec.store import Store
from m6rec.tracking import Run

log = logging.getLogger("m6rec")

LEAST = 200  # new events that a judgement needs
HELD = 0.2  # share of the new events, the newest, on which it is made
FILE = "guard.json"
LOG = Columns(
    user="user", item="item", value="value", time="time", event="type", domain="domain"
)  # fmt: skip
ITEMS = Columns(item="item", domain="domain", hidden="hidden", text=Names(("title", "text")))


class Worse(M6RecError):
    """A retrained model is worse than the one that serves, and was not published."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How a retrained model stands beside the one that serves, on events neither has seen.

    new, old: means of the metric. rows: users and domains of the comparison, 0 = the new events
    were too few, or of too few users, to judge by.
    """

    metric: str = ""
    new: float | None = None
    old: float | None = None
    rows: int = 0


def retrain(
    run: Path,
    store: Store,
    *,
    margin: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Path, Judgement]:
    """Train the recipe of ``run`` on the events of the store; publish it as the current run.

    The newest HELD of the events that the old run has not seen are held out; the retrained model
    and the old one are asked about them with the same histories. Raises Worse, and publishes
    nothing, where the new one's mean is below the old one's by more than ``margin`` of it (by
    default what the run's TOML says). Then the recipe is fitted to all events. Raises RunError
    while another retraining is going on.
    """
    with alone(run.parent, store):
        old = Recommender.open(run)
        experiment = pipeline.reopened(old.fitted)
        prepared = from_store(store, experiment.data, old.fitted)
        data = prepared.dataset
        fresh = np.sort(data.time[data.time > old.dataset.now])
        judged = len(fresh) >= LEAST
        experiment = replace(experiment, split=None)
        if judged:
            border = int(fresh[int(len(fresh) * (1 - HELD))])
            time = datetime.fromtimestamp(border, UTC).isoformat()
            experiment = replace(experiment, split=SplitConfig(kind="temporal", time=time))
        experiment = replace(
            experiment, test=Tables(), evaluate=replace(experiment.evaluate, baselines=())
        )
        allowed = experiment.serve.retrain.margin if margin is None else margin
        found: list[Judgement] = []

        def guard(trained: pipeline.Trained, folder: Path) -> None:
            judgement = Judgement()
            if judged:
                judgement = judge(trained, old, experiment.evaluate, allowed)
            found.append(judgement)
            (folder / FILE).write_text(json.dumps(vars(judgement)) + "\n")

        trained = pipeline.save(experiment, run.parent, prepared=prepared, say=say, extras=guard)
        assert trained.fitted.path is not None
        return trained.fitted.path, found[0]


def judge(trained: pipeline.Trained, old: Recommender, options: Any, margin: float) -> Judgement:
    """Compare on the test part of the new data's split; raises Worse beyond the margin."""
    new = next(iter(trained.evaluations.values()))
    metric = new.metrics[0]
    asked = Translated(old, trained.stage.split.train)
    before = pipeline.evaluate_on(trained.stage, asked, options, Run())
    lower = metric in ("rmse", "mae")
    now, then = new[metric], before[metric]
    if np.isnan(now) or np.isnan(then):
        return Judgement()
    if (then - now if not lower else now - then) > margin * abs(then):
        raise Worse(
            f"not published: {metric} would be {now:.4f}, and is {then:.4f} with the run that "
            f"serves, on the newest events of the store (margin {margin:.0%})"
        )
    return Judgement(metric=metric, new=now, old=then, rows=len(new.slices["all"]))


def from_store(store: Store, config: DataConfig, before: Fitted) -> Prepared:
    """Prepare the store's events, users and items as the files of ``config`` were: the same
    event types, domains, cleaning and features, and attributes of the types of ``before``. Keys
    in the store are persons' and "domain/key" already, so there is nothing to link."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.parquet") for name in ("events", "items", "users")}
        store.export_events(files["events"])
        store.export_items(files["items"])
        store.export_users(files["users"])
        known = before.prepared
        items = _described(files["items"], known.items, before.attributes.items)
        items = items.with_columns(_split("key")).drop("key")
        frames: dict[Role, tuple[Table, Any]] = {
            "interactions": (
                Table(path="events", columns=LOG, ordered=known.dataset.ordered),
                _events(files["events"], known),
            ),
            "items": (Table(path="items", columns=ITEMS), items),
            "users": (
                Table(path="users", columns=Columns(user="key")),
                _described(files["users"], known.users, before.attributes.users).drop(
                    "comment", strict=False
                ),
            ),
        }
        names = items["domain"].unique(maintain_order=True).to_list()
        declared = [name for name in config.domains if name in names]
        domains = {
            name: DomainOptions(
                feedback=config.domain(name).feedback, people=config.domain(name).people
            )
            for name in dict.fromkeys([*declared, *sorted(names)])
        }
        options = replace(
            config, interactions=Tables(), items=Tables(), users=Tables(), links=Tables(),
            columns=Columns(), domains=domains, domain_from=None, tz="UTC",
        )  # fmt: skip
        loaded: dict[Role, Any] = {
            role: [(table, lazy(frame, role))] for role, (table, frame) in frames.items()
        }
        return encode(options, loaded, Drops(), Run())


class Translated(Model):
    """An older run's model, asked in the codes of newer data; of items that it does not know it
    says nothing."""

    def __init__(self, old: Recommender, new: Dataset) -> None:
        self.model, self.old = old.model, old.dataset
        self.recipe, self.n_items = old.model.recipe, new.n_items
        self.item: Ids = self.old.items.encode(new.items.keys)
        self.user: Ids = self.old.users.encode(new.users.keys)
        known = {event.name: code for code, event in enumerate(self.old.events)}
        self.event = np.array([known.get(event.name, 0) for event in new.events], np.int16)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = self.item if items is None else self.item[items]
        scores = self.model.score(self._translated(query), np.maximum(codes, 0))
        return np.where(codes >= 0, scores, np.float32(np.nan))

    def state(self) -> State:
        return self.model.state()

    def _translated(self, query: Query) -> Query:
        history = query.history.tocoo()
        row, column = history.coords
        known = self.item[column] >= 0
        place = row[known], self.item[column[known]]
        shape = (len(query), self.old.n_items)
        sequence = np.where(query.sequence >= 0, self.item[query.sequence], -1)
        order = np.argsort(sequence >= 0, axis=1, kind="stable")  # unknown ones to the left
        sequence, times, event = (
            np.take_along_axis(column, order, axis=1)
            for column in (sequence, query.times, self.event[query.event])
        )
        user = np.where(query.user >= 0, self.user[query.user], -1)
        there = (user >= 0)[:, None]
        return self.old.described(
            Query(
                user=user,
                history=csr_array((history.data[known], place), shape=shape),
                sequence=sequence,
                times=np.where(sequence >= 0, times, -1),
                event=np.where(sequence >= 0, event, np.int16(-1)),
                now=query.now,
                features={
                    name: np.where(there, block[np.maximum(user, 0)], 0)
                    for name, block in self.old.user_attributes.items()
                },
                text=query.text,
            )
        )


def _events(file: Path, before: Prepared) -> pl.LazyFrame:
    time = pl.when(pl.col("time") >= 0).then(pl.col("time") // MICRO)
    rated = [d.name for d in before.dataset.domains if d.feedback == "explicit"]
    seen = (pl.col("value") <= 0) & ~pl.col("domain").is_in(rated)  # and nothing else
    split = pl.scan_parquet(file).with_columns(time.alias("time"), *_split("item"))
    return split.filter(seen.fill_null(False).not_())


def _described(file: Path, before: pl.DataFrame, features: Features) -> pl.DataFrame:
    """Users or items, each attribute a column; those that training knew in the types they had, read
    as the service reads them, and empty where a value does not fit."""
    frame = pl.read_parquet(file)
    told = [json.loads(text) for text in frame["attributes"]]
    taken = [name for name in ("attributes", "time", "categories", "comment") if name in frame]
    own = frame.drop(taken)
    names = [n for n in dict.fromkeys(name for row in told for name in row) if n not in own.columns]
    columns = [
        _column(name, [row.get(name) for row in told], before.schema, features.separators)
        for name in names
    ]
    return pl.concat([own, pl.DataFrame(columns)], how="horizontal") if columns else own


def _column(
    name: str, values: list[Any], types: Mapping[str, pl.DataType], separators: Mapping[str, str]
) -> pl.Series:
    kind = types.get(name)
    if kind is None:
        plain = [
            v if isinstance(v, (str, int, float, list, type(None))) else str(v) for v in values
        ]
        try:
            return pl.Series(name, plain)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            return pl.Series(name, [None if v is None else str(v) for v in plain])
    if kind.is_integer() and any(isinstance(v, float) and v % 1 for v in values):
        kind = pl.Float64()
    separator = separators.get(name, "|")
    try:
        column = typed(name, values, kind, separator)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        column = typed(name, [v if _fits(v, kind) else None for v in values], kind, separator)
    if lost := column.null_count() - sum(v is None for v in values):
        log.warning("%s: %d values do not fit and are left empty", name, lost)
    return column


def _fits(value: Any, kind: pl.DataType) -> bool:
    try:
        typed("", [value], kind)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return False
    return True


def _split(key: str) -> tuple[pl.Expr, pl.Expr]:
    """Domain and bare key of "domain/key"."""
    parts = pl.col(key).str.splitn("/", 2).struct
    return parts.field("field_0").alias("domain"), parts.field("field_1").alias("item")
