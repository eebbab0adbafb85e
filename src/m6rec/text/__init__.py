"""Text encoders: hashed words, or a pretrained network of sentences; chosen by name."""

from __future__ import annotations

from typing import Literal

from m6rec.text.base import FittedText, TextEncoder
from m6rec.text.hashed import HashedEncoder, HashedText
from m6rec.text.sentence import PACKAGE, SentenceEncoder, SentenceText, installed

Choice = Literal["auto", "hashed", "sentence"]
Name = Literal["hashed", "sentence"]
HASHED_DIM = 128


def resolve(choice: Choice) -> Name:
    """Return the encoder that a choice means here: "auto" is "sentence" where that is installed."""
    if choice == "auto":
        return "sentence" if installed() else "hashed"
    return choice


def plain(choice: Choice) -> Name:
    """Return the choice with "auto" as "hashed", as in runs older than the choice."""
    return "hashed" if choice == "auto" else choice


def encoder_of(name: Name, dim: int | None = None) -> TextEncoder:
    """Return the recipe of an encoder. dim: length of its vectors; None = 128 hashed, else 512."""
    return HashedEncoder(dim=dim or HASHED_DIM) if name == "hashed" else SentenceEncoder(dim=dim)


__all__ = [
    "PACKAGE",
    "Choice",
    "FittedText",
    "HashedEncoder",
    "HashedText",
    "Name",
    "SentenceEncoder",
    "SentenceText",
    "TextEncoder",
    "encoder_of",
    "installed",
    "plain",
    "resolve",
]
