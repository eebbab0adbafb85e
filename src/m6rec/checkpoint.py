"""What a training that was killed goes on from: arrays in a file of the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from m6rec import __version__
from m6rec.arrays import Array, State, nest, unnest
from m6rec.cache import cache_dir, forget
from m6rec.tracking import Run

EVERY = 60.0  # least seconds between two writes
STALE = 7 * 86_400  # seconds for which the file of a training that was killed is kept


class Checkpoint:
    """The arrays of one training, in a file named by a hash of all that decides its result.

    Written whole or not at all, at most once in ``EVERY`` seconds; a file that cannot be read or
    written is none.
    """

    def __init__(self, run: Run, about: Any, *arrays: Array) -> None:
        """about: plain data, such as the table of the recipe. arrays: what it is fitted on."""
        name = hash_of([__version__, run.seed, run.scope, about], *arrays)
        self.file = cache_dir() / "checkpoints" / f"{name}.safetensors"
        self.held, self.written = run.checkpoints, time.monotonic()
        forget(self.file.parent, STALE)
        self.state: State = {}
        with suppress(OSError, SafetensorError, ValueError):
            self.state = load_file(self.file)

    def keep(self, state: State) -> None:
        """Take these arrays in, and write the file if it is time."""
        self.state |= state
        if time.monotonic() - self.written >= EVERY:
            self.write()

    def write(self) -> None:
        part = self.file.with_name(f"{self.file.name}-{os.getpid()}.part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_file({n: np.ascontiguousarray(a) for n, a in self.state.items()}, part)
            part.replace(self.file)
        except (OSError, SafetensorError):
            remove([part])
        self.written = time.monotonic()

    def done(self) -> None:
        """Remove the file; where it is part of a longer command, leave that to its end."""
        if self.held is None:
            remove([self.file])
        else:
            self.held.append(self.file)


def hash_of(about: Any, *arrays: Array) -> str:
    """Return a hash of plain data and of arrays, their dtypes and shapes among it."""
    digest = hashlib.sha256(json.dumps(about, default=str).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def remove(files: Iterable[Path]) -> None:
    """Remove the files that are there and can be removed."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Saved:
    """A part of a checkpoint; without one, a training that is too short to be kept."""

    checkpoint: Checkpoint | None = None
    name: str = ""

    def part(self, name: str) -> Saved:
        return Saved(self.checkpoint, f"{self.name}/{name}")

    def read(self) -> State:
        """Return the arrays as of the last write; none where it has not begun."""
        return {} if self.checkpoint is None else unnest(self.name, self.checkpoint.state)

    def write(self, state: Mapping[str, Array]) -> None:
        """Keep the arrays in place of those before; none of them may change later."""
        if self.checkpoint is not None:
            self.checkpoint.keep(nest(self.name, state))


NOWHERE = Saved()
