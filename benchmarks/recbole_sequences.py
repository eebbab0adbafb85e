"""Our towers and the fused default beside RecBole's SASRec and GRU4Rec, on its MovieLens-100k.

    python3 -m venv /tmp/rb && /tmp/rb/bin/pip install recbole==1.2.1 "numpy<2" "pandas<2.3" torch
    python benchmarks/recbole_sequences.py --peer /tmp/rb/bin/python [--what speed,towers,…]

All ratings are events, in RecBole's order (see ``events``). Of each user the last event is the
test and the one before it tells when to stop; both sides learn from the rest alone, and are asked
with all but the last. All items are ranked but those of the history, and items that score alike
count as better. Every finished run is kept in --out (here: recbole/, hours of the processor); the
tables show all that is there, and what is there is not run again. A peer that was stopped by
--minutes or killed goes on where it stood once its JSON file is gone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split, leave_last
from m6rec.data.vocab import Vocab
from m6rec.metrics import ranked
from m6rec.models.base import Model
from m6rec.models.default import M6Rec
from m6rec.models.towers import Learner, Towers
from m6rec.significance import bootstrap_ci, paired
from m6rec.tracking import Run
from m6rec.training.loop import Training

PEERS = ("SASRec", "GRU4Rec")
SIZES = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 128}  # those of Towers
TOWERS = Towers(
    attributes=False,
    gaps=False,
    dropout=0.5,
    training=replace(Towers().training, epochs=100, patience=10),
)
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Timed(Run):
    """A run that keeps the wall seconds of each epoch, and the processor's clock after it."""

    wall: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def scalar(self, name: str, value: float, step: int) -> None:
        if name == "seconds":
            self.wall.append(value)
            self.clock.append(time.process_time())

    def told(self, began: float) -> Record:
        """began: the processor's clock before the first epoch."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        spent = np.diff([began, *self.clock]).tolist()
        return {"wall": self.wall, "processor": spent, "peak_mb": peak}


def events(peer: str) -> Dataset:
    """Return the ratings in RecBole's wheel as events, in the order that RecBole gives them: it
    holds times as shares of their range in float32, to about 1 s, and where these are equal
    keeps the order of the file."""
    find = "import importlib.util as u; print(u.find_spec('recbole').origin)"
    found = subprocess.run([peer, "-c", find], check=True, capture_output=True, text=True)
    folder = Path(found.stdout.strip()).parent / "dataset_example" / "ml-100k"
    table = pl.read_csv(folder / "ml-100k.inter", separator="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    users, items = (
        Vocab(table[name].unique(maintain_order=True).cast(pl.String).to_list())
        for name in ("user_id", "item_id")
    )
    seconds = table["timestamp"].to_numpy()
    share = ((seconds - seconds.min()) / np.ptp(seconds)).astype(np.float32)
    return Dataset.build(
        user=users.encode(table["user_id"].cast(pl.String)),
        item=items.encode(table["item_id"].cast(pl.String)),
        users=users,
        items=items,
        time=np.rint(share.astype(np.float64) * np.ptp(seconds)).astype(np.int64) + seconds.min(),
    )


def towers(valid: Split, run: Timed) -> tuple[Model, int]:
    """As RecBole trains: the weights of the epoch that did best on the event before the last."""
    learner = Learner(TOWERS, valid.train, run)
    epochs = learner.learn(TOWERS.training, valid)
    return learner.model(), epochs


def fused(valid: Split, run: Timed, deep: bool = True) -> tuple[Model, int]:
    """Every choice on the event before the last, then fitted to the events before that."""
    return M6Rec(deep=deep).choose(valid, run).fit(valid.train, run), 0


OURS: dict[str, Callable[[Split, Timed], tuple[Model, int]]] = {
    "towers": towers,
    "fused": fused,
    "fused without towers": partial(fused, deep=False),
}


def ours(name: str, seed: int, data: Dataset) -> Record:
    test = leave_last(data)
    valid = leave_last(test.train)
    run, began = Timed(seed=seed, threads=1), time.process_time()
    model, epochs = OURS[name](valid, run)
    users = test.test.user
    query = test.train.query(users, test.test.time)
    scores = model.score(query)
    place = np.arange(len(users)), test.test.item
    target = csr_array((np.ones(len(users)), place), shape=scores.shape)
    masked = ranked(scores, target, csr_array(query.history))
    return {
        "model": name, "seed": seed, "epochs": epochs,
        "user": data.users.decode(users),
        "item": data.items.decode(test.test.item),
        "ranks": ranked(scores, target).rank.tolist(), "masked": masked.rank.tolist(),
        **run.told(began),
    }  # fmt: skip


def speed(peer: str, data: Dataset, epochs: int) -> list[Record]:
    """The same sizes, one after the other: epochs of training alone."""
    train = leave_last(leave_last(data).train).train
    run = Timed(threads=1)
    learner, began = Learner(TOWERS, train, run), time.process_time()
    learner.learn(Training(epochs=epochs + 1))
    mine = {"model": "towers", **run.told(began)}
    mine = {**mine, "wall": mine["wall"][1:], "processor": mine["processor"][1:]}  # one is to warm
    sizes = [f"{name}={value}" for name, value in SIZES.items()]
    return [mine, *ask(peer, ["SASRec", "--epochs", "1", "--set", *sizes])]


def ask(peer: str, options: list[str]) -> list[Record]:
    script = Path(__file__).with_name("recbole_peer.py")
    command = [peer, "-W", "ignore", str(script), *options]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def values(record: Record, ranks: str) -> dict[str, np.ndarray]:
    """Return NDCG@10 and HR@10 of each user, by the order of their ids."""
    rank = np.array(record[ranks])[np.argsort(record["user"])]
    near = rank <= 10
    return {"ndcg@10": near / np.log2(rank + 1), "hr@10": near.astype(np.float64)}


def show(records: list[Record]) -> None:
    """Print a row for each model: the mean over seeds and its deviation, intervals over users."""
    asked = {tuple(sorted(zip(r["user"], r["item"], strict=True))) for r in records}
    print(f"{len(records)} runs, {'the same' if len(asked) == 1 else 'DIFFERENT'} test rows")
    mean: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(r["model"] for r in records):
        mine = [r for r in records if r["model"] == name]
        print(f"{name}, seeds {[r['seed'] for r in mine]}, epochs {[r['epochs'] for r in mine]}")
        for ranks in ("masked", "ranks"):
            for metric in ("ndcg@10", "hr@10"):
                each = np.stack([values(r, ranks)[metric] for r in mine])  # (seeds, users)
                rng, seeds = np.random.default_rng(0), each.mean(axis=1)
                low, high = bootstrap_ci(each.mean(axis=0), rng)
                spread = seeds.std(ddof=1) if len(seeds) > 1 else np.nan
                print(f"  {ranks:<7} {metric:<8} {seeds.mean():.4f} ± {spread:.4f}"
                      f"  users [{low:.4f}, {high:.4f}]  each {np.round(seeds, 4)}")  # fmt: skip
                if ranks == "masked" and metric == "ndcg@10":
                    mean[name] = each.mean(axis=0)
    for peer in PEERS:
        for name in mean.keys() & OURS.keys() if peer in mean else ():
            print(f"{name} − {peer}:", paired(mean[name], mean[peer], np.random.default_rng(0)))


def main(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    data = events(options.peer)
    for name in options.what.split(","):
        if name == "speed":
            found = speed(options.peer, data, epochs=3)
            for r in found:
                wall, processor = np.mean(r["wall"]), np.mean(r["processor"])
                print(f"{r['model']:<8} s per epoch: wall {wall:.1f}, processor {processor:.1f}; "
                      f"peak {r['peak_mb']:.0f} MB", flush=True)  # fmt: skip
            continue
        for seed in options.seeds.split(","):
            file = options.out / f"{name}-{seed}.json"
            if not file.exists():
                quick = [] if options.plain else ["--quick"]
                if name in PEERS:
                    kept = [
                        "--checkpoint",
                        str(file.with_suffix(".pt")),
                        "--minutes",
                        options.minutes,
                    ]
                    (record,) = ask(options.peer, [name, "--seeds", seed, *quick, *kept])
                else:
                    record = ours(name, int(seed), data)
                file.write_text(json.dumps(record))
    records = [json.loads(file.read_text()) for file in sorted(options.out.glob("*.json"))]
    if records:
        show(records)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="a Python that has recbole 1.2.1")
    parser.add_argument("--what", default=",".join(("speed", *OURS, *PEERS)))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("recbole"))
    parser.add_argument("--minutes", default="1e6", help="most, of training a peer")
    parser.add_argument("--plain", action="store_true", help="without recbole_quick.py")
    main(parser.parse_args())
