"""What a text says: P(negative, neutral, positive), from the word list and the user's labels.

Multinomial logistic regression on sentence vectors, words and pairs of words, and the features of
the finance lexicon. Its weights are shrunk towards the lexicon alone, so it starts there without
a single label and leaves it as labels come in. Strength of the shrinkage and temperature are
chosen out of fold, inside the labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.sparse import csr_array

from m6rec import config
from m6rec.arrays import Array, Floats, Ids, State, nest, unnest
from m6rec.errors import DataError
from m6rec.opinion.lexicon import NAMES, lexicon, scores
from m6rec.text import Choice, FittedText, TextEncoder, encoder_of, resolve
from m6rec.text.hashed import count_grams
from m6rec.tracking import Run

CLASSES = ("negative", "neutral", "positive")
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FOLDS = 5
LEAST = 12  # labels from which on there is a fit
BUCKETS = 65_536
TWICE = 2  # labelled texts that a word must be in
STEPS = 300  # of L-BFGS


@dataclass(frozen=True, kw_only=True)
class Sentiment:
    """How sentiment is learned.

    encoder: of sentence vectors: "sentence" (needs the extra ``text``), "hashed", or "auto".
    words: weight of words and pairs of words next to 1 for the vector. lexicon: of the word list;
    0 = without it, once there are labels.
    reg: how strongly weights are drawn to the lexicon; None = chosen out of fold.
    """

    encoder: Choice = "auto"
    words: float = 1.0
    lexicon: float = 1.0
    reg: float | None = None

    def __post_init__(self) -> None:
        if self.words < 0 or self.lexicon < 0:
            raise ValueError("words and lexicon must not be below 0")
        if self.reg is not None and self.reg <= 0:
            raise ValueError(f"reg = {self.reg}: must be above 0")

    def fit(
        self,
        texts: Sequence[str],
        labels: Ids,
        run: Run | None = None,
        start: Reader | None = None,
    ) -> Reader:
        """Fit on n texts and their labels (n,): 0 negative, 1 neutral, 2 positive.

        start: a reader to lead on from, instead of the lexicon. With fewer than 12 labels, or of
        one class only, it answers alone.
        """
        run = run or Run()
        labels = np.asarray(labels)
        if len(labels) != len(texts) or not np.isin(labels, (0, 1, 2)).all():
            raise DataError("labels must be 0, 1 or 2, one for each text")
        if len(texts) < LEAST or len(np.unique(labels)) < 2:
            return start or Reader(self, {})
        fixed = replace(self, encoder=resolve(self.encoder))
        text, vectors = _encoder(fixed).fit_encode(texts, run)
        counts = count_grams(texts, BUCKETS, 0)
        facts = lexicon().features(texts)
        first = _start(fixed, facts) if start is None else start.logits(texts)
        inputs = _Inputs.fit(fixed, counts, facts)
        x = inputs.of(vectors, counts, facts)
        logits, strength = _choose(x, first, labels, fixed.reg, run)
        temperature = _temperature(logits, labels)
        run.log(reg=strength, temperature=temperature, labels=len(labels))
        weights = _solve(x, first, labels, strength)
        return Reader(
            replace(fixed, reg=strength),
            {
                **nest("text", text.state()),
                **inputs.state(),
                "weights": weights.astype(np.float32),
                "temperature": np.array([temperature], np.float32),
            },
            start,
        )

    def restore(self, state: State) -> Reader:
        """Return the reader whose ``state()`` this was, if it led on from the lexicon."""
        return Reader(self, state)


class Reader:
    """Fitted; arrays only. Without arrays it is the lexicon alone. start: the reader that it leads
    on from, None = the lexicon."""

    def __init__(self, recipe: Sentiment, state: State, start: Reader | None = None) -> None:
        self.recipe, self.start = recipe, start
        self._state = state
        self._text: FittedText | None = None
        if state:
            self._text = _encoder(recipe).restore(unnest("text", state))
            self._inputs = _Inputs.restore(recipe, state)

    @property
    def fingerprint(self) -> str:
        """What tells this reader from others, in 16 characters."""
        digest = hashlib.sha256(config.dumps(self.recipe).encode())
        for name, value in sorted(self.state().items()):
            digest.update(name.encode() + value.tobytes())
        return digest.hexdigest()[:16]

    def read(self, texts: Sequence[str], calibrated: bool = True) -> Floats:
        """Return (n, 3) float32 probabilities of negative, neutral, positive."""
        found: Floats = _softmax(self.logits(texts, calibrated)).astype(np.float32)
        return found

    def logits(self, texts: Sequence[str], calibrated: bool = True) -> Array:
        """Return (n, 3) whose softmax the probabilities are."""
        facts = lexicon().features(texts)
        if self._text is None:
            return scores(facts)
        first = _start(self.recipe, facts) if self.start is None else self.start.logits(texts)
        if not len(texts):
            return first
        x = self._inputs.of(self._text.encode(texts), count_grams(texts, BUCKETS, 0), facts)
        found: Array = first + _times(x, self._state["weights"].astype(float))
        return found / self._state["temperature"][0] if calibrated else found

    def state(self) -> State:
        """Return the fitted arrays, those of ``start`` included."""
        return {**self._state, **(nest("start", self.start.state()) if self.start else {})}

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file: arrays, and the recipe as TOML; there whole or not at all."""
        from safetensors.numpy import save

        path = Path(path)
        arrays = {name: np.ascontiguousarray(value) for name, value in self.state().items()}
        recipes, each = [], self
        while True:
            recipes.append(config.to_table(each.recipe))
            if each.start is None:
                break
            each = each.start
        part = path.with_name(f".{path.name}.part")
        about = {"recipes": json.dumps(recipes)}
        part.write_bytes(save(arrays or {"none": np.zeros(1)}, about))
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Reader:
        """Read what ``save`` wrote; DataError where it is something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                recipes = json.loads(file.metadata()["recipes"])
                state = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is not a reader of sentiment: {error}") from None
        state.pop("none", None)
        found: Reader | None = None
        for depth in reversed(range(len(recipes))):
            prefix = "start/" * depth
            own = {
                name.removeprefix(prefix): value for name, value in state.items()
                if name.startswith(prefix) and not name.startswith(f"{prefix}start/")
            }  # fmt: skip
            recipe = config.from_table(Sentiment, recipes[depth], str(path))
            found = Reader(recipe, own, found)
        if found is None:
            raise DataError(f"{path}: is not a reader of sentiment: it names no recipe")
        return found


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Vectors, words and lexicon side by side. bucket: (V,) words known, with idf (V,); mean and
    scale: (14,) of the lexicon's features."""

    recipe: Sentiment
    bucket: Ids
    idf: Array
    mean: Array
    scale: Array

    @classmethod
    def fit(cls, recipe: Sentiment, counts: csr_array, facts: Floats) -> _Inputs:
        frequency = np.bincount(counts.indices, minlength=BUCKETS)
        bucket = np.flatnonzero(frequency >= TWICE).astype(np.int32)
        idf = np.log((1 + counts.shape[0]) / (1 + frequency[bucket])) + 1
        spread = facts.std(axis=0)
        return cls(
            recipe,
            bucket,
            idf.astype(np.float32),
            facts.mean(axis=0),
            np.where(spread > 1e-6, spread, 1).astype(np.float32),
        )

    @classmethod
    def restore(cls, recipe: Sentiment, state: State) -> _Inputs:
        return cls(recipe, state["bucket"], state["idf"], state["mean"], state["scale"])

    def state(self) -> State:
        return {
            "bucket": self.bucket, "idf": self.idf, "mean": self.mean, "scale": self.scale,
        }  # fmt: skip

    def of(self, vectors: Floats, counts: csr_array, facts: Floats) -> tuple[Array, csr_array]:
        """Return the dense inputs (n, d + 15), the last of which is 1, and the sparse (n, V)."""
        told = (facts - self.mean) / self.scale * (self.recipe.lexicon / np.sqrt(len(NAMES)))
        ones = np.ones((len(vectors), 1))
        words = csr_array(counts[:, self.bucket])
        words.data = words.data * self.idf[words.indices]
        row = np.repeat(np.arange(words.shape[0]), np.diff(words.indptr))
        norm = np.sqrt(np.bincount(row, words.data**2, words.shape[0]))
        words.data = words.data * (self.recipe.words / np.maximum(norm, 1e-9)[row])
        return np.hstack([vectors, told, ones]).astype(float), words


Inputs = tuple[Array, csr_array]


def _start(recipe: Sentiment, facts: Floats) -> Floats:
    """(n, 3) logits from which the weights lead on."""
    return scores(facts) if recipe.lexicon > 0 else np.zeros((len(facts), 3), np.float32)


def _encoder(recipe: Sentiment) -> TextEncoder:
    return encoder_of(resolve(recipe.encoder))


def _times(x: Inputs, weights: Array) -> Array:
    dense, words = x
    product: Array = dense @ weights[: dense.shape[1]] + words @ weights[dense.shape[1] :]
    return product


def _solve(
    x: Inputs, start: Array, labels: Ids, strength: float, warm: Array | None = None
) -> Array:
    """(d + 15 + V, 3) weights that minimise Σ −log softmax(start + x·w)_label + strength/2 |w|².

    The intercept, the last dense column, is not drawn to 0.
    """
    dense, words = x
    d, shape = dense.shape[1], (dense.shape[1] + words.shape[1], 3)
    free = np.ones((shape[0], 1))
    free[d - 1] = 1e-3
    aim = np.eye(3)[labels]
    columns = csr_array(words.T)

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(shape)
        logits = start + _times(x, w)
        top = logits.max(axis=1, keepdims=True)
        log = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        off = np.exp(log) - aim
        gradient = np.vstack([dense.T @ off, columns @ off]) + strength * free * w
        value = -(log * aim).sum() + strength / 2 * (free * w**2).sum()
        return float(value), gradient.ravel()

    first = np.zeros(shape) if warm is None else warm
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B",
                     options={"maxiter": STEPS, "ftol": 1e-7, "maxcor": 20})  # fmt: skip
    weights: Array = found.x.reshape(shape)
    return weights


def _choose(
    x: Inputs, start: Array, labels: Ids, reg: float | None, run: Run
) -> tuple[Array, float]:
    """Return logits out of fold (n, 3), by the strength with the least loss, and that strength."""
    dense, words = x
    fold = _folds(labels, run.rng("sentiment"))
    tried: dict[float, Array] = {}
    for strength in sorted(STRENGTHS if reg is None else (reg,), reverse=True):
        tried[strength] = np.zeros((len(labels), 3))
    for k in range(FOLDS):
        a, b = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        inside, outside = (dense[a], csr_array(words[a])), (dense[b], csr_array(words[b]))
        weights = None
        for strength, logits in tried.items():
            weights = _solve(inside, start[a], labels[a], strength, weights)
            logits[b] = start[b] + _times(outside, weights)
    best = min(tried, key=lambda each: _loss(tried[each], labels, 1.0))
    return tried[best], best


def _folds(labels: Ids, rng: np.random.Generator) -> Ids:
    """(n,) folds, each with its share of every class."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % FOLDS
    return fold


def _temperature(logits: Array, labels: Ids) -> float:
    """The divisor of the logits with the least loss. Source: Guo et al. 2017."""
    found = minimize_scalar(
        lambda log: _loss(logits, labels, float(np.exp(log))), bounds=(-3, 3), method="bounded"
    )
    return float(np.exp(found.x))


def _loss(logits: Array, labels: Ids, temperature: float) -> float:
    p = _softmax(logits / temperature)
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12)).mean())


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(logits) else logits
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found
