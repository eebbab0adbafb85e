"""Meaning and spelling side by side: the pretrained network's vector and that of hashed words.

A network takes near synonyms for one and knows no product names; hashed words are the opposite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from m6rec.arrays import Floats, State, nest, unnest
from m6rec.text.hashed import HashedEncoder, HashedText
from m6rec.text.sentence import SentenceEncoder, SentenceText
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class BothEncoder:
    """Both vectors of a text, one after the other, so that a dot product is a weighted mean.

    spelling: share of the hashed words in it.
    """

    meaning: SentenceEncoder = field(default_factory=SentenceEncoder)
    words: HashedEncoder = field(default_factory=lambda: HashedEncoder(dim=384, chars=1.0))
    spelling: float = 1 / 3

    def fit_encode(self, texts: Sequence[str], run: Run) -> tuple[BothText, Floats]:
        """Fit both on texts; return the encoder and their vectors."""
        meaning, first = self.meaning.fit_encode(texts, run)
        words, second = self.words.fit_encode(texts, run)
        encoder = BothText(self, meaning, words)
        return encoder, encoder.joined(first, second)

    def restore(self, state: State) -> BothText:
        """Return the encoder whose ``state()`` this was."""
        meaning = self.meaning.restore(unnest("meaning", state))
        return BothText(self, meaning, self.words.restore(unnest("words", state)))


class BothText:
    """Two fitted encoders."""

    def __init__(self, recipe: BothEncoder, meaning: SentenceText, words: HashedText) -> None:
        self.recipe, self.meaning, self.words = recipe, meaning, words

    @property
    def dim(self) -> int:
        return self.meaning.dim + self.words.dim

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 vectors of length 1; zeros where nothing in a text is known."""
        return self.joined(self.meaning.encode(texts), self.words.encode(texts))

    def sums(self, texts: Sequence[str]) -> Floats:
        """Return the vectors, as the network cannot say how much of a text it understood."""
        return self.encode(texts)

    def least(self, texts: Sequence[str], rng: np.random.Generator) -> float:
        """Return 0: every text with a word counts as understood."""
        return 0.0

    def parts(self, text: str) -> list[tuple[str, Floats]]:
        """Return the words as each encoder tells their shares; all add up to the vector."""
        a, b = self._scales()
        meaning = [
            (word, np.r_[share * a, np.zeros(self.words.dim, np.float32)])
            for word, share in self.meaning.parts(text)
        ]
        shares = self.words.parts(text)
        length = float(np.linalg.norm(np.sum([share for _, share in shares], axis=0)))
        scale = b / length if length > 0 else 0.0
        nothing = np.zeros(self.meaning.dim, np.float32)
        return meaning + [(word, np.r_[nothing, share * scale]) for word, share in shares]

    def state(self) -> State:
        """Return the fitted arrays of both."""
        return nest("meaning", self.meaning.state()) | nest("words", self.words.state())

    def joined(self, meaning: Floats, words: Floats) -> Floats:
        """Return (n, dim) of the vectors by each encoder, of length 1 again."""
        a, b = self._scales()
        vectors: Floats = np.hstack([meaning * a, words * b]).astype(np.float32)
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(norm > 0, norm, 1)
        return vectors

    def _scales(self) -> tuple[np.float32, np.float32]:
        share = self.recipe.spelling
        return np.float32(np.sqrt(1 - share)), np.float32(np.sqrt(share))
