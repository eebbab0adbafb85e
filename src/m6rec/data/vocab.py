"""Vocabularies: external string keys ↔ integer codes. Keys end here; inside are only codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from m6rec.arrays import Ids


class Vocab:
    """Distinct string keys in a fixed order; the code of a key is its position.

    Parameters: keys, a polars Series or sequence of distinct strings.
    """

    def __init__(self, keys: pl.Series | Sequence[str]) -> None:
        series = keys if isinstance(keys, pl.Series) else pl.Series("key", list(keys), pl.String)
        self.keys: pl.Series = series.cast(pl.String).rename("key")  # (n,)

    @classmethod
    def numbered(cls, n: int) -> Vocab:
        """Return the keys "0" … "n-1", for data whose ids are already codes."""
        return cls(pl.int_range(n, eager=True).cast(pl.String))

    def extended(self, keys: pl.Series) -> Vocab:
        """Return the vocabulary with further keys at its end; it knows none of them yet."""
        longer = Vocab(pl.concat([self.keys, keys.cast(pl.String).rename("key")], rechunk=True))
        new = dict(zip(keys.to_list(), range(len(self), len(longer)), strict=True))
        vars(longer)["_codes"] = self._codes | new  # which would be made of all keys
        return longer

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: str) -> bool:
        return key in self._codes

    def key(self, code: int) -> str:
        """Return the key of one code."""
        return self._names[code]

    def decode(self, codes: Ids) -> list[str]:
        """Return the keys of known codes."""
        names = self._names
        return [names[code] for code in np.asarray(codes).tolist()]

    def code(self, key: str) -> int:
        """Return the code of one key, -1 where it is unknown."""
        return self._codes.get(key, -1)

    def encode(self, keys: Iterable[str]) -> Ids:
        """Return the codes (n,) int32 of keys, -1 where unknown."""
        return np.fromiter((self._codes.get(key, -1) for key in keys), dtype=np.int32)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {key: code for code, key in enumerate(self.keys.to_list())}

    @cached_property
    def _names(self) -> list[str]:
        return list(self._codes)  # the same strings once more
