"""Sentiment of financial sentences: M6-Rec's reader beside the word list and TF-IDF, 5 folds.

    python benchmarks/opinion_sentiment.py [AllAgree] [75Agree] [--curve] [--seed 0]

Data: financial-phrasebank (Malo et al. 2014), each sentence once. Five stratified folds; every
model sees the same training folds and chooses its options inside them (out of fold), never on the
test fold. Models: the finance lexicon alone; TF-IDF of words and pairs with logistic regression
of scikit-learn (`pip install scikit-learn`), at its defaults and with C chosen by 5 folds inside;
sentence vectors alone; and what `m6rec` uses, which adds words and the lexicon to them.

Macro-F1 with 95 % intervals (bootstrap over sentences, 2,000 draws), differences paired; expected
calibration error (15 bins of equal width, Guo et al. 2017), of the reader before and after its
temperature. --curve: by the number of labels, drawn from the training folds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import datasets
import numpy as np

from m6rec.opinion.lexicon import LICENCE, lexicon
from m6rec.opinion.sentiment import CLASSES, Reader, Sentiment
from m6rec.tracking import Run

FOLDS = 5
BINS = 15
DRAWS = 2000
SIZES = (0, 30, 100, 300, 1000)
Array = np.ndarray
Fit = Callable[[list[str], Array], Callable[[list[str]], Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=["AllAgree"])
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.sets:
        texts, labels = read(name)
        fold = folds(labels, given.seed)
        print(f"\n{name}: {len(texts)} sentences, {np.bincount(labels)} {', '.join(CLASSES)}")
        (curve if given.curve else compare)(texts, labels, fold, given.seed)


def read(name: str) -> tuple[list[str], Array]:
    """Return sentences and their classes, each sentence once."""
    file = datasets.path(f"financial-phrasebank/Sentences_{name}.txt")
    rows = [line.rsplit("@", 1) for line in file.read_text("latin-1").split("\n") if "@" in line]
    found = {text.strip(): CLASSES.index(label.strip()) for text, label in reversed(rows)}
    return list(found), np.array(list(found.values()))


def folds(labels: Array, seed: int) -> Array:
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % FOLDS
    return fold


def compare(texts: list[str], labels: Array, fold: Array, seed: int) -> None:
    models: dict[str, Fit] = {
        "lexicon alone": word_list,
        "TF-IDF + LR, defaults": tfidf(False),
        "TF-IDF + LR, C chosen": tfidf(True),
        "sentence vectors alone": learned(words=0.0, lexicon=0.0),
        "m6rec, not calibrated": learned(calibrated=False),
        "m6rec": learned(),
    }
    found = {}
    print(f"\n{'model':26}{'macro-F1':>9}  {'95 %':15}{'accuracy':>9}{'ECE':>7}{'seconds':>9}")
    for name, fit in models.items():
        started = time.perf_counter()
        p = out_of_fold(fit, texts, labels, fold)
        took = time.perf_counter() - started
        found[name] = p
        draws = drawn(labels, p, seed)
        low, high = np.quantile(draws, [0.025, 0.975])
        print(
            f"{name:26}{macro_f1(labels, p.argmax(1)):9.3f}  {low:.3f} to {high:.3f}"
            f"{(p.argmax(1) == labels).mean():10.3f}{ece(labels, p):7.3f}{took:9.1f}",
            flush=True,
        )
    for other in ("lexicon alone", "TF-IDF + LR, C chosen", "sentence vectors alone"):
        difference = drawn(labels, found["m6rec"], seed) - drawn(labels, found[other], seed)
        low, high = np.quantile(difference, [0.025, 0.975])
        print(f"m6rec less {other}: {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    said = found["m6rec"].argmax(1)
    print("rows: true; columns: said", CLASSES)
    print(np.array([[((labels == a) & (said == b)).sum() for b in range(3)] for a in range(3)]))


def curve(texts: list[str], labels: Array, fold: Array, seed: int) -> None:
    print(f"\n{'labels':>8}{'m6rec':>9}{'ECE':>7}{'TF-IDF + LR':>13}")
    for size in (*SIZES, None):
        p = out_of_fold(learned(), texts, labels, fold, size, seed)
        line = f"{'all' if size is None else size:>8}{macro_f1(labels, p.argmax(1)):9.3f}"
        line += f"{ece(labels, p):7.3f}"
        if size != 0:
            other = out_of_fold(tfidf(True), texts, labels, fold, size, seed)
            line += f"{macro_f1(labels, other.argmax(1)):13.3f}"
        print(line, flush=True)


def out_of_fold(
    fit: Fit, texts: list[str], labels: Array, fold: Array, size: int | None = None, seed: int = 0
) -> Array:
    """(n, 3) probabilities of each sentence by a model that has not seen its fold."""
    p = np.zeros((len(texts), 3))
    for k in range(FOLDS):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if size is not None:
            train = np.random.default_rng([seed, k, size]).permutation(train)[:size]
        model = fit([texts[i] for i in train], labels[train])
        p[test] = model([texts[i] for i in test])
    return p


def word_list(texts: list[str], labels: Array) -> Callable[[list[str]], Array]:
    return Reader(Sentiment(), {}).read


def learned(calibrated: bool = True, **options: float) -> Fit:
    def fit(texts: list[str], labels: Array) -> Callable[[list[str]], Array]:
        reader = Sentiment(**options).fit(texts, labels, Run(seed=0))
        return lambda asked: reader.read(asked, calibrated)

    return fit


def tfidf(chosen: bool) -> Fit:
    def fit(texts: list[str], labels: Array) -> Callable[[list[str]], Array]:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.model_selection import GridSearchCV, StratifiedKFold
            from sklearn.pipeline import make_pipeline
        except ImportError:
            sys.exit("this benchmark compares with scikit-learn: pip install scikit-learn")
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(max_iter=1000))
        if chosen:
            grid = {"logisticregression__C": [0.1, 1, 10, 100, 1000]}
            inside = min(5, int(np.bincount(labels, minlength=3).min()))
            if inside >= 2:
                split = StratifiedKFold(inside, shuffle=True, random_state=0)
                model = GridSearchCV(model, grid, scoring="f1_macro", cv=split)
        model.fit(texts, labels)

        def read(asked: list[str]) -> Array:
            p = np.zeros((len(asked), 3))
            p[:, model.classes_] = model.predict_proba(asked)
            return p

        return read

    return fit


def macro_f1(labels: Array, said: Array) -> float:
    return float(f1_of(labels[None], said[None])[0])


def f1_of(labels: Array, said: Array) -> Array:
    """(draws,) macro-F1 of rows of classes."""
    per_class = [
        2 * ((labels == c) & (said == c)).sum(1)
        / np.maximum((labels == c).sum(1) + (said == c).sum(1), 1)
        for c in range(3)
    ]  # fmt: skip
    return np.mean(per_class, axis=0)


def drawn(labels: Array, p: Array, seed: int) -> Array:
    """(draws,) macro-F1 of bootstrap samples, the same ones for all models."""
    at = np.random.default_rng(seed).integers(0, len(labels), (DRAWS, len(labels)))
    return f1_of(labels[at], p.argmax(1)[at])


def ece(labels: Array, p: Array) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over bins, by their size."""
    sure, right = p.max(1), p.argmax(1) == labels
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    size = np.bincount(place, minlength=BINS)
    gap = np.bincount(place, right, BINS) - np.bincount(place, sure, BINS)
    return float(np.abs(gap[size > 0]).sum() / len(labels))


if __name__ == "__main__":
    print(f"finance lexicon: {len(lexicon())} words, {LICENCE}")
    main()
