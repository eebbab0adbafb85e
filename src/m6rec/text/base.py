"""What models ask of any text encoder: a recipe, and what it is once fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from m6rec.arrays import Floats, State
from m6rec.tracking import Run


class FittedText(Protocol):
    """A fitted text encoder: what models and explanations ask of any of them."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 vectors of length 1; zeros where nothing in a text is known."""

    def sums(self, texts: Sequence[str]) -> Floats:
        """Return (n, dim) float32 sums of the parts; the longer, the more was understood."""

    def least(self, texts: Sequence[str], rng: np.random.Generator) -> float:
        """Return the length of a sum from which on a text is understood, judged by these."""

    def parts(self, text: str) -> list[tuple[str, Floats]]:
        """Return each word with its (dim,) share; the shares add up to the vector in direction."""

    def state(self) -> State:
        """Return all fitted arrays; ``restore`` of the recipe makes an equal encoder of them."""


class TextEncoder(Protocol):
    """The recipe of a text encoder."""

    def fit_encode(self, texts: Sequence[str], run: Run) -> tuple[FittedText, Floats]:
        """Fit on texts; return the encoder and their (n, dim) vectors, as ``encode`` gives."""

    def restore(self, state: State) -> FittedText:
        """Return the encoder whose ``state()`` this was."""
