"""Which entities a text speaks of: the alias table, and the clauses in which each is named."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from m6rec import config
from m6rec.errors import ConfigError, DataError

TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
# A sentence ends at these; a full stop ends it only before a space and no abbreviation.
SENTENCE = re.compile(
    r"(?<=[。！？；!?;])\s*|\n+|(?<!\b[A-Z])(?<!\bInc)(?<!\bCorp)(?<!\bLtd)(?<!\bCo)(?<!\bvs)"
    r"(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bNo)(?<!\bSt)(?<=\.)\s+(?=[\"'“(]?[A-Z0-9$\u3400-\u9fff])"
)
CLAUSE = re.compile(
    r"\s*[,;，；:]\s*(?:(?:but|while|whereas|although|though|as|and|yet)\s+)?|"
    r"\s+(?:but|while|whereas|although|though)\s+|(?=而|但|却)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Mention:
    """An entity named in a text, from character ``start`` to ``end``, as ``alias``."""

    entity: str
    alias: str
    start: int
    end: int


class _Alias(NamedTuple):
    """An alias as tokens. written: as they must be written, where case counts. cashtag: whether a
    $ must stand before it. of: the entities that it may mean."""

    folded: tuple[str, ...]
    written: tuple[str, ...] | None
    cashtag: bool
    of: tuple[str, ...]


class Entities:
    """aliases: alias → the entities that it may mean. More than one is ambiguous: no mention is
    made of it, unless another alias in the text says which one is meant.

    Of an alias in capitals of up to 6 letters (a ticker), case counts; one that is written with a
    $ needs it. $AAPL in a text is AAPL as well.
    """

    def __init__(self, aliases: Mapping[str, Sequence[str]]) -> None:
        self.names = sorted({entity for of in aliases.values() for entity in of})
        self.aliases: dict[str, list[str]] = {name: [name] for name in self.names}
        for alias, of in aliases.items():
            for entity in of:
                if alias != entity:
                    self.aliases[entity].append(alias)
        known: dict[tuple[Any, ...], list[str]] = {}
        for alias, of in aliases.items():
            tokens = tuple(TOKEN.findall(alias))
            if not tokens:
                raise DataError(f"alias {alias!r}: has no letter or digit")
            folded = tuple(token.casefold() for token in tokens)
            key = folded, tokens if _cased(alias) else None, alias.startswith("$")
            known.setdefault(key, []).extend(each for each in of)
        listed = [
            _Alias(key[0], key[1], key[2], tuple(dict.fromkeys(of))) for key, of in known.items()
        ]
        self.ambiguous = {
            " ".join(alias.written or alias.folded): alias.of
            for alias in listed if len(alias.of) > 1
        }  # fmt: skip
        self._by_first: dict[str, list[_Alias]] = {}
        for alias_ in sorted(listed, key=lambda each: -len(each.folded)):
            self._by_first.setdefault(alias_.folded[0], []).append(alias_)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, path: str | Path) -> Entities:
        """Read a table: CSV with the columns entity and alias, or TOML with
        ``[entities]`` and ``"Apple Inc" = ["Apple", "AAPL", "苹果公司"]``. An entity's name is an
        alias too."""
        path = Path(path)
        rows = _toml(path) if path.suffix == ".toml" else _csv(path)
        aliases: dict[str, list[str]] = {}
        for entity, alias in rows:
            for each in (alias, entity):
                of = aliases.setdefault(each, [])
                if entity not in of:
                    of.append(entity)
        if not aliases:
            raise DataError(f"{path}: names no entity")
        return cls(aliases)

    def mentions(self, text: str) -> list[Mention]:
        """Return mentions in their order: at each place the longest alias, of whole words; Chinese
        is found inside a run of characters."""
        spans = [found.span() for found in TOKEN.finditer(text)]
        written = [text[a:b] for a, b in spans]
        folded = [token.casefold() for token in written]
        kept: list[tuple[int, int, tuple[str, ...]]] = []
        place = 0
        while place < len(spans):
            size = 1
            for alias in self._by_first.get(folded[place], ()):
                end = place + len(alias.folded)
                if (
                    tuple(folded[place:end]) == alias.folded
                    and (alias.written is None or tuple(written[place:end]) == alias.written)
                    and (not alias.cashtag or text[: spans[place][0]].endswith("$"))
                ):
                    size = len(alias.folded)
                    kept.append((spans[place][0], spans[end - 1][1], alias.of))
                    break
            place += size
        sure = {of[0] for *_, of in kept if len(of) == 1}
        mentions = []
        for start, stop, of in kept:
            meant = of if len(of) == 1 else tuple(each for each in of if each in sure)
            if len(meant) == 1:
                mentions.append(Mention(meant[0], text[start:stop], start, stop))
        return mentions

    def passages(self, title: str, text: str) -> dict[str, str]:
        """Return entity → what is said of it: the sentences that name it, and those that follow
        without naming another; of a sentence that names several, the clauses of each.

        Of a document about one entity, that is all of it.
        """
        parts = [part for part in (title, *SENTENCE.split(text)) if part and part.strip()]
        named = [list(dict.fromkeys(m.entity for m in self.mentions(part))) for part in parts]
        everyone = list(dict.fromkeys(entity for of in named for entity in of))
        if len(everyone) <= 1:
            return dict.fromkeys(everyone, "\n".join(part.strip() for part in parts))
        found: dict[str, list[str]] = {entity: [] for entity in everyone}
        last: list[str] = []
        for part, of in zip(parts, named, strict=True):
            last = of or last
            if len(of) > 1:
                for entity, clause in self._clauses(part, of).items():
                    found[entity].append(clause)
            else:
                for entity in last:
                    found[entity].append(part.strip())
        return {entity: "\n".join(said) for entity, said in found.items() if said}

    def _clauses(self, sentence: str, of: Sequence[str]) -> dict[str, str]:
        """The clauses of each entity in a sentence that names several; a clause that names none
        belongs to the one before it."""
        found: dict[str, list[str]] = {entity: [] for entity in of}
        last: list[str] = []
        waiting: list[str] = []
        for clause in (each for each in CLAUSE.split(sentence) if each and each.strip()):
            named = list(dict.fromkeys(m.entity for m in self.mentions(clause)))
            last = named or last
            if not last:
                waiting.append(clause.strip())
            for entity in last:
                if entity in found:
                    found[entity] += [*waiting, clause.strip()]
            if last:
                waiting = []
        whole = sentence.strip()
        return {entity: ", ".join(said) or whole for entity, said in found.items()}


def _cased(alias: str) -> bool:
    """Whether an alias counts only as it is written: a ticker, or a name that is all capitals."""
    return alias.isascii() and alias.upper() == alias and len(alias.lstrip("$")) <= 6


def _csv(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not rows or [name.strip().lower() for name in rows[0][:2]] != ["entity", "alias"]:
        raise DataError(f'{path}, row 1: the columns must be "entity,alias"')
    found = []
    for place, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < 2 or not row[0].strip() or not row[1].strip():
            raise DataError(f"{path}, row {place}: needs an entity and an alias")
        found.append((row[0].strip(), row[1].strip()))
    return found


def _toml(path: Path) -> list[tuple[str, str]]:
    table = config.read_toml(path).get("entities")
    if not isinstance(table, Mapping):
        raise ConfigError(f"{path}: needs a table [entities]")
    found = []
    for entity, aliases in table.items():
        if isinstance(aliases, str) or not isinstance(aliases, Sequence):
            raise ConfigError(f'{path}: entities."{entity}" must be a list of aliases')
        for alias in (entity, *aliases):
            if not isinstance(alias, str) or not alias.strip():
                raise ConfigError(f'{path}: entities."{entity}": {alias!r} is no alias')
            found.append((entity, alias.strip()))
    return found
