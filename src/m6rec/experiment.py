"""A whole experiment as one TOML file: data, twins, split, model, evaluation, search, run,
service."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from m6rec import config, evaluation
from m6rec.data.schema import NO_TABLES, DataConfig, Tables
from m6rec.data.splits import SplitConfig
from m6rec.data.twins import TwinsConfig
from m6rec.metrics import parse
from m6rec.models.base import Recipe
from m6rec.pool import HERE, Pool
from m6rec.trackers import TrackerName
from m6rec.tracking import Run

DEFAULT_KIND = "m6rec"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The ``[evaluate]`` table: how the model is measured on the test part of the split.

    metrics: such as "ndcg@10"; by default some that fit the feedback. protocol: "full", or
    "sampled:N" with ``seeds`` draws. by: slices. baselines: models to compare with.
    """

    metrics: tuple[str, ...] = ()
    protocol: str = "full"
    seeds: int = 1
    by: tuple[str, ...] = evaluation.SLICES
    baselines: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        evaluation.check(self.metrics, self.protocol, self.by, self.seeds)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Values to search: low … high (whole numbers where both are), or one of ``choices``.

    log: search the logarithm, for a range over several powers of ten.
    """

    low: int | float = 0.0
    high: int | float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.choices and (self.low >= self.high or (self.log and self.low <= 0)):
            raise ValueError(
                f"low = {self.low}, high = {self.high}: low must be below high, and above 0 where "
                "log = true; or give choices = […]"
            )

    def suggest(self, trial: Any, name: str) -> Any:
        """Return a value for an optuna trial."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """The ``[tune]`` table. metric: by default "ndcg@10", or "rmse" for ratings. space: dotted
    option, such as "model.reg", → the values to search, beside the defaults of each kind."""

    metric: str = ""
    space: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric:
            parse(self.metric)


@dataclass(frozen=True, kw_only=True)
class RankConfig:
    """The ``[rank]`` table: how lists are made where a request does not say it.

    diversity: 0 … 1, how much a list is spread. explore: share of random items in it.
    candidates: how many items a request is scored on, found by a first guess; 0 = all. "auto" = all
    in Python and on the command line, and in the service up to 75,000 items; above, as few
    as hold 98 % of the exact best 100 of users of the run, which is tried when it is opened; and
    all where 10,000 do not. index: how the guess is made: "scan" reads a short vector of every
    item, "ivf" those of the nearest lists of an inverted file (the extra `ann`); "auto" = "ivf"
    above a million items where faiss is installed.
    """

    diversity: float = 0.0
    explore: float = 0.0
    candidates: int | Literal["auto"] = "auto"
    index: Literal["auto", "scan", "ivf"] = "auto"

    def __post_init__(self) -> None:
        if self.candidates != "auto" and not 0 <= self.candidates <= 1_000_000:
            raise ValueError(f'candidates = {self.candidates}: must be "auto" or 0 to 1,000,000')
        for name in ("diversity", "explore"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 0 to 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The ``[run]`` table.

    out: where runs are written. refit: after the evaluation, fit on all events, the test part
    too, with every choice fixed. threads: None = all cores. track: where else than in log.jsonl the
    scalars of training go: TensorBoard, Weights & Biases.
    """

    out: str = "runs"
    refit: bool = True
    threads: int | None = None
    track: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads = {self.threads}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """The ``[serve.retrain]`` table: when the service trains again on what its store holds.

    every_hours: since the last time. after_events: new events since then. Left out, it does not
    on that account. margin: share of the metric by which a new model may be worse on the newest
    events than the one that serves, and still be published.
    """

    every_hours: float | None = None
    after_events: int | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        for name in ("every_hours", "after_events"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} = {value}: must be above 0")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin = {self.margin}: must be from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class DraftConfig:
    """The ``[serve.draft]`` table: who writes a draft of an answer from those that were found.

    endpoint: of an OpenAI-compatible service, up to and without "/chat/completions"; "" = nobody,
    and answers are the passages as they stand. The key is read from the environment variable
    M6REC_DRAFT_KEY. model: its name there. timeout: seconds after which the passage answers
    instead. tokens: most of a draft. answers: how many of those found it is given.
    """

    endpoint: str = ""
    model: str = ""
    timeout: float = 5.0
    tokens: int = 300
    answers: int = 3

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f'endpoint = "{self.endpoint}": must begin with http:// or https://')
        if self.endpoint and not self.model:
            raise ValueError('endpoint needs model = "…", the name of the model there')
        if not 0 < self.timeout <= 60:
            raise ValueError(f"timeout = {self.timeout}: must be above 0 and at most 60 seconds")
        if self.tokens < 1 or not 1 <= self.answers <= 10:
            raise ValueError("tokens must be at least 1, and answers 1 to 10")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The ``[serve]`` table: what `m6rec serve` reads of a run; see RetrainConfig, DraftConfig."""

    retrain: RetrainConfig = RetrainConfig()
    draft: DraftConfig = DraftConfig()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole TOML file.

    name: stands in the name of the run. seed: of every random stream.
    base: folder that relative data paths start from; by default the folder of the TOML.
    split: how the test is held out; by default the newest event of each user, or a random fifth
    where the data has no order. test: tables of test events instead of a split; all of the data
    then trains.
    """

    name: str = "run"
    seed: int = 0
    base: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    twins: TwinsConfig = field(default_factory=TwinsConfig)
    split: SplitConfig | None = None
    test: Tables = NO_TABLES
    model: Recipe = field(default_factory=lambda: Recipe.from_table({"kind": DEFAULT_KIND}))
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = field(default_factory=TuneConfig)
    rank: RankConfig = RankConfig()
    run: RunConfig = RunConfig()
    serve: ServeConfig = ServeConfig()

    def tracking(
        self, *, bars: bool = False, log_file: Path | None = None, pool: Pool = HERE
    ) -> Run:
        """Return the Run of this experiment."""
        run = Run(seed=self.seed, bars=bars, log_file=log_file, pool=pool)
        return run if self.run.threads is None else replace(run, threads=self.run.threads)


def load(path: str | Path, assignments: Sequence[str] = ()) -> Experiment:
    """Read an experiment; ``assignments`` such as "model.reg=0.1" override the file.

    A model of your own, kind = "module:Class", may stand in a module beside the TOML. Raises
    ConfigError that names the key, the value and the fix.
    """
    table = config.override(config.read_toml(path), assignments)
    table["base"] = str((Path(path).parent / table.get("base", "")).absolute())
    with _modules_of(Path(path).parent):
        return config.from_table(Experiment, table)


@contextmanager
def _modules_of(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported, after all that are installed."""
    name = str(folder.absolute())
    sys.path.append(name)
    try:
        yield
    finally:
        sys.path.remove(name)
