"""Text encoders: hashed words, a pretrained network of sentences, or both; chosen by name."""

from __future__ import annotations

from typing import Literal

from m6rec.text.base import FittedText, TextEncoder
from m6rec.text.both import BothEncoder, BothText
from m6rec.text.hashed import HashedEncoder, HashedText
from m6rec.text.sentence import PACKAGE, SentenceEncoder, SentenceText, installed

Choice = Literal["auto", "hashed", "sentence", "both"]
Name = Literal["hashed", "sentence", "both"]
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
    """Return the recipe of an encoder. dim: length of its vectors; None = 128 hashed, 512 of the
    network; of both it is that of the network."""
    if name == "hashed":
        return HashedEncoder(dim=dim or HASHED_DIM)
    meaning = SentenceEncoder(dim=dim)
    return meaning if name == "sentence" else BothEncoder(meaning=meaning)


__all__ = [
    "PACKAGE",
    "BothEncoder",
    "BothText",
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
