"""What items are called: each is found by its key, by its key without domain, or by its title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from m6rec.data.vocab import Vocab
from m6rec.errors import QueryError, suggestion

Codes = Mapping[str, list[int]]


@dataclass(frozen=True, eq=False)
class Names:
    """bare: key without its domain → codes. titles: case-folded title → codes."""

    items: Vocab
    bare: Codes
    titles: Codes

    @classmethod
    def of(cls, items: Vocab, titles: pl.Series, first: int = 0) -> Self:
        """Return the names of the items from code ``first`` on."""
        bare: dict[str, list[int]] = {}
        folded: dict[str, list[int]] = {}
        rows = zip(items.keys[first:], titles[first:], strict=True)
        for code, (key, title) in enumerate(rows, start=first):
            bare.setdefault(key.partition("/")[2], []).append(code)
            folded.setdefault(title.casefold().strip(), []).append(code)
        bare.pop("", None)
        folded.pop("", None)
        return cls(items, bare, folded)

    def extended(self, items: Vocab, titles: pl.Series) -> Self:
        """Return one that also knows the items at the end of a longer vocabulary."""
        new = self.of(items, titles, len(self.items))
        return type(self)(items, _joined(self.bare, new.bare), _joined(self.titles, new.titles))

    def find(self, name: str) -> list[int]:
        """Return the codes of what has this key; else this key without domain; else this title,
        in whatever case."""
        if name in self.items:
            return [self.items.code(name)]
        return self.bare.get(name.strip()) or self.titles.get(name.casefold().strip(), [])

    def code(self, name: str) -> int:
        """Return the code of the one item of this name; QueryError where there is none."""
        found = self.find(name)
        if len(found) == 1:
            return found[0]
        if found:
            keys = ", ".join(self.items.decode(np.array(found)))
            raise QueryError(f'"{name}" is the key or title of several items; say which: {keys}')
        near = suggestion(name, self.bare) or suggestion(name.casefold().strip(), self.titles)
        raise QueryError(f'no item has the key or title "{name}"{near}')


def _joined(known: Codes, new: Codes) -> Codes:
    return {**known, **{name: [*known.get(name, ()), *codes] for name, codes in new.items()}}
