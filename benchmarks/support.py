"""Customer service: accuracy and MRR of the preset on banking77 beside simpler ways; escalation;
finding the mate of a Chinese question on atec.

    python benchmarks/support.py [few] [all] [atec] [--seeds 5]

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
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from m6rec.arrays import Array, Ids, Scores
from m6rec.data.dataset import Dataset
from m6rec.data.vocab import Vocab
from m6rec.models.base import Recipe
from m6rec.models.confident import ConfidentModel, calibration_error
from m6rec.models.fallback import mixture
from m6rec.text import BothEncoder, HashedEncoder, SentenceEncoder
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


def english(text: str) -> list[str]:
    return text.lower().replace("?", " ").replace(",", " ").split()


def bm25(
    past: Sequence[str], asked: Sequence[str], words: Callable[[str], list[str]] = english,
    k1: float = 1.2, b: float = 0.75,
) -> csr_array:  # fmt: skip
    """(asked, past) scores by Robertson & Zaragoza 2009."""
    told, questions = [words(text) for text in past], [words(text) for text in asked]
    place = {w: i for i, w in enumerate(sorted({w for each in told for w in each}))}
    counts, wanted = (
        csr_array(
            (
                np.ones(sum(map(len, known)), np.float32),
                (
                    np.repeat(np.arange(len(known)), [len(each) for each in known]),
                    np.array([place[w] for each in known for w in each], np.int64),
                ),
            ),
            shape=(len(known), len(place)),
        )
        for known in (told, [[w for w in each if w in place] for each in questions])
    )
    counts.sum_duplicates()
    length = counts.sum(axis=1)
    df = np.bincount(counts.indices, minlength=len(place))
    idf = np.log(1 + (len(told) - df + 0.5) / (df + 0.5))
    row = np.repeat(np.arange(len(told)), np.diff(counts.indptr))
    norm = k1 * (1 - b + b * length / length.mean())
    counts.data = (idf[counts.indices] * counts.data * (k1 + 1) / (counts.data + norm[row])).astype(
        np.float32
    )
    return csr_array(wanted @ counts.T)


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
        "right of escalated": float(right[~kept].mean()) if not kept.all() else np.nan,
        "aurc": float(np.mean(risk(sure, right))),
    }
    curve = risk(sure, right)
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        found["escalation"][f"risk at {share:.0%}"] = float(curve[round(share * len(curve)) - 1])
    if baselines:
        encoder, vectors = SentenceEncoder().fit_encode(past, run)
        test = encoder.encode(asked)
        found["BM25, best past question"] = figures(
            best_of(bm25(past, asked).toarray(), known, len(names)), wanted
        )
        found["encoder, best past question"] = figures(
            best_of(test @ vectors.T, known, len(names)), wanted
        )
        found["logistic regression"] = figures(regression(vectors, known, test), wanted)
    return found


def atec(asked: int = 1000, batch: int = 100) -> None:
    """Is a question of the same meaning found among all others? Clusters are made of the pairs that
    people called alike; nothing is trained on them."""
    import jieba

    path = DATA / "atec" / "atec_nlp_sim_train.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; see the README of the data folder")
    pairs = [line.split("\t")[1:4] for line in path.read_text("utf-8-sig").splitlines()]
    texts = sorted({text.strip() for a, b, _ in pairs for text in (a, b)})
    code = {text: i for i, text in enumerate(texts)}
    same = np.array([(code[a.strip()], code[b.strip()]) for a, b, label in pairs if label == "1"])
    links = csr_array((np.ones(len(same)), same.T), shape=(len(texts), len(texts)))
    _, cluster = connected_components(links, directed=False)
    mates = np.flatnonzero(np.bincount(cluster)[cluster] > 1)
    chosen = np.sort(np.random.default_rng(0).permutation(mates)[:asked])
    print(f"atec: {asked} questions, a mate among {len(texts):,}; recall@1, recall@10")
    jieba.setLogLevel(60)
    words = bm25(texts, [texts[i] for i in chosen], lambda text: [*jieba.cut(text)])
    run = Run(threads=1)
    ways: dict[str, Callable[[Array], Array]] = {
        "BM25 on words by jieba": lambda rows: words[rows].toarray()
    }
    made = {
        "hashed": HashedEncoder(dim=384), "sentence": SentenceEncoder(), "both": BothEncoder(),
    }  # fmt: skip
    for name, recipe in made.items():
        _, vectors = recipe.fit_encode(texts, run)
        ways[name] = lambda rows, v=vectors: v[chosen[rows]] @ v.T
    for name, scores_of in ways.items():
        hits = []
        for at in range(0, len(chosen), batch):
            rows = np.arange(at, min(at + batch, len(chosen)))
            scores = np.asarray(scores_of(rows), np.float32)
            scores[np.arange(len(rows)), chosen[rows]] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            hits.append(cluster[best] == cluster[chosen[rows]][:, None])
        found = np.concatenate(hits)
        spread = [1.96 * f.std() / np.sqrt(len(f)) for f in (found[:, 0], found.any(axis=1))]
        print(f"  {name:28s} {found[:, 0].mean():.4f} ±{spread[0]:.4f}   "
              f"{found.any(axis=1).mean():.4f} ±{spread[1]:.4f}", flush=True)  # fmt: skip


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
        if size == "atec":
            atec()
            continue
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
