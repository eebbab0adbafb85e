"""The text encoders beside each other: speed, retrieval in two languages, recommendation.

Usage: text_encoder.py [--seeds N] [--users N]. Both encoders in one run, on one thread; times are
of the processor. The disk cache is a fresh folder. seeds: of the hidden items.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from dataclasses import replace

import numpy as np
from datasets import games, path

from m6rec.compiled import threads
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Recipe
from m6rec.models.pct import Pct
from m6rec.models.text import Text
from m6rec.models.transfer import Local
from m6rec.results import Evaluation, compare
from m6rec.text import Name, TextEncoder, encoder_of
from m6rec.tracking import Run

NAMES: tuple[Name, ...] = ("hashed", "sentence")
ENCODERS: dict[str, TextEncoder] = {
    "hashed, 128": encoder_of("hashed"),
    "hashed, 512": encoder_of("hashed", 512),
    "sentence, 128": encoder_of("sentence", 128),
    "sentence, 512": encoder_of("sentence"),
}
METRICS = ("ndcg@10", "recall@50")


def speed(encoder: TextEncoder, texts: list[str], repeats: int = 3) -> float:
    """Best texts per processor second of encoding, after a call for compilation and loading."""
    fitted, _ = encoder.fit_encode(texts[:500], Run(threads=1))
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        fitted.encode(texts)
        best = max(best, len(texts) / (time.process_time() - start))
    return best


def nearest_intent(encoder: TextEncoder) -> float:
    """banking77: share of test questions whose nearest train question has their intent."""
    sides = []
    for part in ("train", "test"):
        with path(f"banking77/{part}.csv").open() as file:
            sides.append(np.array(list(csv.reader(file))[1:]))
    train, test = sides
    fitted, vectors = encoder.fit_encode(train[:, 0].tolist(), Run(threads=1))
    like = fitted.encode(test[:, 0].tolist()) @ vectors.T
    return float((train[like.argmax(axis=1), 1] == test[:, 1]).mean())


def find_mate(encoder: TextEncoder, n: int = 1000) -> float:
    """atec: MRR of the mate of n questions among all others."""
    with path("atec/atec_nlp_sim_train.csv").open(encoding="utf-8-sig") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    texts = sorted({text for row in rows for text in row[1:3]})
    place = {text: i for i, text in enumerate(texts)}
    mates = [(place[row[1]], place[row[2]]) for row in rows if row[3] == "1"]
    asked, answer = np.random.default_rng(0).permutation(mates)[:n].T
    _, vectors = encoder.fit_encode(texts, Run(threads=1))
    like = vectors[asked] @ vectors.T
    here = np.arange(len(asked))
    like[here, asked] = -np.inf
    rank = (like >= like[here, answer][:, None]).sum(axis=1)
    return float((1 / rank).mean())


def sampled(split: Split, users: int) -> Split:
    """The split with the test events of some users only."""
    some = np.random.default_rng(0).permutation(np.unique(split.test.user))[:users]
    return replace(split, test=split.test.take(np.isin(split.test.user, some)))


def beside(label: str, split: Split, recipes: dict[str, Recipe]) -> None:
    """Print both models, and the second minus the first with its paired 95 % interval."""
    found: list[Evaluation] = []
    for name, recipe in recipes.items():
        start = time.process_time()
        model = recipe.fit(split.train, Run(threads=1))
        seconds = time.process_time() - start
        found.append(evaluate(model, split, metrics=METRICS, run=Run(threads=1)))
        values = "  ".join(f"{m} {found[-1][m]:.4f}" for m in METRICS)
        print(f"{label:<24} {name:<9} {values}   fit {seconds:.0f} s", flush=True)
    for d in compare(found[1], found[0]):
        if d.slice == "all":
            print(f"{'':<24} {d.metric}: {d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--users", type=int, default=2000)
    options = parser.parse_args()
    with path("games-titles/items.tsv").open() as file:
        titles = [line.rstrip("\n").split("\t")[1] for line in file][1:4001]
    print("encoder             titles per second   banking77 accuracy   atec MRR")
    for name, encoder in ENCODERS.items():
        rate = speed(encoder, titles)
        print(f"{name:<16} {rate:>12,.0f} {nearest_intent(encoder):>26.3f} "
              f"{find_mate(encoder):>18.3f}", flush=True)  # fmt: skip
    known = sampled(games(), options.users)
    beside("text, leave-last", known, {n: Text(encoder=n) for n in NAMES})
    local = {"games": Local()}
    for seed in range(options.seeds):
        hidden = sampled(games(cold=0.1, seed=seed), options.users)
        beside(f"text, new items, {seed}", hidden, {n: Text(encoder=n) for n in NAMES})
        for dim in (64, 128):
            recipes: dict[str, Recipe] = {
                n: Pct(encoder=n, text_dim=dim, domains=local) for n in NAMES
            }
            beside(f"pct φ {dim}, new items, {seed}", hidden, recipes)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, threads(1):
        os.environ["M6REC_CACHE"] = folder
        main()
