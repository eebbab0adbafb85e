"""One training or evaluation run: seed streams, threads, progress bars, log and scalars."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from m6rec.cores import cores
from m6rec.pool import HERE, Pool
from m6rec.trackers import Tracker

LINES = 30  # seconds between two lines of a stage where stderr is no terminal


@dataclass(frozen=True)
class Run:
    """What a fit needs to know besides data: randomness, threads, and where to report.

    seed: root of every random stream; ``rng("pct")`` gives an independent, named stream.
    threads: threads for kernels and BLAS.
    bars: show progress on stderr: bars on a terminal, else a line as each stage begins.
    log_file: JSONL file that ``log`` appends to, or None.
    trackers: are given every ``scalar``; whoever opened them closes them.
    pool: where work that falls into independent pieces is done.
    checkpoints: files that are of no use once all of the command is done, whoever runs it removes
        them then; None = every fit removes its own.
    """

    seed: int = 0
    threads: int = field(default_factory=cores)
    bars: bool = False
    log_file: Path | None = None
    trackers: tuple[Tracker, ...] = ()
    pool: Pool = HERE
    checkpoints: list[Path] | None = None
    scope: str = ""
    _told: set[str] = field(default_factory=set, repr=False, compare=False)  # stages

    def rng(self, *names: str) -> np.random.Generator:
        """Return the random stream of that name; the same seed and names give the same stream."""
        words = [zlib.crc32(name.encode()) for name in (self.scope, *names)]
        return np.random.default_rng([self.seed, *words])

    def child(self, name: str) -> Run:
        """Return a run whose streams and log lines stand under ``name``."""
        return replace(self, scope=f"{self.scope}/{name}" if self.scope else name)

    def log(self, **values: Any) -> None:
        """Append one JSON line (with time and scope) to the log file."""
        if self.log_file is None:
            return
        line = {"time": round(time.time(), 3), "scope": self.scope, **values}
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, default=float) + "\n")

    def scalar(self, name: str, value: float, step: int) -> None:
        """Record a value at a step, such as a loss, under the scope: in the log, where a value
        that is not finite is null, and in every tracker."""
        value = float(value)
        self.log(scalar=name, value=value if math.isfinite(value) else None, step=step)
        for tracker in self.trackers:
            tracker.scalar(f"{self.scope}/{name}" if self.scope else name, value, step)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar of ``total`` steps, or one line; yields ``advance(n)``."""
        if not self.bars:
            yield lambda n: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        console = Console(stderr=True)
        stage = f"{self.scope.rsplit('/', 1)[-1]} {label}".strip()
        if not (console.is_terminal or console.is_jupyter):
            if stage not in self._told:
                self._told.add(stage)
                console.print(stage, markup=False, highlight=False)
            yield _lines(console, stage, total)
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(stage, total=total)
            yield lambda n: bar.advance(task, n)


def _lines(console: Any, stage: str, total: int) -> Callable[[int], None]:
    """Return what takes steps of a stage and says now and then how far it is."""
    began = told = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal told, done
        done, now = done + n, time.monotonic()
        if now - told >= LINES:
            told = now
            line = f"{stage}: {done:,} of {total:,} after {now - began:.0f} s"
            console.print(line, markup=False, highlight=False)

    return advance
