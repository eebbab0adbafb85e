"""Customer service on banking77: accuracy and MRR of the preset beside simpler ways; escalation.

    python benchmarks/support.py [few] [all] [--seeds 5]

The model is that of the preset (scenarios/support.toml); λ, confidence and every option are learned
on holdouts inside train. The test file is read once, to be asked.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import tomllib
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from m6rec.arrays import Array, Ids, Scores
from m6rec.data.dataset import Dataset
from m6rec.data.vocab import Vocab
from m6rec.models.base import Recipe
from m6rec.models.confident import ConfidentModel, calibration_error
from m6rec.models.fallback import mixture
from m6rec.text import SentenceEncoder
from m6rec.tracking import Run

DATA = Path(__file__).parents[2] / "shared" / "data"
FEW = 10


def read(name: str) -> tuple[list[str], list[str]]:
    path = DATA / "banking77" / f"{name}.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; see the README of the data folder")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def dataset(texts: Sequence[str], answers: Ids, names: Sequence[str]) -> Dataset:
    """Questions are users, categories are answers whose text is their name."""
    n = len(texts)
    return Dataset.build(
        user=np.arange(n), item=answers,
        users=Vocab([f"q{i}" for i in range(n)]),
        items=Vocab([f"items/{name}" for name in names]),
        item_text=tuple(name.replace("_", " ") for name in names),
        user_text=tuple(texts),
        ordered=False,
    )  # fmt: skip


def ranks(scores: Scores | Array, wanted: Ids) -> Array:
    """1 = first; ties count against us."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    places: Array = (np.nan_to_num(scores, nan=-np.inf) >= own).sum(axis=1)
    return places


def bm25(past: Sequence[str], asked: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Array:
    """(asked, past) scores by Robertson & Zaragoza 2009, on lower-case words."""
    words = [text.lower().replace("?", " ").replace(",", " ").split() for text in past]
    length = np.array([len(w) for w in words])
    vocabulary = {w: i for i, w in enumerate(sorted({w for each in words for w in each}))}
    counts = np.zeros((len(past), len(vocabulary)), np.float32)
    for row, each in enumerate(words):
        for w in each:
            counts[row, vocabulary[w]] += 1
    df = (counts > 0).sum(axis=0)
    idf = np.log(1 + (len(past) - df + 0.5) / (df + 0.5))
    norm = k1 * (1 - b + b * length / length.mean())[:, None]
    weight = (idf * counts * (k1 + 1) / (counts + norm)).astype(np.float32)
    found = np.zeros((len(asked), len(past)), np.float32)
    for row, text in enumerate(asked):
        for w in text.lower().replace("?", " ").replace(",", " ").split():
            if w in vocabulary:
                found[row] += weight[:, vocabulary[w]]
    return found


def best_of(similarity: Array, answer: Ids, n: int) -> Array:
    """(asked, n): the best past question of each answer."""
    found = np.full((len(similarity), n), -np.inf)
    for each in range(n):
        found[:, each] = similarity[:, answer == each].max(axis=1)
    return found


def regression(train: Array, answer: Ids, test: Array) -> Array:
    """Logistic regression of scikit-learn, its C by five folds of train."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {c: LogisticRegression(C=c, max_iter=500) for c in (1, 10, 100)}
        quality = {c: cross_val_score(m, train, answer, cv=3).mean() for c, m in made.items()}
        best = max(quality, key=lambda c: quality[c])
        found: Array = made[best].fit(train, answer).decision_function(test)
    return found


def figures(scores: Scores | Array, wanted: Ids) -> dict[str, float]:
    place = ranks(scores, wanted)
    return {"accuracy@1": float((place == 1).mean()), "mrr": float((1 / place).mean())}


def once(size: str, seed: int, baselines: bool) -> dict[str, dict[str, float]]:
    texts, categories = read("train")
    asked, truth = read("test")
    names = sorted(set(categories))
    answer, wanted = (np.searchsorted(names, each) for each in (categories, truth))
    rows = np.arange(len(texts))
    if size == "few":
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(np.flatnonzero(answer == c))[:FEW] for c in range(len(names))]
        rows = np.sort(np.concatenate(drawn))
    past, known = [texts[i] for i in rows], answer[rows]
    whole = dataset([*past, *asked], np.r_[known, wanted], names)
    n = len(past)
    train = whole.take(whole.user < n)
    recipe = Recipe.from_table(preset()["model"])
    run = Run(seed=seed, threads=1)
    began = time.perf_counter()
    model = recipe.fit(train, run)
    seconds = time.perf_counter() - began
    assert isinstance(model, ConfidentModel)
    query = train.query(np.arange(n, n + len(asked)))
    scores = model.score(query)
    found = {"fused": figures(scores, wanted) | {"seconds": seconds}}
    blend = mixture(model)
    assert blend is not None
    for part in blend.parts:
        found[part.recipe.kind] = figures(part.score(query), wanted)
    names_ = [part.recipe.kind for part in blend.parts]
    found["λ"] = dict(zip(names_, blend.words[0].round(3).tolist(), strict=True))
    sure = model.confidence(scores)
    right = ranks(scores, wanted) == 1
    kept = sure >= model.threshold
    found["escalation"] = {
        "calibration error": calibration_error(sure, right),
        "answered": float(kept.mean()),
        "wrong of answered": float(1 - right[kept].mean()),
        "right of escalated": float(right[~kept].mean()),
        "aurc": float(np.mean(risk(sure, right))),
    }
    curve = risk(sure, right)
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        found["escalation"][f"risk at {share:.0%}"] = float(curve[round(share * len(curve)) - 1])
    if baselines:
        encoder, vectors = SentenceEncoder().fit_encode(past, run)
        test = encoder.encode(asked)
        found["BM25, best past question"] = figures(
            best_of(bm25(past, asked), known, len(names)), wanted
        )
        found["encoder, best past question"] = figures(
            best_of(test @ vectors.T, known, len(names)), wanted
        )
        found["logistic regression"] = figures(regression(vectors, known, test), wanted)
    return found


def risk(sure: Array, right: Array) -> Array:
    """Share of wrong answers among the surest 1, 2, … requests."""
    order = np.argsort(-sure, kind="stable")
    wrong: Array = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    return wrong


def preset() -> dict[str, dict[str, object]]:
    return tomllib.loads(files("m6rec.scenarios").joinpath("support.toml").read_text())


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("sizes", nargs="*", default=["few", "all"])
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--no-baselines", action="store_true")
    given = options.parse_args()
    for size in given.sizes:
        seeds = given.seeds if size == "few" else 1
        runs = [once(size, seed, not given.no_baselines) for seed in range(seeds)]
        print(f"banking77, {f'{FEW} of each' if size == 'few' else 'all'}, {seeds} seeds")
        for name in runs[0]:
            line = {}
            for figure in runs[0][name]:
                values = np.array([each[name][figure] for each in runs])
                spread = 1.96 * values.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0
                line[figure] = f"{values.mean():.4f}" + (f" ±{spread:.4f}" if seeds > 1 else "")
            print(f"  {name:28s} {json.dumps(line, ensure_ascii=False)}", flush=True)


if __name__ == "__main__":
    main()
