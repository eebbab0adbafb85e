"""A preset: what a line of business is like, as TOML whose sections are merged with a draft."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from m6rec.data.columns import simple


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What `m6rec init` reads of a scenario.

    about: one line. event: type of a log that names none. same: any name of a type → the name
    here. values: column → weight of one unit of it. people: columns that name another person.
    unlearned: types that are left out. sections: the text of each table of the TOML, with its
    comments; "[[a.b]]" stand with "a".
    Names of columns and of types are compared by ``columns.simple``.
    """

    name: str
    about: str
    event: str
    same: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    people: tuple[str, ...] = ()
    unlearned: tuple[str, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, text: str) -> Preset:
        """Read a preset from its TOML."""
        table = tomllib.loads(text)
        init = table["init"]
        same = {simple(kind): kind for kind in table["data"]["events"]}
        for kind, others in init.get("same", {}).items():
            same |= {simple(other): kind for other in others}
        return cls(
            name=name,
            about=init["about"],
            event=init["event"],
            same=same,
            values=init.get("values", {}),
            people=tuple(init.get("people", {}).get("columns", ())),
            unlearned=tuple(init.get("unlearned", {}).get("types", ())),
            sections=_sections(text),
        )

    def value_column(self, names: Sequence[str]) -> str | None:
        """Return the column that says how much, if one does; the first that the preset lists."""
        known = {simple(name): name for name in reversed(names)}
        return next((known[word] for word in self.values if word in known), None)

    def person_column(self, names: Sequence[str]) -> str | None:
        """Return the column that names another person, if one does."""
        known = {simple(name): name for name in reversed(names)}
        return next((known[word] for word in self.people if word in known), None)

    def kind(self, name: str) -> str | None:
        """Return the type of the preset that a log calls so."""
        return self.same.get(simple(name))

    def event_lines(self, kind: str, unit: str | None = None) -> list[str]:
        """Return the lines of an event type; unit: the value column, where there is one."""
        section = self.sections[f"data.events.{kind}"]
        lines = section.splitlines()[1:]
        factor = 1.0 if unit is None else self.values.get(simple(unit), 1.0)
        if factor != 1 and kind == self.event:
            weight = factor * tomllib.loads(section)["data"]["events"][kind].get("weight", 1.0)
            lines = [line for line in lines if not line.startswith("weight")]
            lines.insert(0, f"weight = {weight:.4g}  # of one unit of {unit}")
        return lines


def _sections(text: str) -> dict[str, str]:
    """Name of each table → its text; lists of tables stand with the first part of their name."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        header = re.match(r"\[(\[?)([\w.\-]+)\]", line)
        if header:
            name = header[2].split(".")[0] if header[1] else header[2]
            current = found.setdefault(name, [])
            while current and not current[-1]:
                current.pop()
            if current:
                current.append("")
        current.append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}
