"""Vectors of many texts, in chunks that are kept on disk by the hash of what they hold.

The texts are ordered by their hash and cut where a hash says so: a new text changes one chunk.
A chunk is always encoded whole, so that a vector is the same, bit by bit, from a full and from
an empty cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from m6rec.arrays import Floats
from m6rec.cache import cache_dir, kept
from m6rec.tracking import Run

CHUNK = 512  # texts of a chunk, on average


def encode_chunks(
    texts: Sequence[str], encode: Callable[[list[str]], Floats], name: str, dim: int, run: Run
) -> Floats:
    """Return (n, dim) float32 vectors of n texts.

    encode: list of m texts → (m, dim). name: of the encoder and its version, which has its own
    folder in the cache.
    """
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    by_digest = sorted(zip(digests, texts, strict=True))
    unique = [pair for i, pair in enumerate(by_digest) if not i or by_digest[i - 1] != pair]
    place = {digest: i for i, (digest, _) in enumerate(unique)}
    starts = [i for i, (digest, _) in enumerate(unique) if _first(digest)]
    vectors = np.zeros((len(unique), dim), np.float32)
    with run.progress("texts", len(unique)) as advance:
        for a, b in pairwise(sorted({0, *starts, len(unique)})):
            chunk = [text for _, text in unique[a:b]]
            key = hashlib.sha256(b"".join(digest for digest, _ in unique[a:b])).hexdigest()
            file = cache_dir() / "text" / name / key[:2] / key
            vectors[a:b] = kept(file, (b - a, dim), lambda chunk=chunk: encode(chunk))  # type: ignore[misc]
            advance(b - a)
    return vectors[[place[digest] for digest in digests]]


def _first(digest: bytes) -> bool:
    """Whether a chunk begins with the text of this hash."""
    return int.from_bytes(digest[-4:]) % CHUNK == 0
