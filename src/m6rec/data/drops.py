"""What cleaning dropped, step by step: counts, reasons and samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m6rec.errors import DataError

SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One reason why rows were dropped. samples: a few of them, as column → value."""

    step: str
    table: str
    reason: str
    count: int
    samples: tuple[dict[str, Any], ...] = ()


class Drops:
    """Collects drops and notes in the order in which they happen.

    strict: a bad row (malformed, missing, impossible) raises DataError instead.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.entries: list[Drop] = []
        self.notes: list[str] = []
        self.read: dict[str, int] = {}  # rows read of each table
        self.kept = 0  # events that remain

    def bad(
        self, step: str, table: str, reason: str, count: int, samples: Sequence[dict[str, Any]]
    ) -> None:
        """Report rows that cannot be used."""
        if count and self.strict:
            row = samples[0].get("row", "?") if samples else "?"
            raise DataError(
                f"{table}, row {row}: {reason} ({count} such rows); mend it, or set strict = false"
            )
        self.add(step, table, reason, count, samples)

    def add(
        self,
        step: str,
        table: str,
        reason: str,
        count: int,
        samples: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Report rows that are left out by choice; nothing is recorded for a count of 0."""
        if count:
            few = tuple(samples[:SAMPLES])
            self.entries.append(
                Drop(step=step, table=table, reason=reason, count=int(count), samples=few)
            )

    def note(self, text: str) -> None:
        """Record a decision that the user should know of; once."""
        if text not in self.notes:
            self.notes.append(text)

    def count(self, step: str | None = None) -> int:
        """Return the number of rows dropped, in all or by one step."""
        return sum(drop.count for drop in self.entries if step in (None, drop.step))

    def rows(self) -> list[tuple[str, str, str, int, str]]:
        """Return (step, table, reason, count, first sample) rows for a printed table."""
        return [
            (d.step, d.table, d.reason, d.count, _line(d.samples[0]) if d.samples else "")
            for d in self.entries
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as plain data."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": [asdict(drop) for drop in self.entries],
            "notes": self.notes,
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1, default=str)
        path.write_text(text + "\n", encoding="utf-8")


def _line(sample: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sample.items())
