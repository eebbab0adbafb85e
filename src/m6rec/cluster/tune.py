"""The search of options with Ray Tune: several trials at once, each finished one kept on disk."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.search import Searcher

from m6rec import config
from m6rec.checkpoint import hash_of
from m6rec.cluster.nodes import own
from m6rec.cluster.shards import join, write_text
from m6rec.compiled import threads
from m6rec.data.prepare import Prepared
from m6rec.errors import ConfigError, M6RecError
from m6rec.experiment import Experiment
from m6rec.tune import Best, Search

EVENTS = ("user", "item", "weight", "time", "event")
TRIES = 3  # times that a trial is begun again after its process or machine was lost


def tune(
    address: str,
    experiment: Experiment,
    trials: int,
    journal: Path,
    prepared: Prepared | None = None,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> Best:
    """Search as ``m6rec.tune.tune`` does, with as many trials at once as the cluster has CPUs
    ([run] threads for each, by default one).

    journal: a file of the trials that are done. A search that was killed, or is asked for more
    trials, goes on from it. The same seed and number n of trials at once give the same trials:
    each is chosen by the scores of all but the n - 1 before it, in whatever order they came.
    With one at a time they are those of ``m6rec.tune.tune``. Raises ConfigError where the file
    is of another search, and what a trial raises.
    """
    cpus = experiment.run.threads or 1
    search = Search.of(experiment, prepared)
    search = replace(search, run=replace(search.run, threads=cpus))
    join(address)
    at_once = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)  # type: ignore[no-untyped-call]
    about = {"search": digest(search), "at_once": at_once}
    asks = Asks(search, trials, Journal(journal, about), advance)
    if asks.left:
        with tempfile.TemporaryDirectory() as folder:
            _run(asks, cpus, folder)
    if asks.error is not None:
        raise asks.error
    return search.best([asks.found[n] for n in range(trials)])


class Journal:
    """A file of finished trials, one JSON a line below a head that says of which search."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Read the trials of a file, or begin one. Of a file that was begun with another number
        of trials at once that number holds on."""
        self.path = path
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last is torn
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if not self.lines:
            self.lines = [dict(about)]
        elif self.lines[0].get("search") != about["search"]:
            raise ConfigError(
                f"{path}: holds the trials of another search (of other data or options); "
                "remove it, or name another --out"
            )
        whole = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_text(whole, path)
        self.at_once = int(self.lines[0]["at_once"])

    def add(self, trial: Mapping[str, Any]) -> None:
        """Write a trial before anything is made of it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(trial) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Asks(Searcher):
    """What Ray Tune is told to try. left: trials that no journal has."""

    def __init__(
        self, search: Search, trials: int, journal: Journal, advance: Callable[[int], None]
    ) -> None:
        super().__init__(metric="score", mode="min" if search.lower else "max")
        self.search, self.trials, self.journal, self.advance = search, trials, journal, advance
        self.study = search.study()
        self.open: list[Any] = []  # optuna's trials, by number
        self.asked: list[dict[str, Any]] = []  # their values
        self.told = 0  # trials that the study knows the score of
        self.number: dict[str, int] = {}  # Ray's name of a trial → its number
        self.found = {line["trial"]: _plain(line) for line in journal.lines[1:]}
        self.over, self.error = False, None  # whether a trial failed, and what it says
        self.left = sum(n not in self.found for n in range(trials))
        advance(trials - self.left)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune would write this to disk with its settings; the journal is enough."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Return the values of the next trial without a score; None = wait for one, FINISHED =
        there is no other."""
        while not self.over and len(self.open) < self.trials:
            number = len(self.open)
            if not self._tell(number - self.journal.at_once + 1):
                return None
            self.open.append(self.study.ask())
            self.asked.append(self.search.values(self.open[number]))
            if number not in self.found:
                self.number[trial_id] = number
                return {"values": self.asked[number]}
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Keep a score on disk, and in mind until it is its turn to be told."""
        number = self.number[trial_id]
        if error or result is None or "error" in result:
            self.over = True
            self.error = self.error or (result or {}).get("error")
            return
        trial = {"values": self.asked[number], "score": float(result["score"])}
        self.journal.add({"trial": number, **trial})
        self.found[number] = trial
        self.advance(1)

    def _tell(self, n: int) -> bool:
        """Tell the study the first n scores and no other; return whether they are there."""
        while self.told < n and self.told in self.found:
            self.study.tell(self.open[self.told], self.found[self.told]["score"])
            self.told += 1
        return self.told >= n


def _run(asks: Asks, cpus: int, folder: str) -> None:
    """Let Ray Tune do the trials that are left."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the journal is our log
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # it would end as if all were done
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # prints tables even where verbose is 0
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    shared = ray_tune.with_parameters(_trial, search=asks.search)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(shared, {"cpu": cpus}),
        tune_config=ray_tune.TuneConfig(search_alg=asks, num_samples=asks.left),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=folder,
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=TRIES),
        ),
    )
    if failed := tuner.fit().errors:
        raise own(failed[0])


def _trial(given: dict[str, Any], search: Search) -> None:
    """One trial, on a worker; what a user can mend is handed back rather than tried again."""
    try:
        with threads(search.run.threads):
            ray_tune.report({"score": search.score(given["values"])})
    except M6RecError as error:
        ray_tune.report({"score": float("nan"), "error": error})


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"values": line["values"], "score": line["score"]}


def digest(search: Search) -> str:
    """Return what tells a search from others: all that decides what its trials are."""
    train, test = search.split.train, search.split.test
    ranges = {name: config.to_table(each) for name, each in search.ranges.items()}
    kinds = [list(map(config.to_table, each)) for each in (train.domains, train.events)]
    keys = [vocab.keys.to_list() for vocab in (train.users, train.items)]
    features = train.user_features, train.item_features
    about = [
        search.table, ranges, search.metric, search.run.seed, kinds, keys, train.ordered,
        train.user_text, train.item_text, list(map(list, features)),
    ]  # fmt: skip
    events = [getattr(part, name) for part in (train, test) for name in EVENTS]
    known = [block for blocks in features for block in blocks.values()]
    return hash_of(about, *events, train.item_domain, train.hidden, *known)
