"""Text → vectors without any download: hashed TF-IDF of words and characters, then an SVD."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, State
from m6rec.compiled import compiled, structure
from m6rec.tracking import Run

BLOCK = 1_000_000  # code points hashed at a time
FIT_TEXTS = 20_000  # texts that the projection is fitted on; idf counts all
SAMPLE = 500  # texts whose words tell how long the share of a known word is
WEAK = 0.05  # share of their words that would not be understood alone
NONE, WORD, IDEOGRAPH = 0, 1, 2
_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bits
_SHIFT, _MIX = np.uint64(33), np.uint64(0xFF51AFD7ED558CCD)
_EDGE, _GRAM = np.uint64(1), np.uint64(2)  # marks of a word's ends and of character n-grams


@dataclass(frozen=True, kw_only=True)
class HashedEncoder:
    """Latent semantic analysis over hashed words, word pairs and character n-grams.

    Words are runs of letters and digits; Chinese and Japanese characters count one by one and
    in pairs. Source: Deerwester et al. 1990 (LSA); Weinberger et al. 2009 (hashing); Halko et
    al. 2011 (randomised SVD).

    dim: length of the vectors (less where the texts span less). buckets: hash buckets.
    chars: weight of the 3- to 5-grams inside words, next to 1 for words and pairs.
    seed: of the randomised SVD.
    """

    dim: int = 128
    buckets: int = 65_536
    chars: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1 or self.buckets < 1:
            raise ValueError("dim and buckets must be at least 1")
        if self.chars < 0:
            raise ValueError(f"chars = {self.chars}: must not be below 0")

    def fit_encode(self, texts: Sequence[str], run: Run) -> tuple[HashedText, Floats]:
        """Fit on texts; return the encoder and their (n, dim) vectors."""
        with run.progress("texts", 2) as advance:
            encoder = self.fit(texts)
            advance(1)
            vectors = encoder.encode(texts)
            advance(1)
        return encoder, vectors

    def fit(self, texts: Sequence[str]) -> HashedText:
        """Fit idf and projection on texts; empty ones are left out."""
        counts = count_grams([text for text in texts if text.strip()], self.buckets, self.chars)
        n = counts.shape[0]
        frequency = np.bincount(counts.indices, minlength=self.buckets)
        bucket = np.flatnonzero(frequency)
        idf = np.zeros(self.buckets, np.float32)
        idf[bucket] = np.log((1 + n) / (1 + frequency[bucket])) + 1
        if n > FIT_TEXTS:
            rng = np.random.default_rng(self.seed)
            counts = counts[np.sort(rng.choice(n, FIT_TEXTS, replace=False))]
        basis = _right_singular(_weighted(counts, idf, bucket), self.dim, self.seed)
        projection = np.zeros((self.buckets, basis.shape[1]), np.float32)
        projection[bucket] = basis
        return HashedText(self, idf, projection)

    def restore(self, state: State) -> HashedText:
        """Return the encoder whose ``state()`` this was."""
        bucket = state["bucket"]
        idf = np.zeros(self.buckets, np.float32)
        projection = np.zeros((self.buckets, state["projection"].shape[1]), np.float32)
        idf[bucket], projection[bucket] = state["idf"], state["projection"]
        return HashedText(self, idf, projection)


class HashedText:
    """idf: (buckets,) float32, 0 = never seen; projection: (buckets, dim) float32."""

    def __init__(self, recipe: HashedEncoder, idf: Floats, projection: Floats) -> None:
        self.recipe = recipe
        self.idf = idf
        self.projection = projection

    @property
    def dim(self) -> int:
        return int(self.projection.shape[1])

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 vectors of length 1; zeros where nothing in a text is known."""
        vectors = self.sums(texts)
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(norm > 0, norm, 1)
        return vectors

    def sums(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 sums of the parts; the longer, the more was understood."""
        counts = count_grams(texts, self.recipe.buckets, self.recipe.chars)
        counts.data *= self.idf[counts.indices]
        return _times(counts, self.projection)

    def least(self, texts: Sequence[str], rng: np.random.Generator) -> float:
        """Return the length that all but the weakest words of texts have, by a sample."""
        told = [text for text in texts if text.strip()]
        chosen = rng.permutation(len(told))[:SAMPLE].tolist()
        lengths = [np.linalg.norm(share) for i in chosen for _, share in self.parts(told[i])]
        return float(np.quantile(lengths, WEAK)) if lengths else 0.0

    def parts(self, text: str) -> list[tuple[str, Floats]]:
        """Return each word with its (dim,) share of the vector before it is scaled to length 1.

        A word pair counts for its later word.
        """
        text = _plain(text)
        points = _points(text)
        room = _room(len(points))
        bucket, weight, token = (
            np.empty(room, np.int32),
            np.empty(room, np.float32),
            np.empty(room, np.int32),
        )
        span = np.empty((len(points), 2), np.int32)
        n, n_tokens = _emit(
            points, _classes(), 0, len(points), self.recipe.buckets, self.recipe.chars,
            bucket, weight, token, span,
        )  # fmt: skip
        bucket, weight, token = bucket[:n], weight[:n], token[:n]
        times = np.bincount(bucket, minlength=self.recipe.buckets)[bucket]
        share = weight * (1 + np.log(times)) / times * self.idf[bucket]
        vectors = np.zeros((n_tokens, self.dim), np.float32)
        np.add.at(vectors, token, share[:, None] * self.projection[bucket])
        return [(text[a:b], v) for (a, b), v in zip(span[:n_tokens], vectors, strict=True)]

    def state(self) -> State:
        """Return the fitted arrays, of the buckets in use only."""
        bucket = np.flatnonzero(self.idf).astype(np.int32)
        return {
            "bucket": bucket,
            "idf": self.idf[bucket],
            "projection": np.ascontiguousarray(self.projection[bucket]),
        }


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _room(n_points: int) -> int:
    """Most features that n code points can give: 3 n-grams at n + 2 places, word and pair."""
    return 8 * n_points + 8


@cache
def _classes() -> npt.NDArray[np.int8]:
    """(65536,) NONE, WORD or IDEOGRAPH of each code point; those above are decided in place."""
    table = np.array([WORD if chr(p).isalnum() else NONE for p in range(65_536)], np.int8)
    for first, last in ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)):
        inside = table[first : last + 1]
        inside[inside == WORD] = IDEOGRAPH
    return table


def count_grams(texts: Sequence[str], buckets: int, chars: float) -> csr_array:
    """(n, buckets) float32: 1 + ln(times) of each bucket, times its mean weight."""
    size = np.array([len(text) for text in texts], np.int64)
    block = np.cumsum(size) // BLOCK
    cut = np.r_[0, np.flatnonzero(np.diff(block)) + 1, len(texts)]
    parts = [_count_block(texts[a:b], buckets, chars) for a, b in pairwise(cut)]
    length = np.concatenate([p[0] for p in parts])
    indptr = np.r_[0, np.cumsum(length)]
    indices, data = (np.concatenate([p[i] for p in parts]) for i in (1, 2))
    return csr_array((data, indices, indptr), shape=(len(texts), buckets))


def _count_block(texts: Sequence[str], buckets: int, chars: float) -> tuple[Array, Array, Array]:
    joined = _plain("\0".join([text.replace("\0", " ") for text in texts]))
    points = _points(joined)
    end = np.r_[np.flatnonzero(points == 0), len(points)][: len(texts)]
    start = np.r_[0, end[:-1] + 1][: len(texts)]
    place = _room(0) * np.arange(len(texts)) + (_room(1) - _room(0)) * start
    room = int(place[-1] + _room(int(end[-1] - start[-1]))) if len(texts) else 0
    bucket, weight = np.empty(room, np.int32), np.empty(room, np.float32)
    length = _count_texts(points, _classes(), start, end, place, buckets, chars, bucket, weight)
    row = np.repeat(np.arange(len(texts)), length)
    at = place[row] + np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    return length, bucket[at], weight[at]


@compiled()
def _class(point: Any, classes: Array) -> Any:
    if point < 65_536:
        return classes[point]
    return IDEOGRAPH if 0x20000 <= point < 0x40000 else WORD


@compiled()
def _bucket(hashed: Any, buckets: int) -> Any:
    mixed = (hashed ^ (hashed >> _SHIFT)) * _MIX
    return np.int64((mixed ^ (mixed >> _SHIFT)) % np.uint64(buckets))


@compiled()
def _emit(
    points: Array,
    classes: Array,
    start: int,
    end: int,
    buckets: int,
    chars: float,
    bucket: Array,
    weight: Array,
    token: Array,
    span: Array,
) -> tuple[int, int]:
    """Write bucket, weight and token number of every feature of one text; return their counts."""
    n, n_tokens = 0, 0
    before = np.uint64(0)  # hash of the word before, 0 = none
    i = start
    while i < end:
        kind = _class(points[i], classes)
        if kind == NONE:
            i += 1
            continue
        j = i + 1
        while kind == WORD and j < end and _class(points[j], classes) == WORD:
            j += 1
        hashed = _BASIS
        for p in range(i, j):
            hashed = (hashed ^ np.uint64(points[p])) * _PRIME
        bucket[n], weight[n], token[n] = _bucket(hashed, buckets), 1.0, n_tokens
        n += 1
        adjacent = kind == WORD or (i > start and _class(points[i - 1], classes) == IDEOGRAPH)
        if before != 0 and adjacent:
            pair = (before * _PRIME) ^ hashed
            bucket[n], weight[n], token[n] = _bucket(pair, buckets), 1.0, n_tokens
            n += 1
        if kind == WORD and chars > 0:
            for first in range(i - 1, j - 1):  # i-1 and j stand for the edges of the word
                gram = _BASIS ^ _GRAM
                for p in range(first, min(first + 5, j + 1)):
                    inside = i <= p < j
                    gram = (gram ^ (np.uint64(points[p]) if inside else _EDGE)) * _PRIME
                    size = p - first + 1
                    if size >= 3 and size < j - i + 2:
                        bucket[n], weight[n], token[n] = _bucket(gram, buckets), chars, n_tokens
                        n += 1
        span[n_tokens, 0], span[n_tokens, 1] = i, j
        n_tokens += 1
        before = hashed
        i = j
    return n, n_tokens


@compiled(parallel=True)
def _count_texts(
    points: Array,
    classes: Array,
    start: Ids,
    end: Ids,
    place: Ids,
    buckets: int,
    chars: float,
    bucket: Array,
    weight: Array,
) -> Ids:
    """Write the distinct buckets of each text, sorted, from its place on; return their numbers."""
    length = np.zeros(len(start), np.int64)
    for t in prange(len(start)):
        size = end[t] - start[t]
        room = 8 * size + 8
        token = np.empty(room, np.int32)
        span = np.empty((size, 2), np.int32)
        at = place[t]
        b, w = bucket[at : at + room], weight[at : at + room]
        n, _ = _emit(points, classes, start[t], end[t], buckets, chars, b, w, token, span)
        order = np.argsort(b[:n])
        sorted_b, sorted_w = b[:n][order], w[:n][order]
        k, i = 0, 0
        while i < n:
            j, total = i, 0.0
            while j < n and sorted_b[j] == sorted_b[i]:
                total += sorted_w[j]
                j += 1
            b[k], w[k] = sorted_b[i], total / (j - i) * (1 + np.log(j - i))
            k += 1
            i = j
        length[t] = k
    return length


@compiled(parallel=True, fastmath=True)
def _project(indptr: Ids, indices: Ids, data: Floats, basis: Floats, out: Floats) -> None:
    for row in prange(len(out)):
        for at in range(indptr[row], indptr[row + 1]):
            value, b = data[at], indices[at]
            if value != 0:
                for d in range(basis.shape[1]):
                    out[row, d] += value * basis[b, d]


def _weighted(counts: csr_array, idf: Floats, bucket: Ids) -> csr_array:
    """(n, m) rows of tf·idf, each of length 1; the columns are these buckets (m,)."""
    n = counts.shape[0]
    data = counts.data * idf[counts.indices]
    row = np.repeat(np.arange(n), np.diff(counts.indptr))
    norm = np.sqrt(np.bincount(row, data**2, n)).astype(np.float32)
    column = np.searchsorted(bucket, counts.indices)
    return csr_array((data / norm[row], column, counts.indptr), shape=(n, len(bucket)))


def _right_singular(a: csr_array, dim: int, seed: int, passes: int = 2) -> Floats:
    """(m, d) the first right singular vectors of a (n, m), d ≤ dim; Halko et al. 2011.

    Powers of a·aᵀ are taken on the side of the n texts, so that only there is anything
    made orthogonal.
    """
    n, m = a.shape
    if min(n, m) == 0:
        return np.zeros((m, dim), np.float32)
    transposed = csr_array(a.T)
    width = min(dim + 16, n, m)
    start = np.random.default_rng(seed).standard_normal((m, width)).astype(np.float32)
    q = np.linalg.qr(_times(a, start))[0]
    for _ in range(passes):
        q = np.linalg.qr(_times(a, _times(transposed, q)))[0]
    image = _times(transposed, q)  # (m, width)
    value, vector = np.linalg.eigh((image.T @ image).astype(np.float64))
    strong = np.flatnonzero(value > 1e-6 * value[-1])[::-1][:dim]
    basis: Floats = image @ (vector[:, strong] / np.sqrt(value[strong])).astype(np.float32)
    return basis


def _times(a: csr_array, b: Floats) -> Floats:
    """a @ b over all threads."""
    out = np.zeros((a.shape[0], b.shape[1]), np.float32)
    _project(*structure(a), np.asarray(a.data, np.float32), np.ascontiguousarray(b), out)
    return out
