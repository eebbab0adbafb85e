"""Around the core, a cluster does what one machine does: lists, search, towers, preparing."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest
import ray
from typer.testing import CliRunner

from m6rec import pipeline
from m6rec import tune as here
from m6rec.cli.app import app
from m6rec.cluster import ddp, nodes
from m6rec.cluster import prepare as preparing
from m6rec.cluster import score as scoring
from m6rec.cluster import tune as searching
from m6rec.data.holdout import holdout
from m6rec.data.prepare import Prepared, prepare
from m6rec.errors import ConfigError, DataError, QueryError
from m6rec.experiment import Experiment, load
from m6rec.models.towers import Learner, Towers
from m6rec.pool import Here, Pool
from m6rec.recommender import Recommender
from m6rec.tracking import Run
from m6rec.training.group import Group, Scalars
from m6rec.training.loop import Training
from shop import write_shop
from world import world

T = TypeVar("T")

# Ray's own: settings of its that it reads under old names, and processes that it leaves to the
# end of the session.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)  # so that workers find what is defined here
        head = {"num_cpus": 1, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1)
    try:
        yield str(made.address)
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def asked(folder: Path) -> Recommender:
    trained = pipeline.save(load(folder / "shop.toml"), folder / "runs")
    return Recommender.open(str(trained.fitted.path))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are done in this process, the last first."""

    def done(worker: Any, given: Any, shards: Any) -> Iterator[Any]:
        made = worker(*given)
        return (made(dict(shard)) for shard in reversed(shards))

    for module in (scoring, preparing):
        monkeypatch.setattr(module, "done", done)
        monkeypatch.setattr(module, "join", lambda address: None)


# Lists of everybody


class Dies(scoring.Scorer):
    """Kills its own process once, before its first shard."""

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        mark = Path(shard["path"]).with_name(".died")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(shard)


def test_lists_are_those_of_one_machine_though_a_worker_is_killed(
    address: str, asked: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, out = [*asked.dataset.users.keys, "nobody"], tmp_path / "lists"
    whole = pl.concat(list(asked.export(users, k=5, domain="books")))
    monkeypatch.setattr(scoring, "Scorer", Dies)
    n = scoring.score(address, asked, out, users, k=5, domain="books", shard=50)
    assert (out / ".died").exists()
    files = sorted(out.glob("*.parquet"))
    assert [pl.scan_parquet(f).select(pl.col("user").n_unique()).collect().item() for f in files]
    assert len(files) == 3 and n == whole.height
    assert pl.concat([pl.read_parquet(f) for f in files]).equals(whole)


def test_lists_that_are_there_are_not_made_again(
    asked: Recommender, tmp_path: Path, alone: None
) -> None:
    users, out = asked.dataset.users.keys.to_list(), tmp_path / "lists"
    first = scoring.score("", asked, out, users, shard=60)
    kept, gone = sorted(out.glob("*.parquet"))
    made, whole = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()  # as if the driver had been killed before it
    told: list[int] = []
    assert scoring.score("", asked, out, users, shard=60, advance=told.append) == first
    assert kept.stat().st_mtime_ns == made and gone.read_bytes() == whole
    assert told == [60, 60]
    with pytest.raises(DataError, match="holds lists of another k"):
        scoring.score("", asked, out, users, k=3, shard=60)


def test_what_cannot_be_scored_is_said_at_once(asked: Recommender, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match='did you mean "films"'):
        scoring.score("", asked, tmp_path / "lists", ["u1"], domain="film")
    with pytest.raises(ConfigError, match="from outside"):
        scoring.score("ray://somewhere:10001", asked, tmp_path / "lists", ["u1"])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="name an empty folder"):
        scoring.score("", asked, tmp_path, ["u1"])


# Searching options


@pytest.fixture(scope="module")
def searched(folder: Path) -> Experiment:
    space = "tune.space={'model.k'={low=2,high=60},'model.shrink'={low=0.1,high=50.0,log=true}}"
    return load(folder / "shop.toml", [space, "run.threads=1"])


def test_a_search_finds_what_one_machine_finds_and_goes_on(
    address: str, searched: Experiment, tmp_path: Path
) -> None:
    alone = here.tune(searched, 5)
    journal = tmp_path / "shop.trials.jsonl"
    about = {"search": searching.digest(here.Search.of(searched)), "at_once": 2}
    had = [json.dumps({"trial": n, **alone.trials[n]}) for n in (0, 2)]
    journal.write_text("\n".join([json.dumps(about), *had, '{"trial": 1, "val']))  # killed here
    told: list[int] = []
    bar = threading.Lock()  # what cannot be pickled, as a bar cannot

    def advance(n: int) -> None:
        with bar:
            told.append(n)

    found = searching.tune(address, searched, 5, journal, advance=advance)
    assert told == [2, 1, 1, 1]  # two it had
    # of the first ten trials, which are random, no result changes anything
    assert found.to_json() == alone.to_json()
    with pytest.raises(ConfigError, match="trials of another search"):
        searching.tune(address, load(Path(searched.base) / "shop.toml"), 3, journal)


def test_a_search_that_is_interrupted_ends(
    address: str, searched: Experiment, tmp_path: Path
) -> None:
    journal = tmp_path / "shop.trials.jsonl"

    def advance(n: int) -> None:
        if n:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            searching.tune(address, searched, 5, journal, advance=advance)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(journal.read_text().splitlines()) == 2  # its head, and the trial that was done


class Guess(here.Search):
    """A search whose scores cost nothing."""

    def score(self, values: Mapping[str, Any]) -> float:
        return -abs(values.get("model.k", 3) - 20) - values.get("model.shrink", 1.0)


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_order_of_results_changes_no_trial(
    searched: Experiment, tmp_path: Path, at_once: int
) -> None:
    guess = Guess(**vars(here.Search.of(searched)))

    def tried(name: str, seed: int) -> list[Any]:
        """As Ray Tune does it, with results in any order."""
        rng, running, n = np.random.default_rng(seed), {}, 0
        journal = searching.Journal(tmp_path / name, {"search": "guess", "at_once": at_once})
        asks = searching.Asks(guess, 20, journal, lambda n: None)
        while True:
            given = asks.suggest(str(n))
            if isinstance(given, dict):
                running[str(n)], n = given["values"], n + 1
                assert len(running) <= at_once
            elif not running:
                return [asks.found[i] for i in range(20)]
            else:
                key = str(rng.choice(list(running)))
                asks.on_trial_complete(key, {"score": guess.score(running.pop(key))})

    found = tried("first", 0)
    assert tried("second", 1) == found
    assert tried("second", 2) == found  # all of it from the journal
    if at_once == 1:
        study = guess.study()
        for each in found:
            trial = study.ask()
            assert guess.values(trial) == each["values"]
            study.tell(trial, each["score"])


def test_what_a_trial_cannot_do_ends_the_search(searched: Experiment, tmp_path: Path) -> None:
    journal = searching.Journal(tmp_path / "wrong", {"search": "wrong", "at_once": 2})
    asks = searching.Asks(here.Search.of(searched), 20, journal, lambda n: None)
    assert asks.suggest("a") == {"values": {}}
    assert asks.suggest("b")["values"]
    assert asks.suggest("c") is None  # until one is told
    asks.on_trial_complete("b", {"score": float("nan"), "error": ConfigError("no such option")})
    assert asks.suggest("d") == asks.FINISHED
    assert str(asks.error) == "no such option"
    asks.on_trial_complete("a", {"score": 0.5})
    assert asks.found == {0: {"values": {}, "score": 0.5}}


# Towers


class Machines(Here):
    """A pool that only trains together."""

    @property
    def machines(self) -> int:
        return len(ddp.cpus())

    def together(self, function: Callable[..., T], *arguments: Any) -> T:
        return ddp.together(function, *arguments)


def test_two_machines_train_the_towers_of_one(address: str) -> None:
    nodes.connect(address)
    data = world(n_users=200)
    training = Training(epochs=3, batch=64, lr=2e-3)
    recipe = Towers(
        dim=16, text_dim=8, negatives=8, dropout=0.0, id_dropout=0.0, value_head=True,
        event_heads=True, training=training,
    )  # fmt: skip

    def trained(pool: Pool) -> tuple[int, dict[str, list[float]], Any]:
        scalars = Scalars()
        run = Run(seed=1, threads=1, trackers=(scalars,), pool=pool)
        split = holdout(data, run.rng("holdout"))
        learner = Learner(recipe, split.train, run)
        epochs = learner.learn(training, split)
        told = {n: [v for each, v, _ in scalars.told if each == n] for n in ("loss", "holdout")}
        return epochs, told, learner.model().score(split.context.query(np.arange(30)))

    epochs, told, scores = trained(Here())
    again, heard, found = trained(Machines())
    assert again == epochs
    assert len(heard["loss"]) == 3
    np.testing.assert_allclose(heard["loss"], told["loss"], rtol=1e-4)
    np.testing.assert_allclose(heard["holdout"], told["holdout"], atol=1e-3)
    np.testing.assert_allclose(found, scores, atol=1e-3)


def test_machines_that_are_left_train_where_one_is_lost(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.connect(address)
    monkeypatch.setattr(ddp, "cpus", lambda: [1, 1, 1])  # a third, which is there no more
    assert ddp.together(lambda group: group.size) == 2


def test_what_a_process_refuses_is_its_own_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(group: Group) -> None:
        raise ConfigError("dim = 0: must be at least 1")

    nodes.connect(address)
    monkeypatch.setattr(ddp, "TRIES", 0)
    with pytest.raises(ConfigError, match=r"^dim = 0: must be at least 1$"):
        ddp.together(refuses)


# Preparing

N = 4000
MIXED = """\
[data]
interactions = ["log/*.parquet", {path = "more.csv", domain = "films"}]
items = "items.csv"
links = "links.csv"
[data.domains.films]
[data.domains.books]
feedback = "explicit"
[data.domains.games]
users = "own"
[data.events.view]
[data.events.buy]
weight = 3
[data.clean]
max_value = 5
max_per_day = 12
max_events = 150
session_gap = 3000
min_session = 2
max_session = 20
core_items = 3
"""
SUMMED = """\
[data]
[[data.interactions]]
path = "log"
format = "parquet"
domain = "films"
ordered = true
columns = {time = "", value = ""}
[data.clean]
duplicates = "sum"
max_events = 150
"""
MUTUAL = """\
[data]
interactions = ["log/*.parquet"]
[data.domains.games]
people = true
[data.events.view]
[data.events.buy]
mutual = true
"""


def write_log(folder: Path) -> None:
    """Events of three domains with rows that are dropped by every step, in several files."""
    rng = np.random.default_rng(5)
    user = rng.integers(0, 60, N) ** 2 // 60  # some are busy
    time = np.sort(1_700_000_000 + rng.integers(0, 40 * 86_400, N) // 600 * 600)
    nothing = rng.random((N, 4)) < 0.02
    domain = rng.choice(["films", "books", "games"], N)
    log = pl.DataFrame(
        {
            "user": pl.Series([f" u{u}" for u in user]).set(pl.Series(nothing[:, 0]), None),
            "item": pl.Series([f"i{i}" for i in rng.integers(0, 40, N)]).set(
                pl.Series(nothing[:, 1]), ""
            ),
            "domain": domain,
            "event": rng.choice(["view", "buy", "hover"], N, p=[0.6, 0.38, 0.02]),
            "time": pl.Series(time).set(pl.Series(nothing[:, 2]), None),
            "value": pl.Series(rng.integers(1, 7, N)).cast(pl.Float64).set(
                pl.Series(nothing[:, 3]), None
            ),
        }
    )  # fmt: skip
    (folder / "log").mkdir()
    for i, at in enumerate(range(0, N, 1500)):
        log.slice(at, 1500).write_parquet(folder / "log" / f"{i}.parquet")
    log.filter(pl.col("domain") == "films").head(300).drop("domain").write_csv(folder / "more.csv")
    titles = {"item": [f"i{i}" for i in range(45)], "domain": ["films"] * 45, "title": ["A"] * 45}
    pl.DataFrame(titles).write_csv(folder / "items.csv")
    links = {"domain": ["games", "films"], "user": ["u1", "u9"], "person": ["u40", "u41"]}
    pl.DataFrame(links).write_csv(folder / "links.csv")


def prepared(toml: Path) -> Prepared:
    experiment = load(toml)
    return prepare(experiment.data, Path(experiment.base), Run(threads=1))


def same(found: Prepared, whole: Prepared) -> None:
    a, b = found.dataset, whole.dataset
    assert a.domains == b.domains and a.events == b.events and a.ordered == b.ordered
    for name in ("user", "item", "weight", "time", "event", "item_domain", "hidden"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert found.users.equals(whole.users) and found.items.equals(whole.items)


def dropped(*reports: dict[str, Any]) -> list[Any]:
    """Everything that was left out, in an order of its own."""
    found = [each for report in reports for each in report["dropped"]]
    return sorted(json.loads(json.dumps(found, default=str)), key=lambda d: (d["step"], str(d)))


@pytest.mark.parametrize("text", [MIXED, SUMMED, MUTUAL], ids=["mixed", "summed", "mutual"])
def test_prepared_in_shards_is_prepared(text: str, tmp_path: Path, alone: None) -> None:
    write_log(tmp_path)
    (tmp_path / "shop.toml").write_text(text)
    whole = prepared(tmp_path / "shop.toml")
    assert len(whole.drops.entries) > 2
    out = tmp_path / "out"
    drops = preparing.prepare("", load(tmp_path / "shop.toml"), out, "shop.toml", piece=700)
    assert len(list((out / "events").glob("*.parquet"))) > 3
    again = prepared(out / "shop.toml")
    same(again, whole)
    left = [d for d in again.drops.to_json()["dropped"] if d["table"] != "items.csv"]
    assert {d["step"] for d in left} <= ({"duplicates"} if text is MUTUAL else {"k-core"})
    assert dropped(drops.to_json(), again.drops.to_json()) == dropped(whole.drops.to_json())
    for table, rows in drops.read.items():
        assert whole.drops.read[table] == rows
    assert set(drops.notes) <= set(whole.drops.notes)


def test_a_cluster_prepares_and_goes_on(address: str, tmp_path: Path) -> None:
    write_log(tmp_path)
    toml = tmp_path / "shop.toml"
    toml.write_text('[data]\ninteractions = "log/*.parquet"\n')
    out, experiment = tmp_path / "out", load(toml)

    def killed(done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(address, experiment, out, "shop.toml", piece=2000, advance=killed)
    told: list[tuple[int, int]] = []
    preparing.prepare(address, experiment, out, "shop.toml", piece=2000,
                      advance=lambda done, of: told.append((done, of)))  # fmt: skip
    assert told[0][0] >= 1 and told[-1] == (4, 4)  # what was done is not done again
    assert sorted(p.name for p in out.iterdir()) == [
        "drops.json", "events", "events.json", "shop.toml"
    ]  # fmt: skip
    same(prepared(out / "shop.toml"), prepared(toml))
    with pytest.raises(DataError, match="events of another piece"):
        preparing.prepare(address, experiment, out, piece=3000)


def test_what_a_worker_refuses_is_its_own_sentence(address: str, tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u1"], "item": ["a"], "day": ["soon"]}).write_csv(tmp_path / "log.csv")
    toml = tmp_path / "shop.toml"
    toml.write_text('[data]\ninteractions = "log.csv"\ncolumns = {time = "when"}\n')
    with pytest.raises(DataError, match=r'^log.csv: there is no column "when" \(time\)'):
        preparing.prepare(address, load(toml), tmp_path / "out")


# The verbs


def m6rec(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_verbs(folder: Path, asked: Recommender, tmp_path: Path, alone: None) -> None:
    run = str(asked.fitted.path)
    text = m6rec("score", run, "--cluster", "auto", "--out", tmp_path / "lists", "-k", 3)
    assert "360 rows for 120 users" in text
    assert m6rec("score", run, "--cluster", "auto", "--out", tmp_path / "lists", "-k", 3) == text
    out = tmp_path / "shared"
    text = m6rec("prepare", folder / "shop.toml", "--out", out)
    assert "960 of 960 events kept" in text and f"m6rec train {out / 'shop.toml'}" in text
    found = json.loads(m6rec("check", out / "shop.toml", "--json"))
    assert found["events"] == json.loads(m6rec("check", folder / "shop.toml", "--json"))["events"]
