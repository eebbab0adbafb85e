"""The frames of the opinion monitor: their columns and types. Times are unix seconds."""

from __future__ import annotations

from typing import Any

import polars as pl

DOCUMENT: dict[str, Any] = {
    "document": pl.String, "time": pl.Int64, "source": pl.String, "title": pl.String,
    "text": pl.String, "language": pl.String, "url": pl.String,
}  # fmt: skip
# sentiment: P(positive) − P(negative). confidence: of the likeliest class. spread: the document
# and its copies.
READING: dict[str, Any] = {
    "document": pl.String, "entity": pl.String, "time": pl.Int64, "source": pl.String,
    "sentiment": pl.Float64, "confidence": pl.Float64, "spread": pl.Int64,
}  # fmt: skip
PRICE: dict[str, Any] = {
    "entity": pl.String, "time": pl.Int64, "close": pl.Float64, "volume": pl.Float64,
}  # fmt: skip
# entity: "" = the document as a whole. sentiment: one of SENTIMENTS.
LABEL: dict[str, Any] = {"document": pl.String, "entity": pl.String, "sentiment": pl.String}
SENTIMENTS = ("negative", "neutral", "positive")
LAST = 253_402_300_799  # the last second of the year 9999
