"""Speed and likeness of the built-in text encoder: English questions, Chinese question pairs."""

from __future__ import annotations

import csv
import time

import numpy as np
from datasets import path

from m6rec.text import TextEncoder


def timed(texts: list[str], repeats: int = 3) -> float:
    """Best texts per second of encoding, after one call for compilation."""
    encoder = TextEncoder().fit(texts[:2000])
    encoder.encode(texts[:10])
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        encoder.encode(texts)
        best = max(best, len(texts) / (time.perf_counter() - start))
    return best


def nearest_intent() -> tuple[float, float]:
    """banking77: share of test questions whose nearest train question has their intent; fit s."""
    sides = []
    for part in ("train", "test"):
        with path(f"banking77/{part}.csv").open() as file:
            sides.append(np.array(list(csv.reader(file))[1:]))
    train, test = sides
    start = time.perf_counter()
    encoder = TextEncoder().fit(train[:, 0].tolist())
    seconds = time.perf_counter() - start
    like = encoder.encode(test[:, 0].tolist()) @ encoder.encode(train[:, 0].tolist()).T
    return float((train[like.argmax(axis=1), 1] == test[:, 1]).mean()), seconds


def find_mate(n: int = 1000) -> tuple[float, int]:
    """atec: MRR of the mate of n questions among all others, and how many those are."""
    with path("atec/atec_nlp_sim_train.csv").open(encoding="utf-8-sig") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    texts = sorted({text for row in rows for text in row[1:3]})
    place = {text: i for i, text in enumerate(texts)}
    mates = [(place[row[1]], place[row[2]]) for row in rows if row[3] == "1"]
    asked, answer = np.random.default_rng(0).permutation(mates)[:n].T
    vectors = TextEncoder().fit(texts).encode(texts)
    like = vectors[asked] @ vectors.T
    here = np.arange(len(asked))
    like[here, asked] = -np.inf
    rank = (like >= like[here, answer][:, None]).sum(axis=1)
    return float((1 / rank).mean()), len(texts)


if __name__ == "__main__":
    with path("games-titles/items.tsv").open() as file:
        titles = [line.rstrip("\n").split("\t")[1] for line in file][1:]
    print(f"game titles (mean {np.mean([len(t) for t in titles]):.0f} characters): "
          f"{timed(titles * 3):,.0f} texts/s")  # fmt: skip
    accuracy, seconds = nearest_intent()
    print(f"banking77 nearest question has the intent: {accuracy:.3f} (fit {seconds:.1f} s)")
    mrr, n = find_mate()
    print(f"atec mate among {n:,}: MRR {mrr:.3f}")
