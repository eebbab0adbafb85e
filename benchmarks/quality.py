"""Quality beside the peers: one split, one holdout, one budget, one metrics module for everybody.

    python benchmarks/run.py --only quality/ml-100k/implicit

Called by run.py. For each model of each peer (``peers/NAME.py``), settings are drawn from the
space stated there, the library's defaults first; each is fitted on train without a holdout that is
the same for all, and the best by the first metric on that holdout is fitted on all of train with
several seeds and asked for the test users. Peers answer with lists of item codes (or scores, where
negatives are sampled; or ratings); values are computed here, by ``m6rec.evaluation``. The processor
seconds of a trial are limited by the system; what exceeds them is told, with what it took. Test
events never leave this process. On sets of several domains a peer may learn from the target alone
or from all events as if they were of one domain: one more option of its search.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from peers import Options, Space

from m6rec import config
from m6rec.data.dataset import Dataset
from m6rec.data.fetch import fetch
from m6rec.data.prepare import prepare
from m6rec.data.query import Query
from m6rec.data.schema import DataConfig
from m6rec.data.splits import Split, leave_last
from m6rec.evaluation import evaluate
from m6rec.results import Rows
from m6rec.tracking import Run

HERE = Path(__file__).resolve().parent
ASKED = 3000  # most users that a trial is judged by
DEPTH = 50  # items of a list that a peer gives
DRAWS = 5  # of sampled negatives, in the test
LONGER = 3  # times a trial's limit that the fit on all of train may take, with all test users
PEERS = ("ours", "implicit", "rectools", "lenskit", "recbole", "lightfm", "cornac", "surprise")
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A set: its split, the domain that is asked for, metrics (the first one chooses), protocol.

    holdout: "random" (a tenth of the target's train events), "last" (the newest event of each
    user), or a split that the set brings. protocol: "full", "sampled:N" or "ratings".
    """

    split: Callable[[], Split]
    metrics: tuple[str, ...]
    target: str | None = None
    holdout: str | Callable[[], Split] = "random"
    protocol: str = "full"

    def domain(self, data: Dataset) -> int:
        return data.domain(self.target) if self.target else 0


def ml100k(ratings: bool = False, last: bool = False) -> Split:
    """MovieLens-100k, events alone: a fifth at random, or the newest event of each user."""
    table = {
        "interactions": {"path": "ratings.csv", "columns": {"value": "rating" if ratings else ""}},
        "feedback": "explicit" if ratings else "implicit",
    }
    data = prepare(config.from_table(DataConfig, table, "data"), fetch("ml-100k"), Run()).dataset
    data = Dataset.build(
        user=data.user, item=data.item, weight=data.weight, users=data.users, items=data.items,
        domains=data.domains, item_domain=data.item_domain, events=data.events, ordered=last,
    )  # fmt: skip
    if last:
        return leave_last(data)
    return Split.by_mask(data, np.random.default_rng(0).random(len(data)) < 0.2)


WIDE, SHORT = ("ndcg@20", "recall@20"), ("ndcg@10", "recall@10")
TASKS: dict[str, Task] = {
    "ml-100k": Task(split=ml100k, metrics=SHORT),
    "ml-100k-last": Task(split=partial(ml100k, last=True), metrics=SHORT, holdout="last"),
    "ml-100k-ratings": Task(
        split=partial(ml100k, ratings=True), metrics=("rmse", "mae"), protocol="ratings"
    ),
    "lastfm-music": Task(split=datasets.lastfm, metrics=WIDE, target="music"),
    "lastfm-listens": Task(split=datasets.listens, metrics=("recall@20", "ndcg@20")),
    "ml-1m": Task(split=datasets.ml1m, metrics=WIDE),
    "douban-music": Task(split=partial(datasets.douban, 0), metrics=WIDE, target="music"),
    "douban-book": Task(
        split=partial(datasets.douban, 0, target="book"), metrics=WIDE, target="book"
    ),
    **{
        f"cdr-{a} ({b})": Task(
            split=partial(datasets.amazon_cdr, a, b, a, drop_twins=True),
            metrics=("ndcg@10", "hit@10"), target=a, protocol="sampled:999",
        )
        for a, b in (("sport", "phone"), ("phone", "sport"), ("sport", "cloth"), ("cloth", "sport"))
    },
    **{
        f"cold-{name}": Task(
            split=lambda: datasets.amazon_cold()[1], holdout=lambda: datasets.amazon_cold()[0],
            metrics=("ndcg@10", "hit@10", "mrr"), target=name, protocol="sampled:999",
        )
        for name in ("game", "video")
    },
    "beauty": Task(split=datasets.beauty, metrics=SHORT, holdout="last"),
    "yelp18": Task(split=datasets.yelp18, metrics=WIDE),
    **{
        f"amazon3-{name}": Task(
            split=datasets.amazon3, metrics=SHORT, target=name, holdout="last"
        )
        for name in ("beauty", "sports", "toys")
    },
}  # fmt: skip


@functools.cache
def staged(name: str, stage: str) -> Split:
    """Return the split of a stage, "trial" or "test"; only the target's events are tested."""
    task = TASKS[name]
    if stage == "trial" and callable(task.holdout):
        return aimed(task, task.holdout(), ASKED)
    split = aimed(task, task.split())
    if stage == "test":
        return split
    train, rng = split.train, np.random.default_rng([0, 1000])
    if task.holdout == "last":
        inner = leave_last(train, per="domain" if train.n_domains > 1 else "user")
    else:
        target = train.item_domain[train.item] == task.domain(train)
        inner = Split.by_mask(train, target & (rng.random(len(train)) < 0.1))
    return aimed(task, inner, ASKED)


def aimed(task: Task, split: Split, most: int | None = None) -> Split:
    """Return a split that tests the target domain alone, and at most so many users, at random."""
    test = split.test
    kept = test.item_domain[test.item] == task.domain(test)
    users = np.unique(test.user[kept])
    if most and len(users) > most:
        users = np.random.default_rng(0).permutation(users)[:most]
    return replace(split, test=test.take(kept & np.isin(test.user, users)))


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a peer answered, as a model for ``evaluate``. users: (B,) ascending; items: (C,)."""

    users: np.ndarray
    items: np.ndarray
    lists: np.ndarray | None = None  # (B, k) columns of items, -1 = none
    scores: np.ndarray | None = None  # (B, C)

    def score(self, query: Query, items: np.ndarray | None = None) -> np.ndarray:
        row = np.searchsorted(self.users, query.user)
        if self.scores is not None:
            return np.asarray(self.scores[row])
        assert self.lists is not None
        found = np.full((len(row), len(self.items)), np.nan, np.float32)
        at, place = np.nonzero(self.lists[row] >= 0)
        found[at, self.lists[row][at, place]] = -place.astype(np.float32)
        return found


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fit: of whom, on what, how."""

    set: str
    peer: str
    model: str
    stage: str
    options: Options
    seed: int
    limit: int
    python: Path

    @property
    def task(self) -> Task:
        return TASKS[self.set]

    def run(self) -> tuple[Record, Rows | None]:
        """Fit in the peer's environment and evaluate; what fails is a record that says so."""
        folder = Path(tempfile.mkdtemp(prefix="m6rec-peer-"))
        try:
            split = self.write(folder)
            status, spent, error = self.start(folder)
            record: Record = {k: v for k, v in asdict(self).items() if k != "python"}
            record |= {"status": status, "processor": spent}
            if status != "done":
                return record | {"error": error}, None
            record["cost"] = json.loads((folder / "cost.json").read_text())
            rows = self.judged(folder, split)
            return record | {"metrics": {m: rows.mean(m) for m in self.task.metrics}}, rows
        finally:
            shutil.rmtree(folder)

    def write(self, folder: Path) -> Split:
        """Write what the peer may see, and return the split."""
        split, task, options = staged(self.set, self.stage), self.task, dict(self.options)
        train, test = split.train, split.test
        kept = np.ones(len(train), np.bool_)
        if options.pop("scope", "joint") == "target":
            kept = train.item_domain[train.item] == task.domain(train)
        np.savez(folder / "train.npz", user=train.user[kept], item=train.item[kept],
                 rating=train.weight[kept])  # fmt: skip
        if task.protocol == "ratings":
            np.savez(folder / "ask.npz", users=test.user, items=test.item)
        else:
            np.savez(folder / "ask.npz", users=np.unique(test.user), items=candidates(task, train))
        answer = {"full": "lists", "ratings": "ratings"}.get(task.protocol, "scores")
        job = {
            "model": self.model, "options": options, "seed": self.seed, "k": DEPTH,
            "answer": answer,
            "train": {"n_users": train.n_users, "n_items": train.n_items, "name": self.set,
                      "stage": self.stage},
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        return split

    def start(self, folder: Path) -> tuple[str, float, str]:
        """Run the peer's process: status, its processor seconds, and the end of what it said."""
        command = [self.python, HERE / "peer.py", self.peer, folder, str(self.limit)]
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
        with (folder / "said").open("w+") as said:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                stdout=said,
                stderr=said,
                env=os.environ | one,
            )
            _, code, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(code)
            said.seek(0)
            error = said.read()[-400:]
        spent = used.ru_utime + used.ru_stime
        if process.returncode == 0:
            return "done", spent, ""
        if process.returncode in (-signal.SIGTERM, -signal.SIGINT):
            raise KeyboardInterrupt  # stopped from outside: nothing to keep
        late = process.returncode == -signal.SIGXCPU
        return ("over budget" if late else "failed"), spent, error

    def judged(self, folder: Path, split: Split) -> Rows:
        """Return the value of every test row."""
        task, test = self.task, split.test
        users, items = np.unique(test.user), candidates(task, split.train)
        if task.protocol == "ratings":
            dense = np.full((len(users), len(items)), np.nan, np.float32)
            ratings = np.load(folder / "answers.npz")["ratings"]
            dense[np.searchsorted(users, test.user), np.searchsorted(items, test.item)] = ratings
            answers = Answers(users=users, items=items, scores=dense)
        elif (folder / "scores.npy").exists():
            scores = np.load(folder / "scores.npy", mmap_mode="r")
            answers = Answers(users=users, items=items, scores=scores)
        else:
            lists = np.load(folder / "answers.npz")["lists"]
            answers = Answers(users=users, items=items, lists=lists)
        found = evaluate(
            answers,  # type: ignore[arg-type]  # it scores, which is all that is asked
            split,
            metrics=task.metrics,
            protocol="full" if task.protocol == "ratings" else task.protocol,
            seeds=DRAWS if self.stage == "test" and "sampled" in task.protocol else 1,
            by=(),
            run=Run(threads=1),
        )
        return found.slices["all"]


def candidates(task: Task, train: Dataset) -> np.ndarray:
    """(C,) codes of the items that may be shown."""
    return np.flatnonzero((train.item_domain == task.domain(train)) & ~train.hidden)


def models(name: str, peer: str) -> dict[str, Space]:
    """Return the models of a peer that suit a set, with their spaces there."""
    task, train = TASKS[name], staged(name, "test").train
    kind = "rating" if task.protocol == "ratings" else "ranking"
    found = {}
    for model, space in import_module(f"peers.{peer}").MODELS.items():
        alone = model == "m6rec, target alone" and train.n_domains == 1
        if space.task == kind and (train.ordered or not space.ordered) and not alone:
            if train.n_domains > 1 and peer != "ours":
                scopes = ("target", "joint")[: 2 if space.fits(train.n_items) else 1]
                space = replace(space, options={"scope": scopes, **space.options})
            found[model] = space
    return found


def measure(
    name: str, peer: str, python: Path, out: Path, *, trials: int, limit: int, seeds: Iterable[int],
    only: str = "",
) -> None:  # fmt: skip
    """Search, then fit and test every model of a peer on a set; what is there is not run again."""
    n_items = len(candidates(TASKS[name], staged(name, "test").train))
    for model, space in models(name, peer).items():
        if only not in model:
            continue
        folder = out / name / peer / model.replace(" ", "-")
        make = partial(
            Job, set=name, peer=peer, model=model, python=python, limit=limit, seed=0, stage="trial"
        )
        folder.mkdir(parents=True, exist_ok=True)
        if not space.fits(n_items):
            note = f"{n_items:,} items, and it holds items × items in memory"
            write(folder / "note.json", {"status": "not run", "error": note})
            continue
        chosen = search(folder, make, space, trials)
        if chosen is None:
            continue
        for seed in seeds if space.random else (0,):
            if not (folder / f"test-{seed}.json").exists():
                job = make(options=chosen, stage="test", seed=seed, limit=LONGER * limit)
                record, rows = job.run()
                if rows is not None:
                    values = {m.replace("@", "_"): v for m, v in rows.values.items()}
                    file = folder / f"test-{seed}.npz"
                    np.savez(file, user=rows.user, pairs=rows.pairs, **values)
                write(folder / f"test-{seed}.json", record)
                told(record)


def search(folder: Path, make: Callable[..., Job], space: Space, n: int) -> Options | None:
    """Return the setting that is best on the holdout; None where not one could be fitted."""
    settings = space.trials(n, np.random.default_rng(0))
    if len(settings) == 1:
        return settings[0]
    found, late = [], 0
    for i, options in enumerate(settings):
        file = folder / f"trial-{i:02}.json"
        if not file.exists():
            record, _ = make(options=options).run()
            write(file, record)
            told(record)
        found.append(json.loads(file.read_text()))
        late = late + 1 if found[-1]["status"] == "over budget" else 0
        if late == 2 or (i == 0 and found[0]["status"] == "failed"):
            break
    done = [record for record in found if record["status"] == "done"]
    if not done:
        return None
    sign = -1 if "rmse" in done[0]["metrics"] else 1
    best = max(done, key=lambda r: sign * next(iter(r["metrics"].values())))
    options: Options = best["options"]
    return options


def told(record: Record) -> None:
    """Say on stderr what was done; without values, which are for the tables."""
    where = " / ".join(str(record[k]) for k in ("set", "peer", "model", "stage", "options", "seed"))
    end = f": {record.get('error', '')[-200:]}" if record["status"] == "failed" else ""
    spent = f"{record['processor']:.0f} s of the processor"
    print(f"{where}: {record['status']}, {spent}{end}", file=sys.stderr, flush=True)


def write(file: Path, record: Record) -> None:
    """Write a record whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    part.replace(file)
